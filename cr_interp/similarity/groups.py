"""Example-level debiased CKA: only rows of distinct examples are compared.

Mental model. Row-level CKA treats every row as a draw of its own. Tokens of one response are not: they resemble each
other in both views, which alone makes the CKA of unrelated views 0.2–0.8. So the U-statistic is taken over distinct
*examples*, averaging over their tokens. With G examples of t tokens, rows centred, C = XᵀY, S and R the sums of each
example, ρ_i = x_i·S_g(i), σ_i = y_i·R_g(i), A = SSᵀ and B = RRᵀ with zero diagonal, G_k = G(G−1)…(G−k+1):

    t1 = ‖C‖² − Σ_g ‖X_gᵀY_g‖²     t3 = 2ρ·σ − ⟨C, SᵀR⟩     t4 = ΣA·ΣB − 4(A1)·(B1) + 2Σ(A∘B)
    HSIC = t1/(t²G₂) − 2·t3/(t³G₃) + t4/(t⁴G₄)

(Song et al. 2012 with an example in the place of a row). With one token an example it is row-level CKA. t is fixed before
anything is measured, for all arms, seeds and layers of a study alike (:func:`tokens_each`): longer examples give t evenly spaced
tokens, the first and the last among them, shorter ones are dropped. Were t the shortest length, one answer of a single token
would decide what is measured. Where examples come in clusters that resemble each other, the panel pairs examples of distinct
clusters only (``weighted.py``); maps pair all distinct examples, and are a little higher there.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.moments import Estimate

#: The share of each checkpoint's responses that must have as many tokens as are compared.
LONG_ENOUGH = 0.9

#: Rows whose Gram matrix is affordable for every layer: bounds examples × tokens.
MOST_ROWS = 1024


def tokens_each(lengths: Iterable[Sequence[int]], most_rows: int = MOST_ROWS) -> int:
    """Return the t of a study, from the lengths in tokens of every checkpoint's responses.

    The largest number of tokens that at least 90 % of the responses of *every* checkpoint have, but no more than lets all
    examples fit into ``most_rows`` rows. Responses without a token do not count.

    >>> tokens_each([[5, 5, 5, 6], [4] * 19 + [1]])
    4
    """
    found, examples = [], 1
    for one in lengths:
        counts = sorted(length for length in one if length > 0)
        if counts:
            found.append(counts[int((1 - LONG_ENOUGH) * len(counts) + 1e-9)])
            examples = max(examples, len(counts))
    return max(1, min([*found, most_rows // examples]))


@takes_arrays
def group_cka(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], groups: Int[Tensor, " n"], tokens: int | None = None
) -> Estimate:
    """Compute CKA between examples; ``groups`` says which example each row is of. Computed in float64; never clamped.

    ``tokens`` is t; None: chosen from these groups by the rule of :func:`tokens_each`. NaN with a reason below four examples,
    for rows that are not finite, and where examples do not vary.
    """
    if not len(x) == len(y) == len(groups):
        raise ValueError(
            f"expected a group per pair of rows, got {len(x)} and {len(y)} rows, {len(groups)} groups"
        )
    rows = equal_rows(groups, tokens)
    examples, each = rows.shape
    if examples < 4:
        return Estimate(math.nan, few_examples(examples, each))
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
        scale = (sums @ sums.T).square().sum().item() / (each**4 * examples**2)
        if own <= 1e-12 * scale:
            return Estimate(math.nan, f"the {name} side does not vary between distinct examples")
    return Estimate(xy / math.sqrt(xx * yy))


def few_examples(examples: int, tokens: int, clusters: int | None = None) -> str:
    """Say why there is no example-level value; ``clusters``: how many those examples make."""
    if clusters is not None and examples >= 4:
        return f"{examples} examples are {clusters} clusters; example-level CKA needs at least 4 clusters"
    return f"{examples} examples of at least {tokens} tokens; example-level CKA needs at least 4 examples"


def equal_rows(groups: Int[Tensor, " n"], tokens: int | None = None) -> Int[Tensor, "example token"]:
    """Choose, of every example that has so many tokens, the rows of ``tokens`` of them, evenly spaced."""
    order = torch.argsort(groups, stable=True)
    _, counts = torch.unique(groups, return_counts=True)
    if not len(counts):
        return order.reshape(0, 0)
    tokens = tokens_each([counts.tolist()], len(groups)) if tokens is None else tokens
    starts = (counts.cumsum(0) - counts)[counts >= tokens]
    within = [spaced(count, tokens) for count in counts[counts >= tokens].tolist()]
    return order[starts[:, None] + torch.stack(within)] if within else order.new_zeros(0, tokens)


@lru_cache(maxsize=4096)
def spaced(count: int, tokens: int) -> Int[Tensor, " token"]:
    """Give ``tokens`` evenly spaced places of ``count``, the first and the last among them. Not to be written into."""
    steps = torch.linspace(0, 1, tokens, dtype=torch.float64) if tokens > 1 else torch.zeros(1).double()
    return ((count - 1) * steps).round().long()


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
