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
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.cka import falling
from cr_interp.similarity.units import first_of

#: So many pairs of examples at once: what a permutation has gathered is read again before it leaves the cache.
AT_ONCE = 2048


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

        Every sum over two examples is one over unordered pairs, since Grams are symmetric; what a pair adds to T₂, T₃ and T₄
        lies in one row of each side, so that a permutation reads a row a pair.
        """
        first, second, x, y = self._pairs
        rows = order[first] * self.examples + order[second]
        total = sum(
            torch.vdot(x[at : at + AT_ONCE].flatten(), y[rows[at : at + AT_ONCE]].flatten()).item()
            for at in range(0, len(rows), AT_ONCE)
        )
        g, t = self.examples, self.tokens
        by_row, by_example = self._sums
        t3 = torch.vdot(by_row[0].flatten(), by_row[1][order].flatten()).item()
        t4 = by_example[0].sum().item() * by_example[1].sum().item()
        t4 -= 4 * (by_example[0] @ by_example[1][order]).item()
        return total - 2 * t3 / (t**3 * math.perm(g, 3)) + t4 / (t**4 * math.perm(g, 4))

    @cached_property
    def _sums(self) -> tuple[list[Float[Tensor, "g t"]], list[Float[Tensor, " g"]]]:
        """Return the sums of each side's rows, by example and token, and by example."""
        by_row = [each.sum(1).view(self.examples, self.tokens) for each in self.columns]
        return by_row, [each.sum(1) for each in self.blocks]

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor, Float[Tensor, "pair width"], Float[Tensor, "g*g width"]]:
        """Return the unordered pairs of examples, a row of x for each, with what it counts in HSIC, and one of y for each
        ordered pair: the t × t block of the Gram, the two examples' columns for each other, the block's sum.
        """
        g, t = self.examples, self.tokens
        first, second = torch.triu_indices(g, g, 1)
        sides = []
        for gram, columns, sums in zip(self.grams, self.columns, self.blocks, strict=True):
            block = gram.view(g, t, g, t).transpose(1, 2).reshape(g * g, t * t)
            here = columns.view(g, t, g).transpose(1, 2)
            parts = [
                block,
                here.reshape(g * g, t),
                here.transpose(0, 1).reshape(g * g, t),
                sums.reshape(g * g, 1),
            ]
            sides.append(torch.cat(parts, 1))
        counts = torch.cat(
            [
                torch.full((t * t,), 2 / (t**2 * math.perm(g, 2)), dtype=torch.float64),
                torch.full((2 * t,), 2 / (t**3 * math.perm(g, 3)), dtype=torch.float64),
                torch.full((1,), 4 / (t**4 * math.perm(g, 4)), dtype=torch.float64),
            ]
        )
        return first, second, sides[0][first * g + second] * counts, sides[1]

    def _by_unit(self, matrix: Float[Tensor, "g*t m"]) -> Float[Tensor, "unit m"]:
        """Add up the rows of each unit."""
        by_example = matrix.reshape(-1, self.tokens, matrix.shape[1]).sum(1)
        if self._alone:
            return by_example
        return by_example.new_zeros(len(self.sizes), matrix.shape[1]).index_add_(0, self.units, by_example)


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
