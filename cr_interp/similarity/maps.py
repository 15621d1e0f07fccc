"""Layer × layer debiased CKA in one pass over the rows.

Mental model. All pairs of L layers would need L² cross products of features. Gram matrices of a mini-batch of b rows
need one each: flattened to [L, b²], a single matrix product holds every ⟨K, L⟩. With K and L the Grams with zero
diagonal, s and S the row sums and the sum of K, z and Z those of L,

    b(b−3)·HSIC₁ = ⟨K, L⟩ − 2/(b−2) s·z + SZ / ((b−1)(b−2))

is what U-centring the Grams gives (Song et al. 2012, eq. 4), without touching them again. HSIC₁ is unbiased in every
batch, so its sums over batches are too, and CKA is the ratio of the sums; the mean of the batches' ratios would be
biased (Nguyen et al. 2021 sum likewise).

Rows are shuffled through a bounded buffer, since neighbours in the stream are tokens of one response: every
``BUFFERED`` × batch rows are divided into batches at random. So the map does not depend on how the stream was cut into
updates. What is left at the end is shuffled and divided evenly.

Numerics. Rows are centred within the batch, which takes out a massive common component; the products are float32,
at most ``SLAB`` terms long, and everything else is float64.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Mini-batches that the shuffle buffer holds.
BUFFERED = 8

#: Terms of ⟨K, L⟩ summed in float32 before float64 takes over: 65536 in a row would cost the sixth digit.
SLAB = 8192


class CkaMapAccumulator:
    """Streams the rows of all layers into a map.

    >>> maps = CkaMapAccumulator(31, 31)
    >>> for layers_x, layers_y in batches:        # a list of [rows, width] per layer; widths may differ
    ...     maps.update(layers_x, layers_y)       # the same list twice: a map within a checkpoint
    >>> maps.finish()                             # [31, 31]; NaN where undefined, and then maps.reason says why

    Memory: ``BUFFERED`` × batch rows of each layer, a Gram matrix a layer, and the map.
    """

    def __init__(self, n_x_layers: int, n_y_layers: int, batch: int = 256, seed: int = 0) -> None:
        if batch < 4:
            raise ValueError(f"debiased CKA needs at least 4 rows a batch, got {batch}")
        self.batch = batch
        self.n = 0
        self.reason: str | None = None
        self._shape = (n_x_layers, n_y_layers)
        self._generator = torch.Generator().manual_seed(seed)
        self._sums = _Sums(n_x_layers, n_y_layers)
        self._one_side: bool | None = None  # whether both sides are the same layers; the first update decides
        self._slots: list[
            Float[Tensor, "slot ?width"]
        ] = []  # of x's layers; then of y's, unless they are the same
        self._filled = 0

    def update(
        self, layers_x: Sequence[Float[Tensor, "rows ?p"]], layers_y: Sequence[Float[Tensor, "rows ?q"]]
    ) -> None:
        """Add the same rows of all layers of both sides."""
        shape = (len(layers_x), len(layers_y))
        if shape != self._shape:
            raise ValueError(f"expected {self._shape} layers, got {shape}")
        rows = {len(layer) for layer in (*layers_x, *layers_y)}
        if len(rows) != 1:
            raise ValueError(f"expected equally many rows in every layer, got {sorted(rows)}")
        # Within a checkpoint both sides are the same tensors: kept and multiplied once.
        same = shape[0] == shape[1] and all(a is b for a, b in zip(layers_x, layers_y, strict=True))
        if self._one_side is None:
            self._one_side = same
        elif self._one_side and not same:
            raise ValueError("earlier updates gave the same layers on both sides, and this one does not")
        (count,) = rows
        layers = [layer.detach() for layer in (layers_x if self._one_side else [*layers_x, *layers_y])]
        self.n += count
        start = 0
        while start < count:
            if not self._filled and count - start >= self._capacity:  # a whole block: no need to keep a copy
                self._take([layer[start : start + self._capacity] for layer in layers])
                start += self._capacity
                continue
            if not self._slots:
                self._slots = [torch.empty(self._capacity, layer.shape[1]) for layer in layers]
            size = min(count - start, self._capacity - self._filled)
            for slots, layer in zip(self._slots, layers, strict=True):
                slots[self._filled : self._filled + size].copy_(layer[start : start + size])
            self._filled += size
            start += size
            if self._filled == self._capacity:
                self._take(self._slots)
                self._filled = 0

    def finish(self) -> Float[np.ndarray, "x y"]:
        """The map of all rows so far; the stream may go on."""
        self.reason = None
        if self.n < 4:
            self.reason = f"{self.n} rows; debiased CKA needs at least 4"
            return np.full(self._shape, math.nan)
        sums = self._total()
        reasons = []
        for side, own in (("first", sums.xx), ("second", sums.yy)):
            for words, where in (("constant", own <= 0), ("not finite", ~own.isfinite())):
                if bool(where.any()):
                    reasons.append(f"layers {where.nonzero().flatten().tolist()} of the {side} side are {words}")
        self.reason = "; ".join(reasons) or None
        defined = (sums.xx > 0)[:, None] & (sums.yy > 0)[None]
        scale = (sums.xx[:, None] * sums.yy[None]).clamp_min(0).sqrt()
        return torch.where(defined, sums.xy / scale, torch.nan).numpy()

    def merge(self, other: "CkaMapAccumulator") -> None:
        """Add all that another accumulator has seen; rows still in its buffer are batched among themselves."""
        if other._shape != self._shape:
            raise ValueError(f"expected a map of shape {self._shape}, got {other._shape}")
        self.n += other.n
        self._sums.add_(other._total())

    @property
    def _capacity(self) -> int:
        return BUFFERED * self.batch

    def _take(self, block: list[Float[Tensor, "row ?width"]]) -> None:
        """Add a block of rows in random batches."""
        for part in torch.randperm(self._capacity, generator=self._generator).split(self.batch):
            self._sums.add(block, part)

    def _total(self) -> "_Sums":
        """The sums with what is still in the buffer, in batches as equal as can be: a batch of few is all noise."""
        total = copy.deepcopy(self._sums)
        if self._filled:
            generator = torch.Generator()
            generator.set_state(self._generator.get_state())  # reading must not disturb the stream
            order = torch.randperm(self._filled, generator=generator)
            for part in order.tensor_split(-(-self._filled // self.batch)):
                if len(part) >= 4:
                    total.add(self._slots, part)
        return total


class _Sums:
    """Σ over batches of HSIC₁ × rows, of every pair (xy) and of every layer with itself; all float64."""

    def __init__(self, n_x: int, n_y: int) -> None:
        self.xy = torch.zeros(n_x, n_y, dtype=torch.float64)
        self.xx = torch.zeros(n_x, dtype=torch.float64)
        self.yy = torch.zeros(n_y, dtype=torch.float64)
        self._work: dict[str, Tensor] = {}  # reused by every batch: fresh memory costs more than the sums in it

    def __deepcopy__(self, memo: dict) -> "_Sums":
        return _Sums(*self.xy.shape).add_(self)

    def add_(self, other: "_Sums") -> "_Sums":
        self.xy += other.xy
        self.xx += other.xx
        self.yy += other.yy
        return self

    def add(self, slots: list[Float[Tensor, "slot ?width"]], chosen: Int[Tensor, " b"]) -> None:
        """Add one batch: the chosen slots of every layer."""
        n_x, b = len(self.xx), len(chosen)
        left = self._grams("x", slots[:n_x], chosen)
        right = left if len(slots) == n_x else self._grams("y", slots[n_x:], chosen)
        (k, s, noise), (l, z, _) = left, right  # noqa: E741
        square = _products(k, l, b)
        if left is right:
            square = (square + square.T) / 2
        # HSIC₁ times b, so that a smaller last batch counts for its rows.
        cross = _u_centred(square, s @ z.T, torch.outer(s.sum(1), z.sum(1)), b)
        self.xy += cross / (b - 3)
        if left is right:  # from the map itself: no second pass, and its diagonal is 1 to the last bit
            own = _variation(cross.diagonal(), square.diagonal(), noise) / (b - 3)
            self.xx += own
            self.yy += own
            return
        for total, (gram, sums, error) in ((self.xx, left), (self.yy, right)):
            squares = _squares(gram, b)
            own = _u_centred(squares, sums.square().sum(1), sums.sum(1).square(), b)
            total += _variation(own, squares, error) / (b - 3)

    def _grams(
        self, side: str, slots: list[Float[Tensor, "slot ?width"]], chosen: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "layer entries"], Float[Tensor, "layer b"], Float[Tensor, " layer"]]:
        """Grams of centred rows with zero diagonals, their row sums, and the HSIC of rounding errors.

        A Gram matrix is symmetric, so a quarter of it is left out: the rows are halved, and kept are the two
        diagonal blocks and one of the two off-diagonal ones (see :func:`_products`).
        """
        b, h = len(chosen), _half(len(chosen))
        grams = self._workspace(f"gram {side}", len(slots), _entries(b))
        upper, lower, across = _blocks(grams, b)
        noise = torch.empty(len(slots), dtype=torch.float64)
        for index, layer in enumerate(slots):
            rows = self._workspace("rows", b, layer.shape[1])
            if layer.dtype == rows.dtype and layer.device == rows.device:
                torch.index_select(layer, 0, chosen, out=rows)
            else:
                rows.copy_(layer.index_select(0, chosen.to(layer.device)))
            # As a product, which is faster than mean(0); what rounding leaves of the mean, U-centring takes out.
            mean = (torch.full((1, b), 1 / b) @ rows)[0]
            rows.sub_(mean)
            torch.mm(rows[:h], rows[:h].T, out=upper[index])
            torch.mm(rows[h:], rows[h:].T, out=lower[index])
            torch.mm(rows[:h], rows[h:].T, out=across[index])
            error = (
                4 * _EPSILON
            ) ** 2 * mean.double().square().sum()  # |·|² of a row that rounding alone can cause
            noise[index] = b * error**2 * b
        upper.diagonal(dim1=1, dim2=2).zero_()
        lower.diagonal(dim1=1, dim2=2).zero_()
        sums = torch.cat([upper.sum(2) + across.sum(2), lower.sum(2) + across.sum(1)], dim=1)
        return grams, sums.double(), noise

    def _workspace(self, name: str, *shape: int) -> Tensor:
        held = self._work.get(name)
        if held is None or held.numel() < math.prod(shape):
            held = self._work[name] = torch.empty(math.prod(shape))
        return held[: math.prod(shape)].view(shape)


_EPSILON = torch.finfo(torch.float32).eps


def _half(b: int) -> int:
    return b // 2


def _entries(b: int) -> int:
    """Entries of a Gram matrix that are kept: three of its four blocks."""
    h = _half(b)
    return h * h + (b - h) * (b - h) + h * (b - h)


def _blocks(grams: Float[Tensor, "layer entries"], b: int) -> tuple[Tensor, Tensor, Tensor]:
    """The kept blocks as views: [layer, h, h], [layer, b − h, b − h], [layer, h, b − h]."""
    h = _half(b)
    upper, lower, across = grams.split([h * h, (b - h) * (b - h), h * (b - h)], dim=1)
    n = len(grams)
    return upper.view(n, h, h), lower.view(n, b - h, b - h), across.view(n, h, b - h)


def _slabs(b: int) -> Iterator[tuple[slice, int]]:
    """Runs of kept entries of at most ``SLAB``, and how often each entry occurs in the whole matrix."""
    twice = _entries(b) - _half(b) * (
        b - _half(b)
    )  # from here on, the block that stands for its mirror image too
    for first, last, times in ((0, twice, 1), (twice, _entries(b), 2)):
        for start in range(first, last, SLAB):
            yield slice(start, min(start + SLAB, last)), times


def _products(k: Float[Tensor, "x entries"], l: Float[Tensor, "y entries"], b: int) -> Float[Tensor, "x y"]:  # noqa: E741
    """⟨K, L⟩ of whole matrices from their kept blocks, float64 between slabs."""
    total = torch.zeros(len(k), len(l), dtype=torch.float64)
    for slab, times in _slabs(b):
        total.add_(k[:, slab] @ l[:, slab].T, alpha=times)
    return total


def _squares(grams: Float[Tensor, "layer entries"], b: int) -> Float[Tensor, " layer"]:
    """‖K‖² of whole matrices from their kept blocks."""
    total = torch.zeros(len(grams), dtype=torch.float64)
    for slab, times in _slabs(b):
        total.add_(torch.linalg.vector_norm(grams[:, slab], dim=1).double().square(), alpha=times)
    return total


def _variation(own: Tensor, square: Tensor, noise: Tensor) -> Tensor:
    """A layer's HSIC with itself, 0 where rounding may be all there is: constant features, or a single row varies."""
    return torch.where(own <= noise + 16 * _EPSILON * square, 0, own)


def _u_centred(square: Tensor, rows: Tensor, total: Tensor, b: int) -> Tensor:
    """⟨K, L⟩ of U-centred Grams from those of zero-diagonal ones: ⟨K, L⟩, s·z and SZ."""
    return square - 2 / (b - 2) * rows + total / ((b - 1) * (b - 2))


def cka_map(
    layers_x: Sequence[Float[Tensor, "n ?p"]],
    layers_y: Sequence[Float[Tensor, "n ?q"]],
    batch: int = 256,
    seed: int = 0,
) -> Float[np.ndarray, "x y"]:
    """Debiased CKA of every layer of one side with every layer of the other, the same rows in all.

    Give one list twice for the map within a checkpoint. NaN where features are constant or n < 4; never clamped.
    The reasons are those of :class:`CkaMapAccumulator`.
    """
    maps = CkaMapAccumulator(len(layers_x), len(layers_y), batch, seed)
    maps.update(layers_x, layers_y)
    return maps.finish()
