"""Example-level debiased CKA: only rows of distinct examples are compared.

Mental model. Row-level CKA treats every row as a draw of its own. Tokens of one response are not: they resemble each
other in both views, which alone makes the CKA of unrelated views 0.2–0.8. So the U-statistic is taken over distinct
*examples*, averaging over their tokens. With G examples of t tokens, rows centred, C = XᵀY, S and R the sums of each
example, ρ_i = x_i·S_g(i), σ_i = y_i·R_g(i), A = SSᵀ and B = RRᵀ with zero diagonal, G_k = G(G−1)…(G−k+1):

    t1 = ‖C‖² − Σ_g ‖X_gᵀY_g‖²     t3 = 2ρ·σ − ⟨C, SᵀR⟩     t4 = ΣA·ΣB − 4(A1)·(B1) + 2Σ(A∘B)
    HSIC = t1/(t²G₂) − 2·t3/(t³G₃) + t4/(t⁴G₄)

(Song et al. 2012 with an example in the place of a row). With one token an example it is row-level CKA. Examples with
more tokens than the shortest give evenly spaced ones, the first and the last among them.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.moments import Estimate


def group_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], groups: Int[Tensor, " n"]) -> Estimate:
    """CKA between examples; ``groups`` says which example each row is of. Computed in float64; never clamped.

    NaN with a reason below four examples, for rows that are not finite, and where examples do not vary.
    """
    if not len(x) == len(y) == len(groups):
        raise ValueError(
            f"expected a group per pair of rows, got {len(x)} and {len(y)} rows, {len(groups)} groups"
        )
    rows = equal_rows(groups)
    examples, tokens = rows.shape
    if examples < 4:
        return Estimate(math.nan, f"{examples} examples; example-level CKA needs at least 4")
    sides = [side.double()[rows] for side in (x, y)]
    for name, side in zip(("first", "second"), sides, strict=True):
        if not bool(side.isfinite().all()):
            return Estimate(math.nan, f"the {name} side's rows are not finite")
    sides = [side - side.mean((0, 1)) for side in sides]
    eps = max(torch.finfo(side.dtype).eps for side in (x, y))
    for name, side, raw in zip(("first", "second"), sides, (x, y), strict=True):
        if side.square().sum() <= side.numel() * (4 * eps * raw.double().abs().max()) ** 2:
            return Estimate(math.nan, f"the {name} side's features are constant over the examples")
    xy, xx, yy = (_hsic(sides[i], sides[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    for name, own, side in (("first", xx, sides[0]), ("second", yy, sides[1])):
        # Not positive if examples do not differ beyond their tokens; what rounding leaves of 0 is no denominator.
        sums = side.sum(1)
        scale = (sums @ sums.T).square().sum().item() / (tokens**4 * examples**2)
        if own <= 1e-12 * scale:
            return Estimate(math.nan, f"the {name} side does not vary between distinct examples")
    return Estimate(xy / math.sqrt(xx * yy))


def equal_rows(groups: Int[Tensor, " n"]) -> Int[Tensor, "example token"]:
    """For every example the rows of equally many of its tokens: as many as the shortest has, evenly spaced."""
    order = torch.argsort(groups, stable=True)
    _, counts = torch.unique(groups, return_counts=True)
    if not len(counts):
        return order.reshape(0, 0)
    tokens = int(counts.min())
    starts = counts.cumsum(0) - counts
    steps = (
        torch.linspace(0, 1, tokens, dtype=torch.float64) if tokens > 1 else torch.zeros(1, dtype=torch.float64)
    )
    within = ((counts[:, None] - 1) * steps).round().long()
    return order[starts[:, None] + within]


def _hsic(x: Float[Tensor, "g t p"], y: Float[Tensor, "g t q"]) -> float:
    g, t = x.shape[:2]
    c = x.flatten(0, 1).T @ y.flatten(0, 1)
    s, r = x.sum(1), y.sum(1)
    # Example by example: all token Grams at once would take g·t² numbers.
    within = torch.stack([((x[i] @ x[i].T) * (y[i] @ y[i].T)).sum() for i in range(g)]).sum()
    t1 = c.square().sum() - within
    rho, sigma = torch.einsum("gtp,gp->gt", x, s), torch.einsum("gtq,gq->gt", y, r)
    t3 = 2 * (rho * sigma).sum() - (c * (s.T @ r)).sum()
    a, b = (s @ s.T).fill_diagonal_(0), (r @ r.T).fill_diagonal_(0)
    t4 = a.sum() * b.sum() - 4 * (a.sum(1) @ b.sum(1)) + 2 * (a * b).sum()
    g2, g3, g4 = g * (g - 1), g * (g - 1) * (g - 2), g * (g - 1) * (g - 2) * (g - 3)
    return (t1 / (t**2 * g2) - 2 * t3 / (t**3 * g3) + t4 / (t**4 * g4)).item()
