"""Layer × layer HSIC from Gram matrices: of batches of rows, and between examples.

Mental model. All pairs of L layers would need L² cross products of features. Gram matrices of b rows need one each: flattened to
[L, b²], a single matrix product holds every ⟨K, L⟩. With K and L the Grams with zero diagonal, s and S the row sums and the sum
of K, z and Z those of L,

    b(b−3)·HSIC₁ = ⟨K, L⟩ − 2/(b−2) s·z + SZ / ((b−1)(b−2))

is what U-centring the Grams gives (Song et al. 2012, eq. 4), without touching them again. HSIC₁ is unbiased in every
batch, so its sums over batches are too, and CKA is the ratio of the sums; the mean of the batches' ratios would be
biased (Nguyen et al. 2021 sum likewise). Between examples the same terms have blocks of t tokens in the place of rows; there
blocks of whole rows of the Gram matrices add up exactly.

Numerics. Rows are centred, which takes out a massive common component; products are float64, since in float32 a map's
1 − CKA of 1e-6 would be off by half.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.moments import symmetric

#: Numbers of a block of the example-level Grams of all layers of a side.
BLOCK = 8_000_000


class Hsic:
    """HSIC of every pair of layers (xy) and of every layer with itself; all float64, up to a common factor."""

    def __init__(self, n_x: int, n_y: int) -> None:
        self.xy = torch.zeros(n_x, n_y, dtype=torch.float64)
        self.xx = torch.zeros(n_x, dtype=torch.float64)
        self.yy = torch.zeros(n_y, dtype=torch.float64)
        self._work: dict[str, Tensor] = {}  # reused by every batch: fresh memory costs more than the sums in it

    def cka(self) -> tuple[Float[Tensor, "x y"], str | None]:
        """Return the ratios, NaN where a layer does not vary, and then why."""
        reasons = []
        for side, own in (("first", self.xx), ("second", self.yy)):
            for words, where in (("constant", own <= 0), ("not finite", ~own.isfinite())):
                if bool(where.any()):
                    reasons.append(f"layers {where.nonzero().flatten().tolist()} of the {side} side are {words}")
        defined = (self.xx > 0)[:, None] & (self.yy > 0)[None]
        scale = (self.xx[:, None] * self.yy[None]).clamp_min(0).sqrt()
        return torch.where(defined, self.xy / scale, torch.nan), "; ".join(reasons) or None

    def add(
        self,
        x: Sequence[Float[Tensor, "slot ?width"]],
        y: Sequence[Float[Tensor, "slot ?width"]] | None,
        chosen: Int[Tensor, " b"],
    ) -> None:
        """Add one batch: the chosen slots of every layer; ``y`` None: both sides are the same."""
        b = len(chosen)
        left = self._grams("x", x, chosen)
        right = left if y is None else self._grams("y", y, chosen)
        (k, s, noise), (l, z, _) = left, right  # noqa: E741
        square = k @ l.T
        if y is None:
            square = (square + square.T) / 2
        # HSIC₁ times b, so that a smaller last batch counts for its rows.
        cross = _u_centred(square, s @ z.T, torch.outer(s.sum(1), z.sum(1)), b)
        self.xy += cross / (b - 3)
        if y is None:  # from the map itself: no second pass, and its diagonal is 1 to the last bit
            own = _variation(cross.diagonal(), square.diagonal(), noise) / (b - 3)
            self.xx += own
            self.yy += own
            return
        for total, (gram, sums, error) in ((self.xx, left), (self.yy, right)):
            squares = torch.linalg.vecdot(gram, gram)
            own = _u_centred(squares, sums.square().sum(1), sums.sum(1).square(), b)
            total += _variation(own, squares, error) / (b - 3)

    def _grams(
        self, side: str, slots: Sequence[Float[Tensor, "slot ?width"]], chosen: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "layer b*b"], Float[Tensor, "layer b"], Float[Tensor, " layer"]]:
        """Return grams of centred rows with zero diagonals, their row sums, and the HSIC of rounding errors."""
        b = len(chosen)
        grams = self._workspace(f"gram {side}", len(slots), b, b)
        noise = torch.empty(len(slots), dtype=torch.float64)
        for index, layer in enumerate(slots):
            rows = layer[chosen].double()
            mean = rows.mean(0)
            rows -= mean
            symmetric(rows.T, grams[index])
            error = (4 * _EPSILON) ** 2 * mean.square().sum()  # |·|² of a row that rounding alone can cause
            noise[index] = b * error**2 * b
        grams.diagonal(dim1=1, dim2=2).zero_()
        return grams.view(len(slots), b * b), grams.sum(2), noise

    def _workspace(self, name: str, *shape: int) -> Tensor:
        held = self._work.get(name)
        if held is None or held.numel() < math.prod(shape):
            held = self._work[name] = torch.empty(math.prod(shape), dtype=torch.float64)
        return held[: math.prod(shape)].view(shape)


def between_examples(
    x: Sequence[Float[Tensor, "g*t ?width"]], y: Sequence[Float[Tensor, "g*t ?width"]] | None, tokens: int
) -> Hsic:
    """Compute example-level HSIC (``groups.py``) of every pair of layers; rows by example, ``tokens`` each. ``y`` None: the
    same.
    """
    hsic = Hsic(len(x), len(x) if y is None else len(y))
    rows = [
        [layer.double() - layer.double().mean(0) for layer in side] for side in ([x] if y is None else [x, y])
    ]
    n = len(rows[0][0])
    g = n // tokens
    step = max(1, min(256, BLOCK // (n * max(map(len, rows)))) // tokens)
    shapes = {"xy": hsic.xy, "xx": hsic.xx, "yy": hsic.yy}
    # Per pair: ⟨K, L⟩; s·z over rows; S·Z over rows and examples; the same of whole examples.
    found = {pair: [torch.zeros_like(total) for _ in range(5)] for pair, total in shapes.items()}
    totals = [torch.zeros(len(side), dtype=torch.float64) for side in rows]
    for first in range(0, g, step):
        part = slice(first * tokens, min(first + step, g) * tokens)
        sides = [_example_block(side, part, first, tokens) for side in rows]
        for total, side in zip(totals, sides, strict=True):
            total += side[1].sum(1)
        for pair, (i, j) in {"xy": (0, -1), "xx": (0, 0), "yy": (-1, -1)}.items():
            for total, left, right in zip(found[pair], sides[i], sides[j], strict=True):
                total += left @ right.T if pair == "xy" else torch.linalg.vecdot(left, right)
    e2, e3, e4 = (math.perm(g, k) for k in (2, 3, 4))
    for pair, (pairs, rowwise, same, examples, blocks) in found.items():
        one, other = totals[0 if pair != "yy" else -1], totals[-1 if pair != "xx" else 0]
        product = torch.outer(one, other) if pair == "xy" else one * other
        t4 = product - 4 * examples + 2 * blocks
        value = pairs / (tokens**2 * e2) - 2 * (rowwise - same) / (tokens**3 * e3) + t4 / (tokens**4 * e4)
        if pair != "xy":  # what rounding leaves of 0 is no denominator
            value = torch.where(value <= 1e-12 * blocks / (tokens**4 * g**2), 0.0, value)
        shapes[pair].copy_(value)
    return hsic


def _example_block(
    layers: Sequence[Float[Tensor, "n ?width"]], part: slice, first: int, tokens: int
) -> list[Float[Tensor, "layer entries"]]:
    """Sum whole rows of each layer's Gram, without pairs of one example: entries, sums over columns, over each example's
    columns, and the latter two over each example's rows."""
    found: list[list[Tensor]] = [[] for _ in range(5)]
    for rows in layers:
        gram = rows[part] @ rows.T
        blocks = gram.view(-1, tokens, len(rows) // tokens, tokens)
        own = torch.arange(len(blocks))
        blocks[own, :, first + own] = 0
        by_example = blocks.sum(3)
        whole = by_example.sum(1)
        for each, values in zip(found, (gram, gram.sum(1), by_example, whole.sum(1), whole), strict=True):
            each.append(values.reshape(-1))
    return [torch.stack(each) for each in found]


_EPSILON = torch.finfo(torch.float32).eps


def _variation(own: Tensor, square: Tensor, noise: Tensor) -> Tensor:
    """Return a layer's HSIC with itself, 0 where rounding may be all there is: constant features, or a single row varies."""
    return torch.where(own <= noise + 16 * _EPSILON * square, 0, own)


def _u_centred(square: Tensor, rows: Tensor, total: Tensor, b: int) -> Tensor:
    """Compute ⟨K, L⟩ of U-centred Grams from those of zero-diagonal ones: ⟨K, L⟩, s·z and SZ."""
    return square - 2 / (b - 2) * rows + total / ((b - 1) * (b - 2))
