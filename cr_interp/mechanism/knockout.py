"""Knockout: the with-context run without attention to a span of its context, and whether the answer without it is back.

Mental model. Patching asks where what the context says is held; knockout asks who reads it. A *span* of the context is cut
off: its attention scores are −∞ in some layers, for some *readers*.

    aligned   only the aligned positions lose it; the prompt's own tokens have read it and can pass it on
    all       every token that is not of the span loses it: nothing of it is left downstream in these layers

Read-outs are those of patching, with the cut run in place of the patched one. The share is (cut − received) / (given −
received) of the logit difference where the answers part; ``received`` is the run with the context, ``given`` the one without.
The other read-out is whether the whole answer without the context is there. Control: tokens cut off elsewhere, as many. They
are a run of tokens that both views have, drawn anew for each window. They never include the first token (where attention
sinks sit), an aligned position, or a part of the context, which would be another knockout. Where the span is longer than
that, all of it is cut; ``cut`` says how many tokens were.

With all layers and all readers nothing of the context is left but its room: the run equals the view without context whose
positions have a gap. Where attention sees distances only (RoPE) and nothing stands before the context, that is the view
without context itself; where something does (a role header), or positions are absolute (GPT-2), it is not.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cr_interp.capture import Cut, capture, model_lock
from cr_interp.capture.attention import cutting, eager
from cr_interp.capture.sites import Site, blocks
from cr_interp.errors import UserError, unknown
from cr_interp.mechanism.attending import attention_rows, columns_of, even, mass, members
from cr_interp.mechanism.batches import Batch, Views, says_exhausted
from cr_interp.mechanism.estimates import estimates
from cr_interp.mechanism.given import Answers, Pair
from cr_interp.mechanism.runs import FINAL, Restarted, States
from cr_interp.mechanism.spans import context_span
from cr_interp.models.forward import unwrap
from cr_interp.models.loading import Loaded

SPANS = ("context", "system", "turns", "splice", "template")
READERS = ("aligned", "all")
CONTROLS = ("none", "elsewhere")
PLACE = ["group", "span", "readers", "layer", "width", "control"]
#: Attention weights of a batch that are held at a time; longer contexts take smaller batches.
WEIGHTS = 1 << 27


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``knockout_examples``, ``attention`` and ``knockout`` of one checkpoint."""
    options = given.options
    found = knock_out(
        given.loaded,
        given.pairs,
        options.spans,
        options.readers,
        options.cuts,
        options.cuts_all,
        batch_size=options.batch_size,
        backend=options.backend,
        progress=given.progress,
    )
    table = estimates(found, PLACE)
    many = found.groupby(PLACE, sort=False, as_index=False)["cut"].mean()
    seen = attention(given.loaded, given.pairs, options.batch_size)
    return {"knockout_examples": found, "attention": seen, "knockout": table.merge(many, on=PLACE)}


@torch.no_grad()
def attention(loaded: Loaded, pairs: Sequence[Pair], batch_size: int = 64) -> pd.DataFrame:
    """Make rows of the table ``attention``: the mass on each span, in both views."""
    views = Views(loaded, pairs, restart=False)
    seen: dict[str, list[np.ndarray]] = {}
    evenly: dict[str, list[np.ndarray]] = {}
    size, order = bounded(loaded, pairs, batch_size), list[int]()
    with says_exhausted(size), model_lock(loaded.model), eager(loaded.model):
        for batch in views.batches(size):
            order += batch.numbers
            for view, run in batch.runs.items():
                of = members(batch.pairs, view, run.view)
                seen.setdefault(view, []).append(mass(loaded.model, run.view, views.prefixes[view], of))
                evenly.setdefault(view, []).append(even(run.view, of))
    return pd.concat(
        [
            attention_rows(
                [pairs[i] for i in order], view, np.concatenate(seen[view], axis=2), np.concatenate(evenly[view])
            )
            for view in seen
        ],
        ignore_index=True,
    )


