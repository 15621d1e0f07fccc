"""Linear CKA of two streams of rows in one pass, exact, without a Gram matrix.

Mental model. With centred rows x (n×p) and y (n×q), r_i = |x_i|², s_i = |y_i|², the debiased HSIC is

    n(n−3)·HSIC₁(x, y) = |xᵀy|²_F − n/(n−2) Σ r_i s_i + (Σr)(Σs) / ((n−1)(n−2))

(Song et al. 2012, eq. 4, for linear kernels and written in feature space), and CKA is its correlation:
HSIC₁(x, y) / √(HSIC₁(x, x)·HSIC₁(y, y)) (Kornblith et al. 2019). Three pairs are needed: xx, yy and xy.

Each pair keeps the sums of rows *not yet centred* (:class:`_Sums`), of total degree four at most, and one
operation does all the rest: :meth:`_Sums.shifted` gives the sums of x + d, y + e from those of x, y. Shifting
by minus the mean centres; shifting by the difference of two pilots makes two accumulators mergeable.

Numerics. Rows are first taken relative to a pilot, the mean of the first chunk, because Σ(x − mean)² from
Σx² would lose what a massive common component drowns. Products of a chunk run in the rows' precision
(float32 GEMM; float64 if the rows are), every sum is kept in float64. Rows are buffered to whole chunks, so
the result does not depend on how the stream was cut into batches. Nothing is clamped: a debiased CKA of
unrelated data scatters around 0 and is negative half of the time, and cutting that off would bias it.
"""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: Rows of one GEMM: long enough to be fast, short enough that float32 sums inside it stay accurate.
CHUNK = 1024


class Estimate(NamedTuple):
    """A number, or NaN and the reason why there is none."""

    value: float
    reason: str | None = None


