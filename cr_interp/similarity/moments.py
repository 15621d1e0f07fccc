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
the result does not depend on how the stream was cut into batches. Where the first chunk's y is close to its x, the sums
are of x and of the movement y − x instead (``close.py``), so that 1 − CKA is right down to its own rounding. Nothing is
clamped: a debiased CKA of unrelated data scatters around 0 and is negative half of the time, and cutting that off would
bias it.
"""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.close import CloseSums

#: Rows of one GEMM: long enough to be fast, short enough that float32 sums inside it stay accurate.
CHUNK = 2048

#: The two sides are close if the movement's variance is below this share of x's.
CLOSE = 0.25


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

    def add_(self, other: "_Sums") -> None:
        """Add in place; sums of a chunk may be float32, which add_ widens without a copy."""
        self.n += other.n
        for name in ("x", "y", "xy", "a", "b", "ab", "ay", "bx"):
            getattr(self, name).add_(getattr(other, name))

    @staticmethod
    def zero(p: int, q: int) -> "_Sums":
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        return _Sums(0, zeros(p), zeros(q), zeros(p, q), zeros(), zeros(), zeros(), zeros(q), zeros(p))

    def shifted(self, d: Float[Tensor, " p"], e: Float[Tensor, " q"]) -> "_Sums":
        """Return the sums of the rows (x + d, y + e): |x+d|² = a + 2x·d + |d|², expanded in every product."""
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
            + 2 * (e @ self.ay)
            + ee * self.a
            + 2 * (d @ self.bx)
            + dd * self.b
            + 4 * (d_xy @ e)
            + 2 * ee * dx
            + 2 * dd * ey
            + n * dd * ee,
            ay=self.ay + 2 * d_xy + dd * self.y + (self.a + 2 * dx + n * dd) * e,
            bx=self.bx + 2 * xy_e + ee * self.x + (self.b + 2 * ey + n * ee) * d,
        )

    def centred(self) -> "_Sums":
        return self.shifted(-self.x / self.n, -self.y / self.n)

    def hsic(self, debiased: bool) -> float:
        """Compute n(n−3)·HSIC₁ (debiased) or |xᵀy|²_F (biased) of *centred* sums; the factors cancel in CKA."""
        square = self.xy.square().sum()
        if not debiased:
            return square.item()
        n = self.n
        return (square - n / (n - 2) * self.ab + self.a * self.b / ((n - 1) * (n - 2))).item()


class PairMoments:
    """Everything that the CKA of two streams of paired rows needs; see the module's docstring.

    >>> generator = torch.Generator().manual_seed(0)
    >>> moments = PairMoments()
    >>> for _ in range(10):                                        # a stream of batches: none of them is kept
    ...     x = torch.randn(100, 8, generator=generator)           # [rows, p]
    ...     moments.update(x, x + torch.randn(100, 8, generator=generator))    # and [rows, q]
    >>> moments.n, round(moments.cka(), 1)                         # debiased
    (1000, 0.5)
    >>> few = PairMoments()
    >>> few.update(x[:3], x[:3])
    >>> few.estimate().reason                                      # why a value is NaN
    '3 rows; debiased CKA needs at least 4'

    Memory: p² + q² + pq float64 numbers, and a chunk of rows.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._pilot: list[Tensor] = []  # of x and of y (or y − x); float64, representable in the rows' precision
        self._sums: dict[str, _Sums] = {}
        self._close: CloseSums | None = None  # instead of them, where y is close to x
        self._rowwise = torch.zeros(3, dtype=torch.float64)  # Σ cos(x, y), Σ |y|/|x|, Σ |y − x|²
        self._work: dict[str, Tensor] = {}  # reused by every chunk: fresh memory costs more than the sums in it
        self._epsilon = 0.0  # of the least precise rows seen

    @property
    def n(self) -> int:
        """Rows seen."""
        return self._counted + sum(len(x) for x, _ in self._waiting)

    @property
    def _counted(self) -> int:
        if self._close is not None:
            return self._close.n
        return self._sums["xy"].n if self._sums else 0

    @takes_arrays
    def update(self, x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> None:
        """Add paired rows. Half precision is computed in float32."""
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise ValueError(
                f"expected two matrices with equally many rows, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        kind = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
        if len(x):
            self._epsilon = max(self._epsilon, torch.finfo(kind).eps)
            x, y = x.detach().to("cpu", kind), y.detach().to("cpu", kind)
            if not self._waiting and len(x) % self.chunk == 0:  # nothing to keep for later, so nothing to copy
                for start in range(0, len(x), self.chunk):
                    self._add(x[start : start + self.chunk], y[start : start + self.chunk])
                return
            # A copy: the caller may reuse its buffer before the chunk is full.
            self._waiting.append((x.clone(), y.clone()))
            self._flush(whole_chunks_only=True)

    def merge(self, other: "PairMoments") -> None:
        """Add all rows of another accumulator, whatever its pilot."""
        other._flush()
        self._flush()
        if not other._counted:
            return
        self._epsilon = max(self._epsilon, other._epsilon)
        if not self._counted:
            self._pilot, self._sums = list(other._pilot), copy.deepcopy(other._sums)
            self._close = copy.deepcopy(other._close)
            self._rowwise = other._rowwise.clone()
            return
        self._rowwise += other._rowwise
        if self._close is not None and other._close is not None:
            move = [theirs - mine for theirs, mine in zip(other._pilot, self._pilot, strict=True)]
            self._close.add_(other._close.shifted(move[0], move[1]))
            return
        (self._pilot, self._sums), (pilot, sums) = self._plain(), other._plain()
        self._close = None
        move = [theirs - mine for theirs, mine in zip(pilot, self._pilot, strict=True)]
        for pair, i, j in _PAIRS:
            self._sums[pair].add_(sums[pair].shifted(move[i], move[j]))

    def _plain(self) -> tuple[list[Tensor], dict[str, _Sums]]:
        """Return the pilots of x and y, and the sums relative to them, whichever way they are kept."""
        if self._close is None:
            return self._pilot, self._sums
        close = self._close
        sum_y, xy, yy, b = close.of_y()
        fourth, sums = close.fourth(), {}
        of = {"x": (close.x, close.forms[0]), "y": (sum_y, b)}
        for pair, product in (("xx", close.xx), ("yy", yy), ("xy", xy)):
            (left, a), (right, c) = of[pair[0]], of[pair[1]]
            # Copies, since sums are added to in place.
            sums[pair] = _Sums(
                close.n, left.clone(), right.clone(), product.clone(), a.clone(), c.clone(), *fourth[pair]
            )
        return [self._pilot[0], self._pilot[0] + self._pilot[1]], sums

    def cka(self, debiased: bool = True) -> float:
        """Compute linear CKA, debiased by default; NaN where it is undefined."""
        return self.estimate(debiased).value

    def estimate(self, debiased: bool = True) -> Estimate:
        """Compute :meth:`cka`, with the reason if it is undefined."""
        self._flush()
        least = 4 if debiased else 2
        if self.n < least:
            return Estimate(
                math.nan, f"{self.n} rows; {'debiased ' if debiased else ''}CKA needs at least {least}"
            )
        hsic = {}
        pilot, plain = self._plain()
        for pair, i, j in _PAIRS:
            sums = plain[pair]
            if i != j and self._close is not None:
                continue  # hsic of xy: below, without cancellation
            centred = sums.centred()
            hsic[pair] = centred.hsic(debiased)
            if i != j:
                continue
            side = "first" if i == 0 else "second"
            total = centred.a.item()
            if not math.isfinite(total):
                return Estimate(math.nan, f"the {side} side's rows are not finite")
            if total <= self.n * rounding(pilot[i] + sums.x / self.n, self._epsilon):
                return Estimate(math.nan, f"the {side} side's features are constant over the {self.n} rows")
            # HSIC₁(x, x) is 0 if all rows but one are equal; what rounding leaves of it is no denominator.
            if hsic[pair] <= 16 * self._epsilon * centred.xy.square().sum().item():
                return Estimate(math.nan, f"the {side} side varies in a single row only")
        if self._close is None:
            return Estimate(hsic["xy"] / math.sqrt(hsic["xx"] * hsic["yy"]))
        own, mixed, moved = self._close.centred().hsics(debiased)
        other, unlike = own + 2 * mixed + moved, own * moved - mixed**2
        if unlike < 0.5 * own * other and own + mixed > 0:
            return Estimate(math.sqrt(1 - max(unlike, 0.0) / (own * other)))
        return Estimate((own + mixed) / math.sqrt(own * other))

    def hsic(self, debiased: bool = True) -> tuple[float, float, float]:
        """Compute HSIC of (x, y), (x, x), (y, y): HSIC₁, or biased, divided by (n−1)². NaN below n = 4 (2)."""
        self._flush()
        n = self.n
        if n < (4 if debiased else 2):
            return math.nan, math.nan, math.nan
        scale = n * (n - 3) if debiased else (n - 1) ** 2
        if self._close is not None:
            own, mixed, moved = self._close.centred().hsics(debiased)
            return (own + mixed) / scale, own / scale, (own + 2 * mixed + moved) / scale
        xy, xx, yy = (self._sums[pair].centred().hsic(debiased) / scale for pair in ("xy", "xx", "yy"))
        return xy, xx, yy

    # -- the other measures ------------------------------------------------------------------------------

    def cosine(self) -> float:
        """Compute the mean over rows of cos(x, y), not centred; needs equal widths."""
        return self.measure("cosine").value

    def norm_ratio(self) -> float:
        """Compute the mean over rows of |y| / |x|, not centred; needs equal widths."""
        return self.measure("norm_ratio").value

    def mean_shift_share(self) -> float:
        """Compute n|mean(y − x)|² / Σ|y − x|²: the share of the movement that is one shift, common to all rows."""
        return self.measure("mean_shift_share").value

    def procrustes(self) -> float:
        """Compute ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F) of centred rows, in [0, 1]: 1 if equal up to a rotation (Williams et al. 2021)."""
        return self.measure("procrustes").value

    def subspace_overlap(self, k: int = 10) -> float:
        """Compute the mean squared cosine of the angles between the k main directions of x and of y; unrelated: k / width."""
        return self.measure("subspace_overlap", k).value

    def measure(self, name: str, k: int = 10) -> Estimate:
        """Compute any of the measures above, or ``cka``, by name, with the reason if it is undefined."""
        if name == "cka":
            return self.estimate()
        if name not in ("cosine", "norm_ratio", "mean_shift_share", "procrustes", "subspace_overlap"):
            raise ValueError(f"unknown measure {name!r}")
        self._flush()
        if not self._counted:
            return Estimate(math.nan, "no rows")
        pilots, plain = self._plain()
        width, other = plain["xy"].xy.shape
        if name != "procrustes" and width != other:
            return Estimate(math.nan, f"the sides have widths {width} and {other}; {name} compares equal ones")
        if name in ("cosine", "norm_ratio"):
            value = self._rowwise[("cosine", "norm_ratio").index(name)].item() / self.n
            return Estimate(value, None if math.isfinite(value) else "some rows have norm 0 or are not finite")
        if name == "mean_shift_share":
            mean = [pilot + plain[pair].x / self.n for pilot, pair in zip(pilots, ("xx", "yy"), strict=True)]
            moved = self._rowwise[2].item()
            if not math.isfinite(moved):
                return Estimate(math.nan, "some rows are not finite")
            if not moved > self.n * sum(rounding(each, self._epsilon) for each in mean):
                return Estimate(math.nan, "the rows do not move")
            return Estimate(self.n * (mean[1] - mean[0]).square().sum().item() / moved)
        centred = {pair: plain[pair].centred() for pair, _, _ in _PAIRS}
        for side, pair, pilot in (("first", "xx", pilots[0]), ("second", "yy", pilots[1])):
            total = centred[pair].a.item()
            if not math.isfinite(total):
                return Estimate(math.nan, f"the {side} side's rows are not finite")
            if total <= self.n * rounding(pilot + plain[pair].x / self.n, self._epsilon):
                return Estimate(math.nan, f"the {side} side's features are constant over the {self.n} rows")
        if name == "procrustes":
            nuclear = torch.linalg.svdvals(centred["xy"].xy).sum()
            return Estimate((nuclear / (centred["xx"].a * centred["yy"].a).sqrt()).item())
        if not 1 <= k <= min(width, self.n - 1):
            return Estimate(math.nan, f"k = {k} main directions of {self.n} rows of width {width} do not exist")
        main = []
        for side, pair in (("first", "xx"), ("second", "yy")):
            variances, directions = torch.linalg.eigh(centred[pair].xy)  # ascending
            if variances[-k] <= 16 * self._epsilon * variances[-1]:  # what is left beyond the rank is rounding
                return Estimate(math.nan, f"the {side} side varies in fewer than {k} directions")
            main.append(directions[:, -k:])
        return Estimate((main[0].T @ main[1]).square().sum().item() / k)

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
        if x.shape[1] == y.shape[1]:
            wide_x, wide_y = (x, y) if x.dtype == y.dtype else (x.double(), y.double())
            moved = torch.sub(wide_y, wide_x, out=self._workspace("moved", wide_x))
            self._rowwise += self._of_rows(wide_x, wide_y, moved)
        if not self._pilot:
            self._begin(x, y, moved if x.shape[1] == y.shape[1] else None)
        first, second = (x, y) if self._close is None else (wide_x, moved)
        sides = [
            torch.sub(rows, pilot.to(rows.dtype), out=self._workspace(f"side {index}", rows))
            for index, (rows, pilot) in enumerate(zip((first, second), self._pilot, strict=True))
        ]
        if self._close is not None:
            self._close.add_(self._close_chunk(*sides))
            return
        # Of every chunk: squared norms a, b; then Σx, Σa·x, Σb·x (and of y) as one thin product each.
        squares = [torch.linalg.vecdot(side, side) for side in sides]
        wide = torch.stack([torch.ones_like(squares[0]), *(square.to(squares[0].dtype) for square in squares)])
        thin = [(wide.to(side.dtype) @ side).double() for side in sides]
        a = [square.double() for square in squares]
        products = self._products(*sides)
        for pair, i, j in _PAIRS:
            chunk = _Sums(
                len(x),
                thin[i][0],
                thin[j][0],
                products[pair],
                a[i].sum(),
                a[j].sum(),
                a[i] @ a[j],
                thin[j][1 + i],
                thin[i][1 + j],
            )
            self._sums[pair].add_(chunk)

    def _begin(self, x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], moved: Tensor | None) -> None:
        """Choose the pilots, and whether y is kept as it is or as its movement from x."""
        self._pilot = [rows.double().mean(0).to(rows.dtype).double() for rows in (x, y)]
        if moved is not None and len(x) > 1 and bool(moved.var(0).sum() < CLOSE * x.var(0).sum()):
            self._pilot[1] = moved.double().mean(0).to(moved.dtype).double()
            self._close = CloseSums.zero(x.shape[1])
            return
        widths = x.shape[1], y.shape[1]
        self._sums = {pair: _Sums.zero(widths[i], widths[j]) for pair, i, j in _PAIRS}

    def _close_chunk(self, x: Float[Tensor, "n p"], d: Float[Tensor, "n p"]) -> CloseSums:
        forms = torch.stack([torch.linalg.vecdot(*pair) for pair in ((x, x), (x, d), (d, d))])
        wide = torch.cat([torch.ones_like(forms[:1]), forms])
        (sum_x, *times_x), (sum_d, *times_d) = ((wide @ side).double() for side in (x, d))
        products, forms = self._products(x, d), forms.double()
        return CloseSums(
            len(x),
            sum_x,
            sum_d,
            products["xx"],
            products["xy"],
            products["yy"],
            forms.sum(1),
            torch.stack(times_x),
            torch.stack(times_d),
            forms @ forms.T,
        )

    def _products(self, first: Float[Tensor, "n p"], second: Float[Tensor, "n q"]) -> dict[str, Tensor]:
        """Return the three products of a chunk, in the rows' precision."""
        found, sides = {}, (first, second)
        for pair, i, j in _PAIRS:
            left, right = sides[i], sides[j]
            if left.dtype != right.dtype:
                left, right = left.double(), right.double()
            product = self._workspace(f"product {pair}", left, (left.shape[1], right.shape[1]))
            if i == j:
                symmetric(left, product)
            else:
                torch.mm(left.T, right, out=product)
            found[pair] = product
        return found

    def _workspace(self, name: str, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        shape = tuple(like.shape) if shape is None else shape
        held = self._work.get(name)
        if held is None or held.dtype != like.dtype or held.shape[1:] != shape[1:] or len(held) < shape[0]:
            held = self._work[name] = torch.empty(shape, dtype=like.dtype)
        return held[: shape[0]]

    @staticmethod
    def _of_rows(
        x: Float[Tensor, "n p"], y: Float[Tensor, "n p"], moved: Float[Tensor, "n p"]
    ) -> Float[Tensor, " three"]:
        """Compute Σ cos, Σ norm ratio, Σ |y − x|² of raw rows; what a row of norm 0 makes undefined is NaN for all."""
        xx, yy, xy = (torch.linalg.vecdot(*pair).double() for pair in ((x, x), (y, y), (x, y)))
        squares = torch.linalg.vecdot(moved, moved).double().sum()
        return torch.stack([(xy / (xx * yy).sqrt()).sum(), (yy / xx).sqrt().sum(), squares])


def symmetric(rows: Float[Tensor, "n p"], out: Float[Tensor, "p p"]) -> None:
    """Write rowsᵀ rows, which is symmetric: three of its four blocks are multiplied, the fourth is copied."""
    half = rows.shape[1] // 2
    torch.mm(rows[:, :half].T, rows, out=out[:half])
    torch.mm(rows[:, half:].T, rows[:, half:], out=out[half:, half:])
    out[half:, :half] = out[:half, half:].T


_PAIRS = (("xx", 0, 0), ("yy", 1, 1), ("xy", 0, 1))


def rounding(mean: Float[Tensor, " p"], epsilon: float) -> float:
    """Return squared deviation of a row that rounding alone can cause: features that vary less are constant."""
    return (4 * epsilon) ** 2 * mean.square().sum().item()
