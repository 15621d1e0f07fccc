"""Example-level debiased CKA of weighted examples, from Gram matrices: the estimate and its bootstrap.

Mental model. Row-level CKA pairs any two distinct rows, also two tokens of one response, which resemble each other in
both views: it is high on unrelated data. Here only rows of *distinct examples* pair. With k and l the token Gram
matrices of the two views and every index from another example,

    T₂ = Σ′ k_ij l_ij      T₃ = Σ′ k_ij l_iq      T₄ = Σ′ k_ij l_qr
    HSIC = T₂/(t²·e₂) − 2·T₃/(t³·e₃) + T₄/(t⁴·e₄)

for t tokens of each example and eₖ the weighted count of k distinct examples (all weights 1: G(G−1)…(G−k+1)). This is
the statistic of ``groups.py`` in Gram form, where a bootstrap replicate costs G² instead of a new pass; as in
:func:`~cr_interp.similarity.cka.weighted_cka`, an example drawn twice never pairs with its own copy.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.similarity.cka import falling


def weighted_example_cka(
    gram_x: Float[Tensor, "g*t g*t"],
    gram_y: Float[Tensor, "g*t g*t"],
    weights: Float[Tensor, "replicates g"],
    tokens: int,
) -> Float[Tensor, " replicates"]:
    """CKA per replicate; rows are ordered by example, ``tokens`` each. Fewer than four distinct examples: NaN.

    Give the Grams of centred rows, for precision: HSIC itself is blind to a shift.
    """
    examples = weights.shape[1]
    own = torch.eye(examples, dtype=torch.bool).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    grams = [gram.masked_fill(own, 0) for gram in (gram_x, gram_y)]
    w2 = weights.square()
    row_weights = weights.repeat_interleave(tokens, 1)
    columns = [_by_example(gram.T, tokens).T for gram in grams]  # Σ_j∈h k_ij: [rows, g]
    blocks = [_by_example(each, tokens) for each in columns]  # Σ over both examples: [g, g]
    by_row = [weights @ each.T for each in columns]
    by_example = [weights @ each for each in blocks]
    totals = [(weights * each).sum(1) for each in by_example]
    e2, e3, e4 = falling(weights, weights.new_ones(examples))

    def hsic(i: int, j: int) -> Float[Tensor, " replicates"]:
        pairs = _by_example(_by_example(grams[i] * grams[j], tokens).T, tokens)
        t2 = ((weights @ pairs) * weights).sum(1)
        same = _by_example(columns[i] * columns[j], tokens)  # j and q in one example
        t3 = (row_weights * by_row[i] * by_row[j]).sum(1) - ((weights @ same) * w2).sum(1)
        u = (w2 * by_example[i] * by_example[j]).sum(1)
        v = ((w2 @ (blocks[i] * blocks[j])) * w2).sum(1)
        t4 = totals[i] * totals[j] - 4 * u + 2 * v
        return t2 / (tokens**2 * e2) - 2 * t3 / (tokens**3 * e3) + t4 / (tokens**4 * e4)

    kl, kk, ll = hsic(0, 1), hsic(0, 0), hsic(1, 1)
    defined = (e4 > 0) & (kk > 0) & (ll > 0)
    return torch.where(defined, kl / (kk.clamp_min(0) * ll.clamp_min(0)).sqrt(), torch.nan)


def _by_example(matrix: Float[Tensor, "g*t m"], tokens: int) -> Float[Tensor, "g m"]:
    """Add up the rows of each example."""
    return matrix.reshape(-1, tokens, matrix.shape[1]).sum(1)
