"""Mutual k-NN overlap: do tokens keep their neighbours when the context returns? (Huh et al. 2024.)

Of the k rows nearest to a row in one view, the share that is also among the k nearest in the other view; for unrelated
states k/(n − 1). Blind to anything that keeps the neighbours, and sensitive to small rearrangements that CKA does not
see.

Duplicates. Equal rows are equally near, and which of them are "the k nearest" would depend on the order of the rows.
So rows tied at the k-th place share what is left of the k: membership is the expectation over random tie-breaking.

Everything is in float64: with a massive common component all cosines agree in the digits that float32 has.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays

#: Nearnesses that differ by less, relative to the largest |row|², are ties: products of equal rows differ by rounding.
TIE = 1e-13
#: Rows whose nearness to all others is held at once.
BLOCK = 512
METRICS = ("cosine", "euclidean")


class Overlap(NamedTuple):
    value: float
    chance: float
    """What unrelated states would have."""
    reason: str | None = None


@takes_arrays
def knn_overlap(
    x: Float[Tensor, "n p"],
    y: Float[Tensor, "n q"],
    k: int = 10,
    metric: str = "cosine",
    groups: Int[Tensor, " n"] | None = None,
) -> Overlap:
    """Compute the mean overlap in [0, 1] with its chance level; ``metric`` is ``cosine`` (of rows not centred) or
    ``euclidean``.

    ``groups``: rows of one group are no neighbours of each other (tokens of one response are trivially near); the chance
    level then is the mean of k / (rows of other groups).

    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = (torch.randn(200, 16, generator=generator) for _ in range(2))
    >>> knn_overlap(x, 2 * x).value
    1.0
    >>> unrelated = knn_overlap(x, y)
    >>> round(unrelated.chance, 2), abs(unrelated.value - unrelated.chance) < 0.02
    (0.05, True)

    NaN with a reason if a row has fewer than k + 1 others (with k of them the overlap is 1, whatever the states), if rows are
    not finite, or if a row of norm 0 has no cosine.
    """
    if len(x) != len(y):
        raise ValueError(f"expected equally many rows, got {len(x)} and {len(y)}")
    if metric not in METRICS or k < 1:
        raise ValueError(f"expected k ≥ 1 and a metric among {METRICS}, got k = {k} and {metric!r}")
    group = torch.arange(len(x)) if groups is None else torch.unique(groups.cpu(), return_inverse=True)[1]
    others = len(x) - torch.bincount(group)[group] if len(x) else group
    if not len(x) or int(others.min()) <= k:
        least = int(others.min()) if len(x) else 0
        return Overlap(
            math.nan, math.nan, f"a row has {least} possible neighbours; k = {k} needs at least {k + 1}"
        )
    for side, rows in (("first", x), ("second", y)):
        if not bool(rows.isfinite().all()):
            return Overlap(math.nan, math.nan, f"the {side} side's rows are not finite")
        if metric == "cosine" and not bool((rows != 0).any(1).all()):
            return Overlap(math.nan, math.nan, f"the {side} side has rows of norm 0, which have no cosine")
    value = overlap_per_row(x, y, k, group, metric).mean().item()
    return Overlap(value, (k / others.double()).mean().item())


def overlap_per_row(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], k: int, groups: Int[Tensor, " n"], metric: str = "cosine"
) -> Float[Tensor, " n"]:
    """Compute the overlap of each row, from blocks of rows: memory BLOCK·n. Every row needs k rows of other groups."""
    x, y = (_prepared(rows.detach().cpu().double(), metric) for rows in (x, y))
    found = []
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        own = groups[part, None] == groups[None]
        shared = _membership(x, part, own, k, metric) * _membership(y, part, own, k, metric)
        found.append(shared.sum(1) / k)
    return torch.cat(found)


def _prepared(rows: Float[Tensor, "n p"], metric: str) -> Float[Tensor, "n p"]:
    """Scale rows so that a fixed tolerance fits: unit rows, or centred ones of at most unit norm."""
    if metric == "cosine":
        # By the largest entry first: the square of a tiny one would vanish.
        rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.nn.functional.normalize(rows, dim=1)
    rows = rows - rows.mean(0)
    return rows / rows.norm(dim=1).max().clamp_min(torch.finfo(torch.float64).tiny)


def _membership(
    rows: Float[Tensor, "n p"], part: slice, own: Bool[Tensor, "block n"], k: int, metric: str
) -> Float[Tensor, "block n"]:
    """Measure how far each row is among the k nearest of the block's rows: 1, 0, or a share of what ties leave."""
    near = rows[part] @ rows.T
    if metric == "euclidean":  # −|r_i − r_j|²/2 without |r_i|²/2, which all of a row share
        near -= rows.square().sum(1) / 2
    near.masked_fill_(own, -torch.inf)
    kth = near.topk(k, dim=1).values[:, -1:]
    nearer = near > kth + TIE
    tied = (near >= kth - TIE) & ~nearer
    left = k - nearer.sum(1, keepdim=True)
    return nearer.double() + tied.double() * (left / tied.sum(1, keepdim=True))