def bounded(loaded: Loaded, pairs: Sequence[Pair], batch_size: int) -> int:
    """Bound the batch size so that one layer's attention weights fit: they grow with the square of a sequence's length."""
    longest = max(len(pair.given) + len(pair.response) for pair in pairs)
    heads = int(unwrap(loaded.model).config.get_text_config().num_attention_heads)
    return max(1, min(batch_size, WEIGHTS // (heads * longest * longest)))


@torch.no_grad()
def knock_out(
    loaded: Loaded,
    pairs: Sequence[Pair],
    spans: Sequence[str] = SPANS,
    readers: Sequence[str] = READERS,
    cuts: Sequence[int] = (1, 0),
    cuts_all: Sequence[int] = (1, 0),
    controls: Sequence[str] = CONTROLS,
    batch_size: int = 64,
    backend: str = "hooks",
    padding: str = "right",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Return a row per example, span, kind of readers, window of layers and control: ``layer`` is its first, ``width`` how
    many.

    Examples whose answer is not what the model itself decodes greedily, or that have nothing to cut, are left out. Raises
    :class:`UserError` for names that do not exist, a model without attention weights, and exhausted memory.
    """
    for kind, chosen, known in (("span", spans, SPANS), ("kind of readers", readers, READERS)):
        for each in chosen:
            if each not in known:
                raise unknown(kind, each, known)
    layers = len(blocks(loaded.model))
    windows = {"aligned": _windows(layers, cuts), "all": _windows(layers, cuts_all)}
    every = list(dict.fromkeys(window for reader in readers for window in windows[reader]))
    there = {span: [positions(pair, span) for pair in pairs] for span in spans}
    there = {span: found for span, found in there.items() if any(found)}
    if not there:
        raise UserError(f"None of the spans {', '.join(spans)} is in these prompts; the span context always is.")
    same = _same(there)
    total = (
        len(same)
        * len(controls)
        * sum(len(windows[each]) for each in readers)
        * sum(len(pair.response) for pair in pairs)
    )
    done = 0
    found: list[dict[str, Any]] = []
    size = bounded(loaded, pairs, batch_size)
    with says_exhausted(size), model_lock(loaded.model), eager(loaded.model):
        views = Views(loaded, pairs, padding, backend)  # type: ignore[arg-type]
        for batch in views.batches(size):
            knocked = _Knocked(batch, views)
            usable = batch.usual["no_context"].whole
            for name, names in same.items():
                for control, layer, width, cut in _cut_where(name, there[name], pairs, controls, every):
                    mine = [cut[i] for i in batch.numbers]
                    kept = usable & torch.tensor([bool(each) for each in mine])
                    for reader in (each for each in readers if (layer, width) in windows[each]):
                        read = batch.read(knocked.final(mine, range(layer, layer + width), reader))
                        for span in names:
                            place = {
                                "span": span,
                                "readers": reader,
                                "layer": layer,
                                "width": width,
                                "control": control,
                            }
                            found.append(_columns(batch, kept, place, mine, read))
                        done += len(batch.tokens)
                        progress(done, total)
    return pd.DataFrame({name: np.concatenate([each[name] for each in found]) for name in found[0]})


def positions(pair: Pair, span: str) -> tuple[int, ...]:
    """Find where in the prompt with the context a span is; the aligned positions are never in it."""
    if span == "context":
        return context_span(pair.without, pair.given)
    labels = pair.labels.get("with_context", ())
    return tuple(i for i, label in enumerate(labels[:-1]) if label == span)


def _same(there: dict[str, list[tuple[int, ...]]]) -> dict[str, list[str]]:
    """Group spans that are the same tokens in every prompt, under the first of their names: they are computed once."""
    found: dict[str, list[str]] = {}
    for span, mine in there.items():
        found.setdefault(next((name for name in found if there[name] == mine), span), []).append(span)
    return found


def _windows(layers: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    for width in cuts:
        if not 0 <= width <= layers:
            raise UserError(
                f"A cut is in 1 to {layers} layers of this model at once, or in all (0); found {width}."
            )
    widths = dict.fromkeys(width or layers for width in cuts)
    return [(layer, width) for width in widths for layer in range(layers - width + 1)]


def _cut_where(
    span: str,
    there: Sequence[tuple[int, ...]],
    pairs: Sequence[Pair],
    controls: Sequence[str],
    windows: Sequence[tuple[int, int]],
) -> Iterator[tuple[str, int, int, list[tuple[int, ...]]]]:
    """Control, first layer, number of layers, and the positions that are cut off in every prompt."""
    elsewhere = [_outside(pair, mine) for pair, mine in zip(pairs, there, strict=True)]
    room = min((len(rest) - len(mine) for rest, mine in zip(elsewhere, there, strict=True) if mine), default=0)
    for control in controls:
        for layer, width in windows:
            if control == "none":
                yield control, layer, width, list(there)
                continue
            # One draw for all prompts, so that what they share stays shared.
            first = crc32(f"{span} {layer} {width}".encode()) % (max(room, 0) + 1)
            yield (
                control,
                layer,
                width,
                [tuple(rest[first : first + len(mine)]) for rest, mine in zip(elsewhere, there, strict=True)],
            )


def _outside(pair: Pair, span: Sequence[int]) -> list[int]:
    """Find where a control may be: what both views have, or, if all of that is the span, the rest of the context."""
    cut = set(span)
    rest = [i for i in range(1, len(pair.given) - 1) if i not in cut]
    context = set(positions(pair, "context"))
    return [i for i in rest if i not in context] or rest


class _Knocked:
    """Runs a batch's view with the context with spans cut off."""

    def __init__(self, batch: Batch, views: Views) -> None:
        self.batch, self.run = batch, batch.runs["with_context"]
        self.model, self.prefix, self.backend = views.loaded.model, views.prefixes["with_context"], views.backend
        self.at = columns_of(self.run.view)
        self.known: dict[Site, States] = {}
        if isinstance(self.run, Restarted):
            self.known = self.run.states([Site("resid_pre", layer) for layer in range(len(blocks(self.model)))])

    def final(self, cut: Sequence[tuple[int, ...]], layers: range, readers: str) -> States:
        """Return the last states at the aligned positions, with positions ``cut`` of every prompt hidden in ``layers``."""
        if readers == "aligned" and isinstance(self.run, Restarted):
            return self._restarted(self.run, cut, layers)
        view, start = self.run.view, len(self.run.view.prefix)
        keys = _inside(self.at, cut)
        if readers == "aligned":
            asking = torch.zeros_like(keys)
            asking[view.rows, start + view.columns] = True
        else:
            asking = (self.at >= 0) & ~keys
        hidden = Cut(frozenset(layers), asking, keys)
        return capture(self.model, view, [FINAL], self.prefix, self.backend, cut=hidden)[FINAL]

    def _restarted(self, run: Restarted, cut: Sequence[tuple[int, ...]], layers: range) -> States:
        """Run only the aligned positions, from the first layer that is cut."""
        rows = run.rows
        start, length = len(self.prefix.ids), rows.ids.shape[1]
        own = torch.where(rows.mask, rows.positions, torch.tensor(-1, device=rows.mask.device)).cpu()
        at = torch.cat([torch.arange(start).expand(len(own), -1), own], dim=1)
        keys = _inside(at, cut)
        blocked = keys[:, None] & rows.mask[:, -length:, None].cpu()
        site = Site("resid_pre", layers[0])
        with cutting(self.model, layers, blocked):
            return run.final({site: self.known[site]})


def _inside(at: Tensor, cut: Sequence[tuple[int, ...]]) -> Tensor:
    return torch.stack(
        [torch.isin(row, torch.tensor(mine, dtype=row.dtype)) for row, mine in zip(at, cut, strict=True)]
    )


def _columns(
    batch: Batch, kept: Tensor, place: dict[str, Any], cut: Sequence[tuple[int, ...]], read: Any
) -> dict[str, np.ndarray]:
    there = kept.nonzero()[:, 0]
    pairs = [batch.pairs[i] for i in there.tolist()]
    texts = {name: [getattr(p, name) for p in pairs] for name in ("example_id", "cluster", "group")}
    texts |= {name: [value] * len(pairs) for name, value in place.items() if isinstance(value, str)}
    received, given = batch.usual["with_context"], batch.usual["no_context"]
    return {
        **{name: np.array(values, dtype=object) for name, values in texts.items()},
        **{name: np.full(len(pairs), value) for name, value in place.items() if isinstance(value, int)},
        "cut": np.array([len(cut[i]) for i in there.tolist()], dtype=int),
        "received": received.difference[there].numpy(),
        "given": given.difference[there].numpy(),
        "patched": read.difference[there].numpy(),
        "before": received.whole[there].numpy(),
        "answer": read.whole[there].numpy(),
    }
