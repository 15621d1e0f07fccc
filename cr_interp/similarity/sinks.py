"""Attention sinks: tokens whose state is so large that they alone decide a similarity.

Two shared sink rows make even debiased CKA about 1 on otherwise unrelated data, and a sink's cosine is 1 whatever the
rest does. The aligned positions never hold position 0, where sinks usually sit; what is left is found by its norm.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays

#: A state is a sink if its norm is above so many times the median norm of its batch.
FACTOR = 5.0


@takes_arrays
def not_sinks(
    x: Float[Tensor, "token width"], y: Float[Tensor, "token width"], factor: float = FACTOR
) -> Bool[Tensor, " token"]:
    """Tell which tokens are no sinks: neither view's norm is above ``factor`` × the median norm of that view's tokens given
    here.
    """
    keep = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for rows in (x, y):
        norms = rows.float().norm(dim=1)
        keep &= ~(norms > factor * norms.median())  # not finite norms stay, to be reported by whoever measures
    return keep
