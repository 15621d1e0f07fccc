"""Which sequences may share a forward of a model, and whether they may share the prefix's keys and values.

Mental model. What a row of a batch gives must be what its sequence gives in a forward of its own. Most decoders allow
three short cuts: rows of unequal length beside each other, pads on either side, and a prefix that is computed once.
Each rests on something that not every model has: state-space and hybrid layers keep no keys, ALiBi counts the columns
between two tokens, pads among them, and some RoPE turns keys by angles that depend on the whole length (``rope.py``).
So a model is asked once: two short sequences, with each short cut and without any (:func:`batching`). Where a short cut
is not exact it is not taken, which is right and slower, and is said once.

:func:`parts` divides a view's rows accordingly; a model that allows everything gets its view as it is.
"""

import threading
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cr_interp.errors import Slower, UserError
from cr_interp.models import rope
from cr_interp.models.layout import ViewBatch, is_right_padded
from cr_interp.models.shards import is_sharded


@dataclass(frozen=True)
class Batching:
    """The short cuts that are exact for a model."""

    prefix: bool = True
    """A prefix's keys and values can be computed once, for rows that are padded on the right."""
    left: bool = True
    """Pads may stand on the left, behind a prefix as well."""
    rows: Literal["any", "equal", "one"] = "any"
    """What may be in one batch: rows padded on the right, rows of one length, or a row alone."""
    resumes: bool = True
    """The model's own cache goes on where it stopped. Otherwise each new token needs the whole sequence again."""
    limits: tuple[rope.Boundary, ...] = ()
    """Lengths at which rotary factors change."""

    def length_class(self, length: int) -> rope.LengthClass:
        return rope.length_class(self.limits, length)

    def key(self, row: int, length: int) -> tuple[Any, ...]:
        """Return the key of a row: rows with one key may be in one forward."""
        alone = {"any": (), "equal": (length,), "one": (length, row)}[self.rows]
        return (self.length_class(length), *alone)

    @property
    def everything(self) -> bool:
        return self.prefix and self.left and self.rows == "any" and not self.limits


_KNOWN: "WeakKeyDictionary[nn.Module, Batching]" = WeakKeyDictionary()
_ALIKE: dict[Hashable, Batching] = {}
"""What models built alike were found to allow: a study loads dozens of checkpoints of one architecture."""
_SAID: set[str] = set()
_LOCK = threading.RLock()


def batching(model: nn.Module) -> Batching:
    """Find the short cuts of a model, at the first call of one that is built so. Says in a sentence what cannot be used.

    Raises :class:`UserError` for a model that does not run on token ids alone.
    """
    from cr_interp.models.forward import unwrap  # which asks this module how to run

    inner = unwrap(model)
    with _LOCK:
        if inner not in _KNOWN:
            from cr_interp.models.short_cuts import find, how_built

            built = how_built(inner)
            found = _ALIKE.get(built) or find(model)
            if found is None:  # it gives NaN, which whoever asks it next will say
                return Batching()
            _KNOWN[inner] = found
            if built is not None:
                _ALIKE[built] = found
            said = sentence(type(inner).__name__, found)
            if said and said not in _SAID:  # a study loads dozens of checkpoints of one architecture
                _SAID.add(said)
                warnings.warn(said, Slower, stacklevel=2)
        return _KNOWN[inner]


def sentence(name: str, found: Batching) -> str:
    """Say what is done otherwise for a model, and why; empty if nothing is."""
    if not found.prefix:
        rows = {
            "any": "",
            "equal": ", and only sequences of one length share a batch",
            "one": ", and every sequence is run by itself",
        }[found.rows]
        return (
            f"{name} does not keep a key and a value per token in every layer that a later token could go on from exactly "
            f"(recurrent, state-space or hybrid layers, or keys that layers share): the shared prefix is read again with "
            f"every sequence{rows}. The numbers are right, and slower."
        )
    if found.rows != "any":
        how = "by length" if found.rows == "equal" else "one by one"
        return (
            f"{name} lets pads or neighbours in a batch change a row: sequences are run {how}. Right, and slower."
        )
    if found.limits:
        lengths = ", ".join(str(b.length) for b in found.limits)
        return (
            f"{name} has rotary factors that depend on a sequence's length (beyond {lengths} tokens): longer sequences are run "
            f"whole and grouped by length. The numbers are right, and slower."
        )
    if not found.left:
        return (
            f"{name} counts distances in columns, pads among them: responses are decoded in batches of prompts of one length. "
            f"The numbers are right, and slower."
        )
    return ""


