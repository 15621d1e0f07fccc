"""How much the aligned positions attend to each part of what they read, layer by layer and head by head.

Mental model. At each aligned position a head spreads a weight of 1 over the tokens up to there. Summed over a part it is that
part's mass. The parts of ``spans.py`` share all of it with two more: the first token, where attention sinks sit, stands apart
(``sink``), and so do the aligned positions themselves (``answer``). ``context`` is what only that view has: it overlaps with
the others. Beside the mass stands what even attention to all tokens would give, the part's share of them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cr_interp.capture.attention import weights
from cr_interp.capture.sites import blocks
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.means import means
from cr_interp.mechanism.spans import LABELS, context_span
from cr_interp.models.batching import Part, parts
from cr_interp.models.forward import Prefix, ViewBatch, device_of, encode_prefix, run

#: What the mass is divided among; ``context`` is counted a second time.
PARTS = ("sink", *LABELS, "answer", "context")
COLUMNS = ("group", "view", "span", "layer", "head", "control")


def columns_of(view: ViewBatch) -> Int[Tensor, "batch column"]:
    """Return the position in its sequence of every column of a view, the prefix first; −1: a pad."""
    start = len(view.prefix)
    own = torch.where(view.mask, start + view.mask.long().cumsum(-1) - 1, torch.tensor(-1))
    return torch.cat([torch.arange(start).expand(len(view.ids), -1), own], dim=1)


def members(pairs: Sequence[Pair], view: str, laid_out: ViewBatch) -> Bool[Tensor, "batch column part"]:
    """Tell which of :data:`PARTS` every column of a view is in."""
    at = columns_of(laid_out)
    found = torch.zeros(*at.shape, len(PARTS), dtype=torch.bool)
    for row, pair in enumerate(pairs):
        ids = pair.given if view == "with_context" else pair.without
        labels = list(pair.labels.get(view, ())) or ["prompt"] * len(ids)
        context = set(context_span(pair.without, pair.given)) if view == "with_context" else set()
        for column, position in enumerate(at[row].tolist()):
            if position < 0:
                continue
            label = "sink" if position == 0 else labels[position] if position < len(ids) - 1 else "answer"
            found[row, column, PARTS.index(label)] = True
            found[row, column, PARTS.index("context")] = position in context and label != "sink"
    return found


@torch.no_grad()
def mass(
    model: nn.Module, view: ViewBatch, prefix: Prefix, of: Bool[Tensor, "batch column part"]
) -> Float[np.ndarray, "layer head example part"]:
    """Return the mean mass of every example's aligned positions; the model has to attend eagerly."""
    found: dict[int, Tensor] = {}
    batch = len(view.ids)
    start = len(view.prefix)
    counts = view.rows.bincount(minlength=batch).double()
    divided = parts(model, view)
    pieces: Sequence[Part | None] = divided or (None,)
    for part in pieces:
        here = view if part is None else part.view
        where = torch.arange(batch) if part is None else part.row_of
        if part is None:
            inside = of
        else:
            moved = torch.cat([of[:, start:], of[:, :start]], dim=1)[part.row_of]
            own = (
                moved.gather(1, part.column_of[..., None].expand(-1, -1, of.shape[-1]))
                & part.view.mask[..., None]
            )
            inside = torch.cat([of[part.row_of, :start], own], dim=1) if here.prefix else own

        def add(
            layer: int, seen: Tensor, here: ViewBatch = here, where: Tensor = where, inside: Tensor = inside
        ) -> None:
            read = seen[here.rows.to(seen.device), :, here.columns.to(seen.device)]
            share = torch.einsum("thk,tkp->thp", read.float(), inside[here.rows].to(read)).double().cpu()
            total = found.setdefault(layer, torch.zeros(batch, *share.shape[1:], dtype=torch.float64))
            total.index_add_(0, where[here.rows], share)

        with weights(model, add):
            run(
                model,
                prefix if prefix.ids == here.prefix else encode_prefix(model, here.prefix),
                here.ids.to(device_of(model)),
                here.mask.to(device_of(model)),
            )
    each = torch.stack([found[layer] / counts[:, None, None] for layer in range(len(blocks(model)))])
    return each.permute(0, 2, 1, 3).numpy()


def even(view: ViewBatch, of: Bool[Tensor, "batch column part"]) -> Float[np.ndarray, "example part"]:
    """Return the mass that attention spread evenly over all that is read would have."""
    start, batch = len(view.prefix), len(view.ids)
    read = (torch.arange(of.shape[1]) <= start + view.columns[:, None]) & of[view.rows].any(-1)
    share = (read[..., None] & of[view.rows]).sum(1).double() / read.sum(1, keepdim=True)
    found = torch.zeros(batch, of.shape[-1], dtype=torch.float64).index_add_(0, view.rows, share)
    return (found / view.rows.bincount(minlength=batch)[:, None]).numpy()


def attention_rows(
    pairs: Sequence[Pair], view: str, seen: Float[np.ndarray, "layer head example part"], evenly: np.ndarray
) -> pd.DataFrame:
    """Return rows of the table ``attention`` for one view: a head's mass, with head −1 their mean, and even attention beside
    that.
    """
    layers, heads, _, _ = seen.shape
    every = np.concatenate([seen.mean(axis=1, keepdims=True), seen], axis=1)
    groups = np.array([pair.group for pair in pairs])
    clusters = np.array([pair.cluster for pair in pairs], dtype=object)
    found = []
    for group in dict.fromkeys(groups):
        mine = groups == group
        used = [i for i in range(len(PARTS)) if evenly[mine, i].any()]
        values = every[:, :, mine][..., used].transpose(2, 0, 1, 3).reshape(int(mine.sum()), -1)
        estimate, low, high = means(values, list(clusters[mine]))
        layer, head, span = (each.ravel() for each in np.indices((layers, heads + 1, len(used))))
        names = np.array(PARTS, dtype=object)[used]
        real = pd.DataFrame(
            {
                "group": group,
                "view": view,
                "span": names[span],
                "layer": layer,
                "head": head - 1,
                "control": "none",
                "estimate": estimate,
                "low": low,
                "high": high,
            }
        )
        uniform = real[real["head"] < 0].assign(control="even", low=np.nan, high=np.nan)
        uniform["estimate"] = np.tile(evenly[mine][:, used].mean(axis=0), layers)
        found.append(
            pd.concat([real, uniform]).assign(n_examples=int(mine.sum()), n_clusters=len(set(clusters[mine])))
        )
    return pd.concat(found, ignore_index=True).astype({"layer": "int32", "head": "int32"})
