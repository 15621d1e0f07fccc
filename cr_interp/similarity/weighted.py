"""Example-level debiased CKA from Gram matrices: of weighted examples (the bootstrap), and of permuted ones (chance).

Mental model. Row-level CKA pairs any two distinct rows, also two tokens of one response, which resemble each other in
both views: it is high on unrelated data. Here only rows of *distinct examples* pair. With k and l the token Gram
matrices of the two views and every index from another example,

    T₂ = Σ′ k_ij l_ij      T₃ = Σ′ k_ij l_iq      T₄ = Σ′ k_ij l_qr
    HSIC = T₂/(t²·e₂) − 2·T₃/(t³·e₃) + T₄/(t⁴·e₄)

for t tokens of each example and eₖ the weighted count of k distinct examples (all weights 1: G(G−1)…(G−k+1)). This is
the statistic of ``groups.py`` in Gram form, where a bootstrap replicate costs G² instead of a new pass; as in
:func:`~cr_interp.similarity.cka.weighted_cka`, an example drawn twice never pairs with its own copy.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.cka import falling


class ExampleGrams:
    """Two Gram matrices of rows ordered by example, ``tokens`` each, and their sums over examples.

    Give the Grams of centred rows, for precision: HSIC itself is blind to a shift.
    """

    def __init__(self, gram_x: Float[Tensor, "g*t g*t"], gram_y: Float[Tensor, "g*t g*t"], tokens: int) -> None:
        self.tokens = tokens
        self.examples = len(gram_x) // tokens
        own = torch.eye(self.examples, dtype=torch.bool)
        own = own.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
        self.grams = [gram.masked_fill(own, 0) for gram in (gram_x, gram_y)]
        self._paired: dict[int, Tensor] = {}
        self.columns = [_by_example(gram.T, tokens).T for gram in self.grams]  # Σ_j∈h k_ij: [rows, g]
        self.blocks = [_by_example(each, tokens) for each in self.columns]  # Σ over both examples: [g, g]

    def weighted(self, weights: Float[Tensor, "replicates g"]) -> Float[Tensor, " replicates"]:
        """CKA per replicate, example i counting ``weights[:, i]`` times. Fewer than four distinct examples: NaN."""
        tokens, w2 = self.tokens, weights.square()
        row_weights = weights.repeat_interleave(tokens, 1)
        by_row = [weights @ each.T for each in self.columns]
        by_example = [weights @ each for each in self.blocks]
        totals = [(weights * each).sum(1) for each in by_example]
        e2, e3, e4 = falling(weights, weights.new_ones(self.examples))

        def hsic(i: int, j: int) -> Float[Tensor, " replicates"]:
            pairs = _by_example(_by_example(self.grams[i] * self.grams[j], tokens).T, tokens)
            t2 = ((weights @ pairs) * weights).sum(1)
            same = _by_example(self.columns[i] * self.columns[j], tokens)  # j and q in one example
            t3 = (row_weights * by_row[i] * by_row[j]).sum(1) - ((weights @ same) * w2).sum(1)
            u = (w2 * by_example[i] * by_example[j]).sum(1)
            v = ((w2 @ (self.blocks[i] * self.blocks[j])) * w2).sum(1)
            t4 = totals[i] * totals[j] - 4 * u + 2 * v
            return t2 / (tokens**2 * e2) - 2 * t3 / (tokens**3 * e3) + t4 / (tokens**4 * e4)

        kl, kk, ll = hsic(0, 1), hsic(0, 0), hsic(1, 1)
        defined = (e4 > 0) & (kk > 0) & (ll > 0)
        return torch.where(defined, kl / (kk.clamp_min(0) * ll.clamp_min(0)).sqrt(), torch.nan)

    def own(self) -> float | None:
        """√(HSIC(x, x)·HSIC(y, y)), which no permutation changes; None where CKA is undefined."""
        if self.examples < 4:
            return None
        same = torch.arange(self.examples)
        product = [self._hsic(side, side, same) for side in (0, 1)]
        return math.sqrt(product[0] * product[1]) if min(product) > 0 else None

    def cross(self, order: Int[Tensor, " g"]) -> float:
        """HSIC(x, y) where example i of x meets example ``order[i]`` of y, token by token."""
        return self._hsic(0, 1, order)

    def _hsic(self, i: int, j: int, order: Int[Tensor, " g"]) -> float:
        g, t = self.examples, self.tokens
        pairs = (order[:, None] * g + order).flatten()
        t2 = torch.vdot(self._by_pair(i).flatten(), self._by_pair(j)[pairs].flatten())
        one, other = self.columns[i].view(g, t, g), self.columns[j].view(g, t, g)[order][:, :, order]
        t3 = (one.sum(2) * other.sum(2)).sum() - (one * other).sum()
        a, b = self.blocks[i], self.blocks[j][order][:, order]
        t4 = a.sum() * b.sum() - 4 * (a.sum(1) @ b.sum(1)) + 2 * (a * b).sum()
        e2, e3, e4 = (math.perm(g, k) for k in (2, 3, 4))
        return (t2 / (t**2 * e2) - 2 * t3 / (t**3 * e3) + t4 / (t**4 * e4)).item()

    def _by_pair(self, side: int) -> Float[Tensor, "g*g t*t"]:
        """The Gram as a row per pair of examples, which a permutation moves as a whole."""
        if side not in self._paired:
            g, t = self.examples, self.tokens
            self._paired[side] = self.grams[side].view(g, t, g, t).transpose(1, 2).reshape(g * g, t * t)
        return self._paired[side]


def weighted_example_cka(
    gram_x: Float[Tensor, "g*t g*t"],
    gram_y: Float[Tensor, "g*t g*t"],
    weights: Float[Tensor, "replicates g"],
    tokens: int,
) -> Float[Tensor, " replicates"]:
    """CKA per replicate; rows are ordered by example, ``tokens`` each. Fewer than four distinct examples: NaN."""
    return ExampleGrams(gram_x, gram_y, tokens).weighted(weights)


def _by_example(matrix: Float[Tensor, "g*t m"], tokens: int) -> Float[Tensor, "g m"]:
    """Add up the rows of each example."""
    return matrix.reshape(-1, tokens, matrix.shape[1]).sum(1)