@dataclass
class _Sums:
    """Sums over rows (x, y), where a = |x|² and b = |y|². All float64."""

    n: int
    x: Float[Tensor, " p"]
    y: Float[Tensor, " q"]
    xy: Float[Tensor, "p q"]
    a: Float[Tensor, ""]
    b: Float[Tensor, ""]
    ab: Float[Tensor, ""]
    ay: Float[Tensor, " q"]
    bx: Float[Tensor, " p"]

    @staticmethod
    def of(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> "_Sums":
        """Of one chunk: the matrix product in the rows' precision, all vectors and scalars in float64."""
        xd, yd = x.double(), y.double()
        a, b = xd.square().sum(1), yd.square().sum(1)
        return _Sums(
            len(x), xd.sum(0), yd.sum(0), (x.T @ y).double(), a.sum(), b.sum(), a @ b, a @ yd, b @ xd
        )  # fmt: skip

    def add_(self, other: "_Sums") -> None:
        self.n += other.n
        for name in ("x", "y", "xy", "a", "b", "ab", "ay", "bx"):
            getattr(self, name).add_(getattr(other, name))

    def shifted(self, d: Float[Tensor, " p"], e: Float[Tensor, " q"]) -> "_Sums":
        """The sums of the rows (x + d, y + e): |x+d|² = a + 2x·d + |d|², expanded in every product."""
        n, dd, ee = self.n, d @ d, e @ e
        dx, ey = d @ self.x, e @ self.y  # Σ d·x, Σ e·y
        xy_e, d_xy = self.xy @ e, d @ self.xy  # Σ x (y·e), Σ (d·x) y
        return _Sums(
            n=n,
            x=self.x + n * d,
            y=self.y + n * e,
            xy=self.xy + torch.outer(self.x, e) + torch.outer(d, self.y + n * e),
            a=self.a + 2 * dx + n * dd,
            b=self.b + 2 * ey + n * ee,
            ab=self.ab
            + 2 * (e @ self.ay) + ee * self.a
            + 2 * (d @ self.bx) + dd * self.b
            + 4 * (d_xy @ e) + 2 * ee * dx + 2 * dd * ey + n * dd * ee,
            ay=self.ay + 2 * d_xy + dd * self.y + (self.a + 2 * dx + n * dd) * e,
            bx=self.bx + 2 * xy_e + ee * self.x + (self.b + 2 * ey + n * ee) * d,
        )  # fmt: skip

    def centred(self) -> "_Sums":
        return self.shifted(-self.x / self.n, -self.y / self.n)

    def hsic(self, debiased: bool) -> float:
        """n(n−3)·HSIC₁ (debiased) or |xᵀy|²_F (biased) of *centred* sums; the factors cancel in CKA."""
        square = self.xy.square().sum()
        if not debiased:
            return square.item()
        n = self.n
        return (square - n / (n - 2) * self.ab + self.a * self.b / ((n - 1) * (n - 2))).item()


class PairMoments:
    """Everything that the CKA of two streams of paired rows needs; see the module's docstring.

    >>> moments = PairMoments()
    >>> for x, y in batches:             # [rows, p], [rows, q]
    ...     moments.update(x, y)
    >>> moments.cka()                    # debiased; NaN where undefined: moments.estimate().reason says why

    Memory: p² + q² + pq float64 numbers, and a chunk of rows.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._pilot: list[Tensor] = []  # of x and of y; float64, but representable in the rows' precision
        self._sums: dict[str, _Sums] = {}
        self._epsilon = 0.0  # of the least precise rows seen

    @property
    def n(self) -> int:
        """Rows seen."""
        return (self._sums["xy"].n if self._sums else 0) + sum(len(x) for x, _ in self._waiting)

    def update(self, x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> None:
        """Add paired rows. Half precision is computed in float32."""
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise ValueError(
                f"expected two matrices with equally many rows, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        kind = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
        if len(x):
            self._epsilon = max(self._epsilon, torch.finfo(kind).eps)
            # A copy: the caller may reuse its buffer before the chunk is full.
            self._waiting.append((x.detach().to(kind, copy=True), y.detach().to(kind, copy=True)))
            self._flush(whole_chunks_only=True)

    def merge(self, other: "PairMoments") -> None:
        """Add all rows of another accumulator, whatever its pilot."""
        other._flush()
        self._flush()
        if not other._sums:
            return
        self._epsilon = max(self._epsilon, other._epsilon)
        if not self._sums:
            self._pilot, self._sums = list(other._pilot), copy.deepcopy(other._sums)
            return
        move = [theirs - mine for theirs, mine in zip(other._pilot, self._pilot, strict=True)]
        for pair, i, j in _PAIRS:
            self._sums[pair].add_(other._sums[pair].shifted(move[i], move[j]))

    def cka(self, debiased: bool = True) -> float:
        """Linear CKA, debiased by default; NaN where it is undefined."""
        return self.estimate(debiased).value

    def estimate(self, debiased: bool = True) -> Estimate:
        """:meth:`cka` with the reason if it is undefined."""
        self._flush()
        least = 4 if debiased else 2
        if self.n < least:
            return Estimate(
                math.nan, f"{self.n} rows; {'debiased ' if debiased else ''}CKA needs at least {least}"
            )
        hsic = {}
        for pair, i, j in _PAIRS:
            sums = self._sums[pair]
            centred = sums.centred()
            hsic[pair] = centred.hsic(debiased)
            if i != j:
                continue
            side = "first" if i == 0 else "second"
            total = centred.a.item()
            if not math.isfinite(total):
                return Estimate(math.nan, f"the {side} side's rows are not finite")
            if total <= self.n * rounding(self._pilot[i] + sums.x / self.n, self._epsilon):
                return Estimate(math.nan, f"the {side} side's features are constant over the {self.n} rows")
            # HSIC₁(x, x) is 0 if all rows but one are equal; what rounding leaves of it is no denominator.
            if hsic[pair] <= 16 * self._epsilon * centred.xy.square().sum().item():
                return Estimate(math.nan, f"the {side} side varies in a single row only")
        return Estimate(hsic["xy"] / math.sqrt(hsic["xx"] * hsic["yy"]))

    def hsic(self, debiased: bool = True) -> tuple[float, float, float]:
        """HSIC of (x, y), (x, x), (y, y): HSIC₁, or biased, divided by (n−1)². NaN below n = 4 (2)."""
        self._flush()
        n = self.n
        if n < (4 if debiased else 2):
            return math.nan, math.nan, math.nan
        scale = n * (n - 3) if debiased else (n - 1) ** 2
        xy, xx, yy = (self._sums[pair].centred().hsic(debiased) / scale for pair in ("xy", "xx", "yy"))
        return xy, xx, yy

    # -- buffering -----------------------------------------------------------------------------------------

    def _flush(self, whole_chunks_only: bool = False) -> None:
        waiting = sum(len(x) for x, _ in self._waiting)
        if waiting == 0 or (whole_chunks_only and waiting < self.chunk):
            return
        x, y = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        whole = waiting - waiting % self.chunk if whole_chunks_only else waiting
        self._waiting = [(x[whole:].clone(), y[whole:].clone())] if whole < waiting else []
        for start in range(0, whole, self.chunk):
            self._add(x[start : min(start + self.chunk, whole)], y[start : min(start + self.chunk, whole)])

    def _add(self, x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> None:
        if not self._pilot:
            self._pilot = [rows.double().mean(0).to(rows.dtype).double() for rows in (x, y)]
        sides = [rows - pilot.to(rows.dtype) for rows, pilot in zip((x, y), self._pilot, strict=True)]
        for pair, i, j in _PAIRS:
            new = _Sums.of(sides[i], sides[j])
            if pair in self._sums:
                self._sums[pair].add_(new)
            else:
                self._sums[pair] = new


_PAIRS = (("xx", 0, 0), ("yy", 1, 1), ("xy", 0, 1))


def rounding(mean: Float[Tensor, " p"], epsilon: float) -> float:
    """Squared deviation of a row that rounding alone can cause: features that vary less are constant."""
    return (4 * epsilon) ** 2 * mean.square().sum().item()
