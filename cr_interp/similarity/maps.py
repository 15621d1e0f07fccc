"""Layer × layer debiased CKA in one pass over the rows.

Mental model. All pairs of L layers would need L² cross products of features. Gram matrices of a mini-batch of b rows
need one each: flattened to [L, b²], a single matrix product holds every ⟨K, L⟩. With rows centred within the batch,
r_i = |x_i|² and s_i = |y_i|²,

    b(b−3)·HSIC₁ = ⟨K, L⟩ − b/(b−2) Σ r_i s_i + (Σr)(Σs) / ((b−1)(b−2))

is what U-centring the Grams would give (Song et al. 2012; for centred rows the row sums of K are zero), without
touching them again. HSIC₁ is unbiased in every batch, so its sums over batches are too, and CKA is the ratio of the
sums; the mean of the batches' ratios would be biased (Nguyen et al. 2021 sum likewise).

Rows are shuffled through a bounded buffer, since neighbours in the stream are tokens of one response.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

#: Mini-batches that the shuffle buffer holds.
BUFFERED = 8


class CkaMapAccumulator:
    """Streams the rows of all layers into a map.

    >>> maps = CkaMapAccumulator(31, 31)
    >>> for layers_x, layers_y in batches:        # a list of [rows, width] per layer; widths may differ
    ...     maps.update(layers_x, layers_y)       # the same list twice: a map within a checkpoint
    >>> maps.finish()                             # [31, 31]; NaN where undefined, and then maps.reason says why
    """

    def __init__(self, n_x: int, n_y: int, batch: int = 256, seed: int = 0) -> None:
        if batch < 4:
            raise ValueError(f"debiased CKA needs at least 4 rows a batch, got {batch}")
        self.batch = batch
        self.n = 0
        self.reason: str | None = None
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[list[Tensor]] = []
        self._rows = 0
        self._xy = torch.zeros(n_x, n_y, dtype=torch.float64)
        self._xx = torch.zeros(n_x, dtype=torch.float64)
        self._yy = torch.zeros(n_y, dtype=torch.float64)
        self._buffer: dict[tuple[str, int], Tensor] = {}

    def update(
        self, layers_x: Sequence[Float[Tensor, "rows ?p"]], layers_y: Sequence[Float[Tensor, "rows ?q"]]
    ) -> None:
        """Add the same rows of all layers of both sides."""
        shape = (len(layers_x), len(layers_y))
        if shape != tuple(self._xy.shape):
            raise ValueError(f"expected {tuple(self._xy.shape)} layers, got {shape}")
        rows = {len(layer) for layer in (*layers_x, *layers_y)}
        if len(rows) != 1:
            raise ValueError(f"expected equally many rows in every layer, got {sorted(rows)}")
        # Within a checkpoint both sides are the same tensors: kept and multiplied once.
        same = all(a is b for a, b in zip(layers_x, layers_y, strict=False)) and shape[0] == shape[1]
        layers = [*layers_x] if same else [*layers_x, *layers_y]
        self._waiting.append([layer.detach().to("cpu", torch.float32, copy=True) for layer in layers])
        (added,) = rows
        self.n += added
        self._rows += added
        if self._rows >= BUFFERED * self.batch:
            self._drain(keep=True)

    def finish(self) -> Float[np.ndarray, "x y"]:
        """The map of all rows so far."""
        self._drain(keep=False)
        self.reason = None
        if self.n < 4:
            self.reason = f"{self.n} rows; debiased CKA needs at least 4"
            return np.full(tuple(self._xy.shape), math.nan)
        defined = (self._xx > 0)[:, None] & (self._yy > 0)[None]
        if not bool(defined.all()):
            self.reason = "features of some layers are constant"
        scale = (self._xx.clamp_min(0)[:, None] * self._yy.clamp_min(0)[None]).sqrt()
        return torch.where(defined, self._xy / scale, torch.nan).numpy()

    def merge(self, other: "CkaMapAccumulator") -> None:
        """Add all that another accumulator has seen."""
        other._drain(keep=False)
        self.n += other.n
        for mine, theirs in ((self._xy, other._xy), (self._xx, other._xx), (self._yy, other._yy)):
            mine.add_(theirs)

    def _drain(self, keep: bool) -> None:
        """Shuffle what waits and take whole batches; at the end all of it, in batches as equal as can be."""
        if not self._waiting:
            return
        layers = [torch.cat(parts) for parts in zip(*self._waiting, strict=True)]
        order = torch.randperm(self._rows, generator=self._generator)
        if keep:
            whole = self._rows - self._rows % self.batch
            parts, rest = list(order[:whole].split(self.batch)), order[whole:]
            self._waiting = [[layer[rest] for layer in layers]] if len(rest) else []
            self._rows = len(rest)
        else:
            # A last batch of a few rows would be noise, so the rest is divided evenly.
            parts = [part for part in order.tensor_split(-(-self._rows // self.batch)) if len(part) >= 4]
            self._waiting, self._rows = [], 0
        for rows in parts:
            self._add([layer[rows] for layer in layers])

    def _add(self, layers: list[Float[Tensor, "b ?p"]]) -> None:
        n_x = len(self._xx)
        left = self._grams("x", layers[:n_x])
        right = left if len(layers) == n_x else self._grams("y", layers[n_x:])
        (k_x, r_x, _), (k_y, r_y, _) = left, right
        b = r_x.shape[1]
        # HSIC₁ times b, so that a smaller last batch counts for its rows.
        weight = b / (b * (b - 3))
        cross = (k_x @ k_y.T).double() - b / (b - 2) * (r_x @ r_y.T)
        self._xy += weight * (cross + torch.outer(r_x.sum(1), r_y.sum(1)) / ((b - 1) * (b - 2)))
        for total, (k, r, noise) in ((self._xx, left), (self._yy, right)):
            square = torch.linalg.vecdot(k, k).double() - b / (b - 2) * r.square().sum(1)
            own = square + r.sum(1).square() / ((b - 1) * (b - 2))
            # What rounding leaves of constant features is no variation.
            total += weight * torch.where(r.sum(1) > b * noise, own, 0)

    def _grams(
        self, side: str, layers: list[Float[Tensor, "b ?p"]]
    ) -> tuple[Float[Tensor, "layer b*b"], Float[Tensor, "layer b"], Float[Tensor, " layer"]]:
        """Flattened Grams of centred rows, their diagonals, and the squared norm that rounding alone can cause."""
        b = len(layers[0])
        key = (side, b)
        if key not in self._buffer:
            self._buffer = {k: v for k, v in self._buffer.items() if k[1] == b}
            self._buffer[key] = torch.empty(len(layers), b, b)
        grams = self._buffer[key]
        noise = torch.empty(len(layers), dtype=torch.float64)
        for index, rows in enumerate(layers):
            mean = rows.mean(0)
            noise[index] = (4 * torch.finfo(torch.float32).eps) ** 2 * mean.double().square().sum()
            rows = rows.sub_(mean)  # a copy of ours: it was gathered for this batch
            torch.mm(rows, rows.T, out=grams[index])
        return grams.view(len(layers), -1), grams.diagonal(dim1=1, dim2=2).double(), noise


def cka_map(
    layers_x: Sequence[Float[Tensor, "n ?p"]],
    layers_y: Sequence[Float[Tensor, "n ?q"]],
    batch: int = 256,
    seed: int = 0,
) -> Float[np.ndarray, "x y"]:
    """Debiased CKA of every layer of one side with every layer of the other, the same rows in all.

    Give one list twice for the map within a checkpoint. NaN where features are constant or n < 4; never clamped.
    """
    maps = CkaMapAccumulator(len(layers_x), len(layers_y), batch, seed)
    step = BUFFERED * batch
    for start in range(0, len(layers_x[0]), step):
        left = [layer[start : start + step] for layer in layers_x]
        right = left if layers_x is layers_y else [layer[start : start + step] for layer in layers_y]
        maps.update(left, right)
    return maps.finish()
