"""Models whose weights are spread over processes: each holds a part of every tensor and gathers a layer to run it.

Mental model: gathering needs all processes at once, so they have to run the same layers equally often. Decoding is where
they would not: one process's responses end earlier than another's. FSDP2 makes its parts DTensors; DeepSpeed's ZeRO-3 leaves
empty tensors with a ``ds_id``, and their shape in ``ds_shape``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Tell whether each process holds a part of the weights only."""
    return is_partitioned(model) or any(isinstance(parameter, DTensor) for parameter in model.parameters())


def is_partitioned(model: nn.Module) -> bool:
    """Tell whether ZeRO-3 holds the parts."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def shape_of(parameter: Tensor) -> Sequence[int]:
    """Give the shape of the whole tensor, whatever part of it is here."""
    return getattr(parameter, "ds_shape", parameter.shape)


def whole(parameter: Tensor) -> Tensor:
    """Gather all of a tensor (FSDP2); every process has to ask for it."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def all_agree(value: bool) -> bool:
    """Tell whether a condition is true in every process."""
    tensor = torch.tensor(int(value), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
    return bool(tensor)
