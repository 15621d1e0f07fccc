"""A checkpoint's weights one at a time: from its safetensors, or, of an adapter, as they are once it is merged.

Mental model. Two checkpoints of eight billion weights do not fit beside each other, but any two of their tensors do. So a
checkpoint is opened (its headers are read) and asked for a tensor by its plain name. What an adapter does to a weight is asked of
PEFT, which knows the scales of LoRA and rsLoRA and the norms of DoRA: the adapter is merged into its base in memory, and the
weight that comes out is the effective one. Matrices are out × in: those of GPT-2's Conv1D, which are stored the other way, are
turned. Nothing is unpickled.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.models.known import refuse_pickles
from cr_interp.models.loading import adapter_folder, here, open_model
from cr_interp.models.weights import CONSTANTS, plain
from cr_interp.system.text_files import read_json

#: Architectures whose projections are transformers' Conv1D, and the names of these.
CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}
_CONV1D = re.compile(r"\b(c_attn|q_attn|c_proj|c_fc)\.weight$")


class Tensors:
    """The weights of a checkpoint by their plain names, matrices as out × in; each is read when it is asked for."""

    def __init__(self, name: str, places: Mapping[str, Any], kind: str = "") -> None:
        self.name, self._places, self._turns = name, places, kind in CONV1D

    def __iter__(self) -> Any:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Tensor:
        place = self._places[key]
        found: Tensor = place if isinstance(place, Tensor) else place[0].get_tensor(place[1])
        return found.T if self._turns and _CONV1D.search(key) else found


def open_tensors(name: str) -> Tensors:
    """Open the weights of a folder, an adapter's folder, a built-in, or a hub id whose copy is in the cache.

    Raises :class:`UserError` for one that is not here, or that holds no safetensors.
    """
    path = here(name, "What is compared")
    if adapter_folder(path) is not None:
        return _merged(name)
    refuse_pickles(path)
    places: dict[str, Any] = {}
    for file in _files(path):
        opened = safe_open(file, framework="pt")
        places |= {plain(key): (opened, key) for key in opened.keys() if not CONSTANTS.search(key)}  # noqa: SIM118
    config = path / "config.json"
    kind = read_json(config).get("model_type", "") if config.is_file() else ""
    return Tensors(name, places, kind)


def _merged(name: str) -> Tensors:
    """Return an adapter's effective weights, by the names that its base's have."""
    model: Any = open_model(name).model
    merged = model.merge_and_unload()
    weights = {plain(key): value for key, value in merged.state_dict().items()}
    return Tensors(name, weights, merged.config.model_type)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return [folder / each for each in sorted(set(read_json(index)["weight_map"].values()))]
    raise UserError(f"{folder} holds no model.safetensors. Save the model with save_pretrained, which writes it.")
