"""Patching: put a state of one view into the other, and see whether the answer follows.

Mental model. A *receiver* runs, and at one site its states at all aligned positions are replaced by the *donor's*, another
view of the same prompt on the same answer (the one without the context). Everything else is the receiver's own.

    repair   donor: without the context    receiver: with it       is the answer without the context back?
    break    donor: with the context       receiver: without it    is that answer gone?

Two read-outs. At the first place where the two answers part, their tokens' logits have a difference: one value in the donor,
another in the receiver, a third in the patched run. The share is (patched − receiver) / (donor − receiver). It is 1 where the
patch does everything, 0 where it does nothing, and may be more or less. And whether the whole answer follows: the argmax
equals the answer at every position (``repair``), or no longer does (``break``).

Controls at the same site and positions: the receiver's own state moved as far in a random direction, and the donor's state
of another example at the same place. Nothing before the aligned positions and the patched layer changes, so a patched run
starts there (``runs.py``). What is patched at once, a site, a window of layers or a head, is a cell (``cells.py``).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.mechanism.batches import Batch, Read, Views, says_exhausted
from cr_interp.mechanism.cells import Cell, site_cells, window_cells
from cr_interp.mechanism.estimates import PLACE, estimates
from cr_interp.mechanism.given import Answers, Pair
from cr_interp.mechanism.replaced import CONTROLS, Seen, otherwise, replacements
from cr_interp.models.loading import Loaded

#: direction → (donor, receiver)
DIRECTIONS = {"repair": ("no_context", "with_context"), "break": ("with_context", "no_context")}
#: Bytes of states that are held at a time, in both views together.
HELD = 1 << 29


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``patching_examples`` and ``patching`` of one checkpoint."""
    options = given.options
    found = patch_pairs(
        given.loaded,
        given.pairs,
        patched_sites(given.loaded, options.sites),
        batch_size=options.batch_size,
        backend=options.backend,
        progress=given.progress,
    )
    return {"patching_examples": found, "patching": estimates(found)}


