"""How much of the movement is one shift, common to all tokens: debiased, over distinct units.

Mental model. d = y − x. The squared length of the *mean* movement, |Σd|²/n², holds every movement's own length as well, and is
above 0 by 1/n where nothing is common. Pairs of movements of different units (examples, or clusters of them) are free
of that: with D_u the sum over the n_u tokens of a unit,

    share = Σ_{u≠v} D_u·D_v / Σ_{u≠v} n_u n_v   over   Σ|d|² / n

1 where all tokens move alike, 0 in expectation where units move independently; then it is negative half of the time, and not
clamped. A unit that a bootstrap draws twice never meets its own copy.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def shift_share(
    sums: Float[Tensor, "unit width"],
    tokens: Float[Tensor, " unit"],
    squares: Float[Tensor, " unit"],
    weights: Float[Tensor, "replicates unit"],
) -> Float[Tensor, " replicates"]:
    """Compute the share per replicate, unit u counting ``weights[:, u]`` times: of Σd, the number of tokens and Σ|d|² per
    unit.

    NaN with fewer than two distinct units, and where nothing moves.
    """
    w2 = weights.square()
    common = (weights @ sums).square().sum(1) - w2 @ sums.square().sum(1)
    pairs = (weights @ tokens).square() - w2 @ tokens.square()
    around = (weights @ squares) / (weights @ tokens)
    defined = (pairs > 0) & (around > 0)
    return torch.where(defined, common / pairs / around, torch.nan)
