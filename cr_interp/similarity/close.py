"""Sums of two streams whose rows are close: from x and the movement d = y − x, so that 1 − CKA keeps its digits.

Mental model. Where y is almost x, HSIC(x, y), HSIC(x, x) and HSIC(y, y) agree in all digits that a float32 product has, and
1 − CKA is what rounding left. With the Gram matrices K of x and K + E of y, and g = h(K, E), f = h(E, E) for the HSIC h, which is
linear in each argument,

    1 − CKA² = (h(K, K)·f − g²) / (h(K, K)·(h(K, K) + 2g + f))

in which g and f are as small as the movement, so their relative error is that of a product. E = XDᵀ + DXᵀ + DDᵀ, hence with
C = XᵀX, M = XᵀD, N = DᵀD (centred)

    ⟨K, E⟩ = 2⟨C, M⟩ + ‖M‖²      ⟨E, E⟩ = 2⟨C, N⟩ + 2⟨M, Mᵀ⟩ + 4⟨M, N⟩ + ‖N‖²

and the diagonals of K and E are r = |x|² and 2m + c with m = x·d, c = |d|². As in ``moments.py`` all is kept for rows relative to
a pilot and shifted afterwards: a row z = (x, d), and r, m, c are quadratic forms of it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Coefficients of r, m, c in |x|², and in |x + d|² = r + 2m + c, and their difference.
_OF_X, _OF_Y, _MOVED = ((1.0, 0.0, 0.0), (1.0, 2.0, 1.0), (0.0, 2.0, 1.0))


@dataclass
class CloseSums:
    """Sums over rows (x, d). All float64."""

    n: int
    x: Float[Tensor, " p"]
    d: Float[Tensor, " p"]
    xx: Float[Tensor, "p p"]
    xd: Float[Tensor, "p p"]
    dd: Float[Tensor, "p p"]
    forms: Float[Tensor, "3"]
    """Σr, Σm, Σc."""
    times_x: Float[Tensor, "3 p"]
    """Σr·x, Σm·x, Σc·x."""
    times_d: Float[Tensor, "3 p"]
    pairs: Float[Tensor, "3 3"]
    """Σ of the products of r, m and c."""

    @staticmethod
    def zero(p: int) -> "CloseSums":
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        return CloseSums(
            0,
            zeros(p),
            zeros(p),
            zeros(p, p),
            zeros(p, p),
            zeros(p, p),
            zeros(3),
            zeros(3, p),
            zeros(3, p),
            zeros(3, 3),
        )

    def add_(self, other: "CloseSums") -> None:
        """Add in place; sums of a chunk may be float32, which add_ widens without a copy."""
        self.n += other.n
        for name in ("x", "d", "xx", "xd", "dd", "forms", "times_x", "times_d", "pairs"):
            getattr(self, name).add_(getattr(other, name))

    def shifted(self, u: Float[Tensor, " p"], v: Float[Tensor, " p"]) -> "CloseSums":
        """Return the sums of the rows (x + u, d + v): a form q(z) becomes q(z) + b·z + k, expanded in every product."""
        n, zero = self.n, torch.zeros_like(u)
        of_x, of_d = torch.stack([2 * u, v, zero]), torch.stack([zero, u, 2 * v])  # b of r, m, c
        k = torch.stack([u @ u, u @ v, v @ v])
        linear = of_x @ self.x + of_d @ self.d  # Σ b·z
        z_x, z_d = of_x @ self.xx + of_d @ self.xd.T, of_x @ self.xd + of_d @ self.dd  # b'·Σzz'
        forms = self.forms + linear + n * k
        crossed = of_x @ self.times_x.T + of_d @ self.times_d.T  # b of one, form of the other
        pairs = self.pairs + crossed + crossed.T + z_x @ of_x.T + z_d @ of_d.T
        rest = torch.outer(self.forms + linear, k)
        return CloseSums(
            n=n,
            x=self.x + n * u,
            d=self.d + n * v,
            xx=self.xx + torch.outer(self.x, u) + torch.outer(u, self.x + n * u),
            xd=self.xd + torch.outer(self.x, v) + torch.outer(u, self.d + n * v),
            dd=self.dd + torch.outer(self.d, v) + torch.outer(v, self.d + n * v),
            forms=forms,
            times_x=self.times_x + z_x + torch.outer(k, self.x) + torch.outer(forms, u),
            times_d=self.times_d + z_d + torch.outer(k, self.d) + torch.outer(forms, v),
            pairs=pairs + rest + rest.T + n * torch.outer(k, k),
        )

    def centred(self) -> "CloseSums":
        return self.shifted(-self.x / self.n, -self.d / self.n)

    def hsics(self, debiased: bool) -> tuple[float, float, float]:
        """Compute h(K, K), h(K, E), h(E, E) of *centred* sums, in the scale of ``moments.py``."""
        c, m, nn = self.xx, self.xd, self.dd
        squares = (
            c.square().sum(),
            2 * (c * m).sum() + m.square().sum(),
            2 * (c * nn).sum() + 2 * (m * m.T).sum() + 4 * (m * nn).sum() + nn.square().sum(),
        )
        if not debiased:
            return squares[0].item(), squares[1].item(), squares[2].item()
        n = self.n
        found = []
        for square, one, other in zip(squares, (_OF_X, _OF_X, _MOVED), (_OF_X, _MOVED, _MOVED), strict=True):
            a, b = (torch.tensor(side, dtype=torch.float64) for side in (one, other))
            totals = (a @ self.forms) * (b @ self.forms)
            value = square - n / (n - 2) * (a @ self.pairs @ b) + totals / ((n - 1) * (n - 2))
            found.append(value.item())
        return found[0], found[1], found[2]

    def of_y(self) -> tuple[Tensor, ...]:
        """Turn sums of x and d into those of y = x + d: Σy, Σxyᵀ, Σyyᵀ, Σ|y|²."""
        y = torch.tensor(_OF_Y, dtype=torch.float64)
        return self.x + self.d, self.xx + self.xd, self.xx + self.xd + self.xd.T + self.dd, y @ self.forms

    def fourth(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return per pair (a, b) of x, y: Σ|a|²|b|², Σ|a|²·b and Σ|b|²·a."""
        of = {"x": torch.tensor(_OF_X, dtype=torch.float64), "y": torch.tensor(_OF_Y, dtype=torch.float64)}
        times = {"x": self.times_x, "y": self.times_x + self.times_d}
        return {
            a + b: (of[a] @ self.pairs @ of[b], of[a] @ times[b], of[b] @ times[a])
            for a, b in (("x", "x"), ("y", "y"), ("x", "y"))
        }
