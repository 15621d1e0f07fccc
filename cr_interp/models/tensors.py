"""A checkpoint's weights one at a time: from its safetensors, or, of an adapter, as they are once it is merged.

Mental model. Two checkpoints of eight billion weights do not fit beside each other, but any two of their tensors do. So a
checkpoint is opened (its headers are read) and asked for a tensor by its plain name. What an adapter does to a weight is asked of
PEFT, which knows the scales of LoRA and rsLoRA and the norms of DoRA: the adapter is merged into its base in memory, and the
weight that comes out is the effective one. Nothing is unpickled.
"""

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


class Tensors:
    """The weights of a checkpoint by their plain names; each is read when it is asked for."""

    def __init__(self, name: str, places: Mapping[str, Any]) -> None:
        self.name, self._places = name, places

    def __iter__(self) -> Any:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Tensor:
        place = self._places[key]
        if isinstance(place, Tensor):
            return place
        file, stored = place
        found: Tensor = file.get_tensor(stored)
        return found


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
    return Tensors(name, places)


def _merged(name: str) -> Tensors:
    """Return an adapter's effective weights, by the names that its base's have."""
    model: Any = open_model(name).model
    return Tensors(name, {plain(key): value for key, value in model.merge_and_unload().state_dict().items()})


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return [folder / each for each in sorted(set(read_json(index)["weight_map"].values()))]
    raise UserError(f"{folder} holds no model.safetensors. Save the model with save_pretrained, which writes it.")