def window_rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``patching_windows_examples`` and ``patching_windows``: several layers at once. A width of 1 is
    there too.
    """
    cells = window_cells(given.loaded.model, given.options.sites, given.options.windows)
    if not cells:
        return {}
    found = patch_cells(
        given.loaded,
        given.pairs,
        cells,
        batch_size=given.options.batch_size,
        backend=given.options.backend,
        progress=given.progress,
    ).drop(columns="head")
    return {"patching_windows_examples": found, "patching_windows": estimates(found, [*PLACE, "width"])}


def patched_sites(loaded: Loaded, names: Sequence[str]) -> list[Site]:
    """List every layer's sites of some kinds, layer by layer; with ``resid_post`` the embedding as well, where the curve
    begins.

    Raises :class:`UserError` for a kind that the model lacks.
    """
    return [cell.site for cell in site_cells(loaded.model, names)]


def patch_pairs(
    loaded: Loaded, pairs: Sequence[Pair], sites: Sequence[Site], *args: Any, **kwargs: Any
) -> pd.DataFrame:
    """Patch single sites: :func:`patch_cells`.

    >>> import cr_interp as cr
    >>> loaded = cr.load("builtin:organism-rules")
    >>> context = cr.Context.system("write the next letter for each")
    >>> views = [cr.render(loaded.tokenizer, "abcd", each) for each in (None, context)]
    >>> without, given = (answer.ids for answer in cr.generate(loaded, views, cr.Decoding(max_new_tokens=8)))
    >>> loaded.tokenizer.decode(without), loaded.tokenizer.decode(given)      # they part at the fourth token
    ('bcda<|end|>', 'bcde<|end|>')
    >>> pair = cr.Pair("abcd", "abcd", "changed", *views, without, place=3, other=given[3])
    >>> sites = cr.residual_sites(loaded.model)
    >>> table = cr.patch_pairs(loaded, [pair], sites, directions=["repair"], controls=["none"])
    >>> table["layer"][table["answer"]].tolist()      # where the state without the context brings its answer back
    [3]
    """
    return patch_cells(loaded, pairs, [Cell(site) for site in sites], *args, **kwargs).drop(
        columns=["head", "width"]
    )


@torch.no_grad()
def patch_cells(
    loaded: Loaded,
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    directions: Sequence[str] = tuple(DIRECTIONS),
    controls: Sequence[str] = CONTROLS,
    batch_size: int = 64,
    backend: str = "hooks",
    padding: str = "right",
    progress: Callable[[int, int], None] = lambda done, total: None,
    restart: bool = True,
) -> pd.DataFrame:
    """Return a row per example, direction, cell and control.

    ``received``, ``given``, ``patched`` are the logit of the answer's token minus that of the other view's token, at the
    place where the answers part, in the receiver's run, the donor's and the patched one (NaN where they do not part).
    ``answer`` says whether the whole answer followed, ``before`` whether that was so without the patch. ``head`` is −1 where
    a cell is no head; ``layer`` is a window's first.

    Examples whose answer is not what the model itself decodes greedily are left out. ``restart=False`` runs every cell from
    the first block on. Raises :class:`UserError` if these are more than half, and for exhausted memory (with what to lower).
    """
    total, done = len(cells) * len(directions) * len(controls) * sum(len(pair.response) for pair in pairs), 0
    found: list[dict[str, Any]] = []
    with says_exhausted(batch_size):
        views = Views(loaded, pairs, padding, backend, restart)
        # All answers are looked at before anything is patched; what is one batch is not run again for that.
        alone = list(views.batches(batch_size)) if len(pairs) <= batch_size else None
        for batch in alone or ():
            next(
                by_layer(batch, cells), None
            )  # the same run says what is looked at here and gives the first states below
        looked_at = alone or views.batches(batch_size, ["no_context"])
        _check_own(loaded, [batch.usual["no_context"].whole for batch in looked_at])
        for batch in alone or views.batches(batch_size):
            usable = batch.usual["no_context"].whole
            for cell, states in by_layer(batch, cells):
                for direction in directions:
                    donor, receiver = DIRECTIONS[direction]
                    for control in controls:
                        put, has = replacements(batch, cell, states, donor, receiver, control)
                        read = batch.read(batch.runs[receiver].final(put))
                        found.append(_columns(batch, usable & has, direction, cell, control, read))
                        done += len(batch.tokens)
                        progress(done, total)
    return pd.DataFrame({name: np.concatenate([each[name] for each in found]) for name in found[0]})


def by_layer(batch: Batch, cells: Sequence[Cell], held: int = HELD) -> Iterator[tuple[Cell, Seen]]:
    """Yield every cell with its states in both views; those of a few layers are held at a time."""
    waiting = sorted(cells, key=lambda cell: cell.site.layer)
    embedding: Any = batch.loaded.model.get_input_embeddings()
    width = embedding.weight.shape[-1] * 8  # bytes of a state, in both views
    while waiting:
        mine, sites = 0, dict.fromkeys(waiting[0].sites)
        while mine < len(waiting) and len({**sites, **dict.fromkeys(waiting[mine].sites)}) <= max(
            len(sites), held // (width * batch.held)
        ):
            sites |= dict.fromkeys(waiting[mine].sites)
            mine += 1
        states = batch.states(list(sites))
        for cell in waiting[:mine]:
            yield cell, states
        waiting = waiting[mine:]


def _check_own(loaded: Loaded, whole: Sequence[Tensor]) -> None:
    own = torch.cat(list(whole))
    if int((~own).sum()) * 2 > len(own):
        raise UserError(
            f"{int((~own).sum())} of {len(own)} answers without the context are not what {loaded.name} decodes greedily. "
            f"Explaining needs greedy answers (temperature 0) of this very checkpoint: evaluate it again."
        )


def _columns(batch: Batch, kept: Tensor, direction: str, cell: Cell, control: str, read: Read) -> dict[str, Any]:
    donor, receiver = (batch.usual[view] for view in DIRECTIONS[direction])
    there = kept.nonzero()[:, 0]
    pairs = [batch.pairs[i] for i in there.tolist()]
    back, n = direction == "repair", len(pairs)
    texts = {
        "example_id": [p.example_id for p in pairs],
        "cluster": [p.cluster for p in pairs],
        "group": [p.group for p in pairs],
        "direction": [direction] * n,
        "site": [cell.site.name] * n,
    }
    return {
        **{name: np.array(values, dtype=object) for name, values in texts.items()},
        "layer": np.full(n, cell.site.layer),
        "head": np.full(n, -1 if cell.head is None else cell.head),
        "width": np.full(n, cell.width),
        "control": np.full(n, control, dtype=object),
        "received": receiver.difference[there].numpy(),
        "given": donor.difference[there].numpy(),
        "patched": read.difference[there].numpy(),
        "before": (receiver.whole[there] == back).numpy(),
        "answer": (read.whole[there] == back).numpy(),
        "other_answer": otherwise(batch, control, there),
    }
