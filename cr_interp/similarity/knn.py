"""Mutual k-NN overlap: do tokens keep their neighbours when the context returns? (Huh et al. 2024.)

Of the k rows nearest to a row by cosine in one view, the share that is also among the k nearest in the other view; for
unrelated states k/(n − 1). Blind to anything that keeps the neighbours, and sensitive to small rearrangements that CKA
does not see.

Duplicates. Equal rows are equally near, and which of them are "the k nearest" would depend on the order of the rows.
So rows tied at the k-th place share what is left of the k: membership is the expectation over random tie-breaking.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Cosines that differ by less are ties: float32 products of equal rows differ in their last bits.
TIE = 1e-6
#: Rows whose similarities to all others are held at once.
BLOCK = 512


class Overlap(NamedTuple):
    value: float
    chance: float
    """What unrelated states would have."""
    reason: str | None = None


def knn_overlap(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], k: int = 10, groups: Int[Tensor, " n"] | None = None
) -> Overlap:
    """Mean overlap in [0, 1] with its chance level. ``groups``: rows of one group are no neighbours of each other.

    NaN with a reason if a row has fewer than k + 1 others, or rows are not finite.
    """
    if len(x) != len(y):
        raise ValueError(f"expected equally many rows, got {len(x)} and {len(y)}")
    group = torch.arange(len(x)) if groups is None else torch.unique(groups.cpu(), return_inverse=True)[1]
    others = len(x) - torch.bincount(group)[group] if len(x) else group
    if not len(x) or int(others.min()) <= k:
        least = int(others.min()) if len(x) else 0
        return Overlap(
            math.nan, math.nan, f"a row has {least} possible neighbours; k = {k} needs at least {k + 1}"
        )
    if not bool(x.isfinite().all() and y.isfinite().all()):
        return Overlap(math.nan, math.nan, "rows are not finite")
    value = overlap_per_row(x, y, k, group).double().mean().item()
    return Overlap(value, (k / others.double()).mean().item())


def overlap_per_row(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], k: int, groups: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The overlap of each row, from blocks of rows: memory BLOCK·n."""
    x, y = (torch.nn.functional.normalize(rows.float().cpu(), dim=1) for rows in (x, y))
    found = []
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        own = groups[part, None] == groups[None]
        found.append((_membership(x, part, own, k) * _membership(y, part, own, k)).sum(1) / k)
    return torch.cat(found)


def _membership(unit: Float[Tensor, "n p"], part: slice, own: Tensor, k: int) -> Float[Tensor, "block n"]:
    """How far each row is among the k nearest of the block's rows: 1, 0, or a share of what ties leave."""
    cosine = (unit[part] @ unit.T).masked_fill_(own, -torch.inf)
    kth = cosine.topk(k, dim=1).values[:, -1:]
    nearer = cosine > kth + TIE
    tied = (cosine >= kth - TIE) & ~nearer
    left = k - nearer.sum(1, keepdim=True)
    return nearer.float() + tied.float() * (left / tied.sum(1, keepdim=True))
