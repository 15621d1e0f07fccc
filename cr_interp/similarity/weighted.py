"""Example-level debiased CKA from Gram matrices: of weighted examples (the bootstrap), and of permuted ones (chance).

Mental model. Row-level CKA pairs any two distinct rows, also two tokens of one response, which resemble each other in
both views: it is high on unrelated data. Here only rows of *distinct examples* pair. With k and l the token Gram
matrices of the two views and every index from another example,

    T₂ = Σ′ k_ij l_ij      T₃ = Σ′ k_ij l_iq      T₄ = Σ′ k_ij l_qr
    HSIC = T₂/(t²·e₂) − 2·T₃/(t³·e₃) + T₄/(t⁴·e₄)

for t tokens of each example and eₖ the weighted count of k distinct examples (all weights 1: G(G−1)…(G−k+1)). Where examples
are versions of one another (a cluster: one phrase in several frames), two of them resemble each other in any view, as two
tokens of one example do. So with ``units`` an index is from another *unit*, a cluster of examples, and eₖ counts k examples
of as many units. This is
the statistic of ``groups.py`` in Gram form, where a bootstrap replicate costs G² instead of a new pass; as in
:func:`~cr_interp.similarity.cka.weighted_cka`, an example drawn twice never pairs with its own copy.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.cka import falling
from cr_interp.similarity.units import first_of


class ExampleGrams:
    """Two Gram matrices of rows ordered by example, ``tokens`` each, and their sums over examples.

    Give the Grams of centred rows, for precision: HSIC itself is blind to a shift. ``units`` numbers each example's cluster, 0,
    1, …; None: every example is its own. A bootstrap draws whole units; permutations are of examples, so without ``units``.
    """

    def __init__(
        self,
        gram_x: Float[Tensor, "g*t g*t"],
        gram_y: Float[Tensor, "g*t g*t"],
        tokens: int,
        units: Int[Tensor, " g"] | None = None,
    ) -> None:
        self.tokens = tokens
        self.examples = len(gram_x) // tokens
        self._alone = units is None
        self.units = torch.arange(self.examples) if units is None else units
        self._first = self.units if units is None else first_of(units)
        self.sizes: Int[Tensor, " unit"] = torch.bincount(self.units)
        own = self.units[:, None] == self.units
        own = own.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
        self.grams = [gram.masked_fill(own, 0) for gram in (gram_x, gram_y)]
        self._paired: dict[int, Tensor] = {}
        self.columns = [self._by_unit(gram.T).T for gram in self.grams]  # Σ_j∈h k_ij: [rows, unit]
        self.blocks = [self._by_unit(each) for each in self.columns]  # Σ over both units: [unit, unit]

    def weighted(self, weights: Float[Tensor, "replicates g"]) -> Float[Tensor, " replicates"]:
        """Compute CKA per replicate, example i counting ``weights[:, i]`` times, as do all of its unit. Fewer than four
        units: NaN.
        """
        kl, kk, ll, e4 = self._weighted_hsics(weights)
        defined = (e4 > 0) & (kk > 0) & (ll > 0)
        return torch.where(defined, kl / (kk.clamp_min(0) * ll.clamp_min(0)).sqrt(), torch.nan)

    def _weighted_hsics(
        self, weights: Float[Tensor, "replicates g"]
    ) -> tuple[Tensor, Tensor, Tensor, Float[Tensor, " replicates"]]:
        """Compute HSIC of (x, y), (x, x), (y, y) per replicate, and e₄, which is 0 where they are undefined."""
        tokens = self.tokens
        row_weights = weights.repeat_interleave(tokens, 1)
        weights = weights[:, self._first]
        w2 = weights.square()
        by_row = [weights @ each.T for each in self.columns]
        by_unit = [weights @ each for each in self.blocks]
        totals = [(weights * each).sum(1) for each in by_unit]
        e2, e3, e4 = falling(weights * self.sizes, weights.new_ones(len(self.sizes)))

        def hsic(i: int, j: int) -> Float[Tensor, " replicates"]:
            pairs = self._by_unit(self._by_unit(self.grams[i] * self.grams[j]).T)
            t2 = ((weights @ pairs) * weights).sum(1)
            same = self._by_unit(self.columns[i] * self.columns[j])  # j and q in one unit
            t3 = (row_weights * by_row[i] * by_row[j]).sum(1) - ((weights @ same) * w2).sum(1)
            u = (w2 * by_unit[i] * by_unit[j]).sum(1)
            v = ((w2 @ (self.blocks[i] * self.blocks[j])) * w2).sum(1)
            t4 = totals[i] * totals[j] - 4 * u + 2 * v
            return t2 / (tokens**2 * e2) - 2 * t3 / (tokens**3 * e3) + t4 / (tokens**4 * e4)

        return hsic(0, 1), hsic(0, 0), hsic(1, 1), e4

    def own(self) -> float | None:
        """Compute √(HSIC(x, x)·HSIC(y, y)), which no permutation changes; None where CKA is undefined."""
        if len(self.sizes) < 4:
            return None
        _, *own, _ = self._weighted_hsics(self.grams[0].new_ones(1, self.examples))
        product = [each.item() for each in own]
        return math.sqrt(product[0] * product[1]) if min(product) > 0 else None

    def cross(self, order: Int[Tensor, " g"]) -> float:
        """Compute HSIC(x, y) where example i of x meets example ``order[i]`` of y, token by token. Not for Grams with
        ``units``.
        """
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

    def _by_unit(self, matrix: Float[Tensor, "g*t m"]) -> Float[Tensor, "unit m"]:
        """Add up the rows of each unit."""
        by_example = matrix.reshape(-1, self.tokens, matrix.shape[1]).sum(1)
        if self._alone:
            return by_example
        return by_example.new_zeros(len(self.sizes), matrix.shape[1]).index_add_(0, self.units, by_example)

    def _by_pair(self, side: int) -> Float[Tensor, "g*g t*t"]:
        """Return the Gram as a row per pair of examples, which a permutation moves as a whole."""
        if side not in self._paired:
            g, t = self.examples, self.tokens
            self._paired[side] = self.grams[side].view(g, t, g, t).transpose(1, 2).reshape(g * g, t * t)
        return self._paired[side]


def weighted_example_cka(
    gram_x: Float[Tensor, "g*t g*t"],
    gram_y: Float[Tensor, "g*t g*t"],
    weights: Float[Tensor, "replicates g"],
    tokens: int,
    units: Int[Tensor, " g"] | None = None,
) -> Float[Tensor, " replicates"]:
    """Compute CKA per replicate; rows are ordered by example, ``tokens`` each. Fewer than four distinct examples: NaN.

    ``units`` numbers each example's cluster from 0; then only examples of distinct clusters meet, and all of a cluster have
    one weight.
    """
    return ExampleGrams(gram_x, gram_y, tokens, units).weighted(weights)
