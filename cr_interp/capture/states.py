"""Hidden states on disk, for whoever wants to look further than the panel: safetensors shards and an index.

    STATES/index.json                 what was captured, and a line for each shard
    STATES/exact-000040.safetensors   the states of one batch in one view: a tensor [token, width] per site

Written shard by shard, each atomically, so a capture that is killed keeps what it has, and the next one reads those
shards instead of running the model. :func:`open_states` maps the files into memory: only what is asked for is read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.configuration import brief
from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.files import write_atomic, write_json
from cr_interp.system.text_files import read_json
from cr_interp.system.visible import one_line

FORMAT = 1


@dataclass
class States:
    """Saved states. ``load(site, view)`` gives ``[token, width]``; ``examples(view)`` which example each row is of."""

    path: Path
    key: str
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name → view, start, examples

    def views(self) -> list[str]:
        return list(dict.fromkeys(shard["view"] for shard in self.shards.values()))

    def load(self, site: Site, view: str) -> Float[Tensor, "token width"]:
        """Load all rows of a site in a view, in the order of the examples. Raises :class:`UserError` for what is not there."""
        parts = [self._read(name, [site])[site] for name in self._of(view)]
        return torch.cat(parts)

    def examples(self, view: str) -> Int[Tensor, " token"]:
        return torch.tensor([i for name in self._of(view) for i in self.shards[name]["examples"]])

    def batch(self, view: str, start: int, sites: Iterable[Site]) -> dict[Site, Tensor] | None:
        """Return the states of one batch, or None if they are not (all) there."""
        name = _name(view, start)
        sites = list(sites)
        if name not in self.shards or not set(map(str, sites)) <= set(self.shards[name]["sites"]):
            return None
        return self._read(name, sites)

    def write(self, view: str, start: int, states: Mapping[Site, Tensor], examples: list[int]) -> None:
        """Add one batch. What an earlier pass wrote of it stays."""
        name = _name(view, start)
        tensors = {str(site): state.detach().cpu().contiguous() for site, state in states.items()}
        if name in self.shards:
            with safe_open(self.path / name, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()} | tensors  # noqa: SIM118
        write_atomic(self.path / name, lambda file: file.write(save(tensors)))
        self.shards[name] = {"view": view, "start": start, "sites": sorted(tensors), "examples": examples}
        write_json(self.path / "index.json", {"format": FORMAT, "key": self.key, "shards": self.shards})

    def _of(self, view: str) -> list[str]:
        names = [name for name, shard in self.shards.items() if shard["view"] == view]
        if not names:
            raise UserError(
                f"{self.path} has no states of the view '{view}' (it has: {', '.join(self.views())})."
            )
        return sorted(names, key=lambda name: self.shards[name]["start"])

    def _read(self, name: str, sites: list[Site]) -> dict[Site, Tensor]:
        try:
            with safe_open(self.path / name, "pt") as file:
                return {site: file.get_tensor(str(site)) for site in sites}
        except Exception as error:  # safetensors has an exception of its own
            has = ", ".join(self.shards[name]["sites"])
            raise UserError(
                f"{self.path / name} does not hold {sites} ({error}). It should hold: {has}."
            ) from error


def open_states(path: Path, key: str | None = None) -> States:
    """Open or begin a folder of states. ``key`` says of which checkpoint, responses and contexts they are.

    A folder that holds states of something else is a :class:`UserError`, never mixed into.
    """
    index = path / "index.json"
    if not index.is_file():
        if key is None:
            raise UserError(f"{path} holds no saved states: it has no index.json.")
        return States(path, key)
    try:
        found = read_json(index, "an index of saved states")
        if (version := found["format"]) == FORMAT:
            states = States(path, found["key"], _checked(path, found["shards"]))
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is damaged ({error}). Remove the folder and capture again.") from error
    if version != FORMAT:
        raise UserError(f"{path} has format {brief(version)}; this cr_interp reads {FORMAT}.")
    if key is not None and states.key != key:
        raise UserError(
            f"{path} holds states of another checkpoint, other responses or other contexts. Remove it, or give another "
            f"folder with --save-states."
        )
    return states


def _checked(path: Path, shards: Any) -> dict[str, dict[str, Any]]:
    """Return the index's shards, if they are what :meth:`States.write` writes: a name of one of the folder's files for each."""
    for name, shard in shards.items():
        if not _is_shard(shard) or name != _name(shard["view"], shard["start"]):
            raise ValueError(f"{one_line(name)[:80]} is no shard")
        inside(path, name, f"The index of {path}")
    return dict(shards)


def _is_shard(shard: Any) -> bool:
    places = [shard["start"], *shard["examples"]]
    texts = [shard["view"], *shard["sites"]]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**53 for each in places)
    return whole and all(isinstance(each, str) for each in texts) and not set("/\\") & set(shard["view"])


def _name(view: str, start: int) -> str:
    return f"{view}-{start:06d}.safetensors"
