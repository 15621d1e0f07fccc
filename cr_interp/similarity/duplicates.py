"""How many rows are there more than once? Copies pair with one another and raise every similarity of rows.

A row's mark is a sum of its bit pattern's words times fixed random odd numbers, modulo 2⁶⁴: equal rows have equal
marks, and unequal ones practically never do. So a stream costs eight bytes a row.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt64
from numpy import ndarray
from torch import Tensor


def marks(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> UInt64[ndarray, " n"]:
    """Mark every pair of rows; two marks are equal only where both views' rows are."""
    words = np.concatenate([_words(x), _words(y)], axis=1).astype(np.uint64)
    times = _odd(words.shape[1])
    with np.errstate(over="ignore"):
        # The product is mixed before it is added, since a sum alone would be linear in the bits.
        mixed = words * times
        mixed ^= mixed >> np.uint64(29)
        return (mixed * times).sum(axis=1, dtype=np.uint64)


@lru_cache(maxsize=64)
def _odd(count: int) -> UInt64[ndarray, " count"]:
    """Draw the odd numbers, the same ones each time. Not to be written into."""
    return np.random.default_rng(0).integers(0, 1 << 63, count, dtype=np.uint64) * 2 + 1


def _words(rows: Float[Tensor, "n p"]) -> ndarray:
    rows = rows.detach().cpu()
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return (rows + 0.0).contiguous().numpy().view(np.uint32)  # −0 is 0
