"""Where a model runs: on the GPU if there is one, else on the CPU.

Mental model: a model is loaded into memory, and whoever runs it puts it in its place first (:func:`place`). What goes in follows
the model (``device_of`` in ``forward.py``), and what comes out is back on the CPU before it is written. With a launcher a
process has the GPU of its local rank, as ``accelerate`` counts. The Trainer moves the model that it trains itself.
"""

import os

import torch

from cr_interp.models.forward import unwrap
from cr_interp.models.loading import Loaded


def chosen_device() -> torch.device:
    """Return the device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def visible_gpus() -> list[str]:
    """List every GPU that this process sees, as ``CUDA_VISIBLE_DEVICES`` names it."""
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named else [str(i) for i in range(count)]


def place(loaded: Loaded, device: torch.device | None = None) -> Loaded:
    """Move the model to ``device`` (default: this process's). A model that ``device_map`` has spread out stays as it is."""
    if not hasattr(unwrap(loaded.model), "hf_device_map"):
        loaded.model.to(device or chosen_device())  # type: ignore[arg-type]  # the library's annotation hides torch's
    return loaded
