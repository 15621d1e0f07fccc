"""Linear CKA of two matrices, and of weighted rows (for the bootstrap).

CKA (Kornblith et al. 2019) is the correlation of two Gram matrices: 1 if the views' states are equal up to a
rotation, a shift and a scale, 0 in expectation if they are unrelated, when debiased (Song et al. 2012).
Without debiasing unrelated states look alike: about √(pq/((n+p)(n+q))), 0.94 for 64 rows of width 1024.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.groups import group_cka
from cr_interp.similarity.moments import PairMoments


@takes_arrays
def cka(
    x: Float[Tensor, "n p"],
    y: Float[Tensor, "n q"],
    debiased: bool = True,
    groups: Int[Tensor, " n"] | None = None,
) -> float:
    """Compute linear CKA of paired rows, in [−1, 1] (biased: [0, 1]); NaN below 4 rows or with constant features.

    ``groups``, an example id per row, gives the example-level statistic (``groups.py``), which is debiased only.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = (torch.randn(64, 256, generator=generator) for _ in range(2))
    >>> turn = torch.linalg.qr(torch.randn(256, 256, generator=generator))[0]
    >>> round(cka(x, 3 * x @ turn + 1), 2)              # turned, scaled, shifted: the same
    1.0
    >>> abs(cka(x, y)) < 0.05, round(cka(x, y, debiased=False), 1)      # unrelated: about 0, which it is not if biased
    (True, 0.8)
    """
    if groups is not None:
        if not debiased:
            raise ValueError("the example-level statistic is debiased by definition; leave out debiased=False")
        return group_cka(x, y, groups).value
    moments = PairMoments()
    moments.update(x, y)
    return moments.cka(debiased)


@takes_arrays
def weighted_cka(
    gram_x: Float[Tensor, "n n"],
    gram_y: Float[Tensor, "n n"],
    weights: Float[Tensor, "replicates g"],
    group: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, " replicates"]:
    """Compute debiased CKA from two Gram matrices when row i counts ``weights[:, group[i]]`` times; batched.

    HSIC₁ is a U-statistic, a mean over *distinct* rows: with grams k and l, T₂ = Σ′ k_ij l_ij, T₃ = Σ′ k_ij l_iq and T₄ = Σ′
    k_ij l_qr over distinct indices it is T₂/(n)₂ − 2T₃/(n)₃ + T₄/(n)₄ (Song et al. 2012). Here every index carries its
    weight, and the falling factorials become their weighted counterparts e₂, e₃, e₄. A bootstrap replicate thus never pairs a
    row with its own copy, which plain resampling would, inflating CKA.

    Rows of one group (an example's tokens) share a weight, so sums over a group are taken once and the replicates cost n·g
    instead of n². ``group=None``: every row is its own group. Replicates with fewer than four distinct rows, or without
    variation, are NaN. With all weights 1 this is :func:`cka`.

    Give the Grams of *centred* rows: with unequal weights the sums above are blind to a shift only up to 1/n.
    """
    group = torch.arange(len(gram_x), device=gram_x.device) if group is None else group
    groups = weights.shape[1]
    grams = [gram.clone().fill_diagonal_(0) for gram in (gram_x, gram_y)]  # only distinct rows pair
    e2, e3, e4 = falling(weights, torch.bincount(group, minlength=groups).to(weights.dtype))
    w2 = weights.square()
    # (k̃w)_i of every replicate, and w_i (k̃w)_i: T₃, T₄ and u are inner products of these.
    by_row = [weights @ _gather(gram, group, groups) for gram in grams]
    weighted = [weights[:, group] * value for value in by_row]
    total = [value.sum(1) for value in weighted]  # wᵀk̃w

    def hsic(i: int, j: int) -> Float[Tensor, " replicates"]:
        product = grams[i] * grams[j]
        d: Float[Tensor, "g g"] = _gather(_gather(product, group, groups).T, group, groups)  # Σ k_ij l_ij
        w_d, w2_d = weights @ d, w2 @ d
        t2 = _dot(w_d, weights)
        t3 = _dot(weighted[i], by_row[j]) - _dot(w2_d, weights)  # minus what has q = j
        # T₄ starts from all (i, j) × (q, r) and takes off the coincidences: four ways to share one index
        # (each u − v) and two ways to share both (each v).
        u, v = _dot(weighted[i], weighted[j]), _dot(w2_d, w2)
        t4 = total[i] * total[j] - 4 * u + 2 * v
        return t2 / e2 - 2 * t3 / e3 + t4 / e4

    kl, kk, ll = hsic(0, 1), hsic(0, 0), hsic(1, 1)
    defined = (e4 > 0) & (kk > 0) & (ll > 0)
    return torch.where(defined, kl / (kk.clamp_min(0) * ll.clamp_min(0)).sqrt(), torch.nan)


def _gather(matrix: Float[Tensor, "n m"], group: Int[Tensor, " n"], groups: int) -> Float[Tensor, "g m"]:
    """Add up the rows of each group."""
    return matrix.new_zeros(groups, matrix.shape[1]).index_add_(0, group, matrix)


def _dot(a: Float[Tensor, "replicates n"], b: Float[Tensor, "replicates n"]) -> Float[Tensor, " replicates"]:
    """Compute the inner product of each row of a with its row of b."""
    return torch.einsum("rn,rn->r", a, b)


def falling(
    weights: Float[Tensor, "replicates g"], rows: Float[Tensor, " g"]
) -> tuple[Float[Tensor, " replicates"], Float[Tensor, " replicates"], Float[Tensor, " replicates"]]:
    """Compute Σ over 2, 3, 4 distinct rows of the product of their weights, from power sums (Newton's identities)."""
    w2 = weights * weights
    s1, s2, s3, s4 = weights @ rows, w2 @ rows, (w2 * weights) @ rows, (w2 * w2) @ rows
    e2 = s1**2 - s2
    e3 = s1**3 - 3 * s1 * s2 + 2 * s3
    e4 = s1**4 - 6 * s1**2 * s2 + 8 * s1 * s3 + 3 * s2**2 - 6 * s4
    return e2, e3, e4