@dataclass(frozen=True)
class Part:
    """Some rows of a view, laid out so that they can be run, and where everything was in the view."""

    view: ViewBatch
    row_of: Int[Tensor, " row"]
    """The view's row that each row here is."""
    column_of: Int[Tensor, "row length"]
    """The column of the view that each token here has; those of the prefix come behind the view's last column."""
    tokens: Int[Tensor, " token"]
    """The place in the view's ``targets`` of each aligned position here."""


def parts(model: nn.Module, view: ViewBatch, whole: bool = False) -> list[Part] | None:
    """Divide the view's rows into as many forwards as exactness needs; ``None``: one, as it is. ``whole``: without the prefix.

    Raises :class:`UserError` for weights that are spread over processes, which would need equally many forwards each.
    """
    way = batching(model)
    start = len(view.prefix)
    lengths = [start + n for n in view.mask.sum(1).tolist()]
    short = all(way.length_class(length) == () for length in lengths)
    keep = way.prefix and short and not whole and start > 0
    as_it_is = way.rows == "any" and short and (keep or not start) and (way.left or is_right_padded(view.mask))
    if as_it_is:
        return None
    groups: dict[Any, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(way.key(row, length), []).append(row)
    if is_sharded(model) and not (way.rows == "any" and not way.limits):
        refuse_sharded()
    return [_part(view, rows, keep) for rows in groups.values()]


def refuse_sharded() -> NoReturn:
    raise UserError(
        "This model's sequences cannot all share a forward (their lengths or pads would change the numbers), and sharded "
        "weights (FSDP, ZeRO-3) need every process to run equally many. Use DDP, or one process."
    )


def _part(view: ViewBatch, rows: Sequence[int], keep: bool) -> Part:
    start, length = len(view.prefix), view.ids.shape[1]
    moved = 0 if keep else start
    inputs: list[Tensor] = []
    places: list[Tensor] = []
    row_in, column_in, tokens = [], [], []
    for new, row in enumerate(rows):
        own = view.mask[row].nonzero()[:, 0]
        ids = view.ids[row][own]
        before = torch.tensor([] if keep else view.prefix, dtype=ids.dtype)
        inputs.append(torch.cat([before, ids]))
        places.append(torch.cat([torch.arange(length, length + moved), own]))
        mine = (view.rows == row).nonzero()[:, 0]
        tokens.append(mine)
        row_in.append(torch.full_like(mine, new))
        column_in.append(view.columns[mine] - own[0] + moved)
    longest = max(len(each) for each in inputs)
    mask = torch.arange(longest)[None] < torch.tensor([len(each) for each in inputs])[:, None]
    # A pad is a token of the row's own: whatever it is, it is a word that the model knows.
    ids = torch.stack([torch.cat([each, each[-1:].expand(longest - len(each))]) for each in inputs])
    columns = torch.stack([torch.cat([each, each[-1:].expand(longest - len(each))]) for each in places])
    found = torch.cat(tokens)
    laid_out = ViewBatch(
        view.prefix if keep else (), ids, mask, torch.cat(row_in), torch.cat(column_in), view.targets[found]
    )
    return Part(laid_out, torch.tensor(rows), columns, found)


def in_order(
    divided: Sequence[Part], states: Sequence[Float[Tensor, "some width"]]
) -> Float[Tensor, "token width"]:
    """Put the states of all parts in the order of the view's ``targets``."""
    places = torch.cat([part.tokens for part in divided]).argsort()
    return torch.cat(list(states))[places.to(states[0].device)]
