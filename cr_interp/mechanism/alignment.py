"""How alike two gradients are, and how alike they could be: from inner products of gradients of small groups of examples.

Mental model. A gradient on a batch is the sum of its groups'. Each group's is what all would give plus noise, so everything
that is asked for can be read from the inner products of the groups' gradients, ``a[i] · b[j]``:

    norm               ‖Σ a‖
    cosine             of Σ a and Σ b, on the same examples: noise that both share counts as agreement
    cosine_halves      of a on one half of the groups and b on the other, mean over all ways to halve. A term with itself is the
                       split-half baseline: two terms cannot agree better across halves than each does with itself
    cosine_corrected   Σ_{i≠j} a[i]·b[j] / √(Σ_{i≠j} a[i]·a[j] · Σ_{i≠j} b[i]·b[j]), the cosine without the noise (Spearman's
                       correction for attenuation); not clamped, and undefined where a term does not agree with itself

Intervals are of the jackknife over groups with Student's t: seven degrees of freedom for eight groups.
"""

from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import special

#: In the order of every list.
MEASURES = ("norm", "cosine", "cosine_halves", "cosine_corrected")
Products = Float[ndarray, "group group"]


def measured(
    aa: Products, ab: Products, bb: Products, measure: str, one: bool = False
) -> tuple[float, float, float]:
    """Return the measure and its 95 % interval; ``one``: both are the same term. Cosines' ends stay within ±1."""
    estimate = _value(aa, ab, bb, measure)
    n = len(aa)
    if n < 3 or not np.isfinite(estimate) or (one and measure == "cosine_corrected"):
        return estimate, float("nan"), float("nan")
    left_out = np.array([_value(*_without(k, aa, ab, bb), measure) for k in range(n)])
    if measure == "norm":  # a sum over fewer groups is shorter
        left_out *= n / (n - 1)
    if not np.isfinite(left_out).all():
        return estimate, float("nan"), float("nan")
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    reach = float(special.stdtrit(n - 1, 0.975) * error)
    low, high = estimate - reach, estimate + reach
    if measure in ("cosine", "cosine_halves"):
        low, high = max(low, -1.0), min(high, 1.0)
    return estimate, max(low, 0.0) if measure == "norm" else low, high


def _without(k: int, aa: Products, ab: Products, bb: Products) -> tuple[Products, Products, Products]:
    mine = np.ix_(*[np.delete(np.arange(len(aa)), k)] * 2)
    return aa[mine], ab[mine], bb[mine]


def _value(aa: Products, ab: Products, bb: Products, measure: str) -> float:
    if measure == "norm":
        return float(np.sqrt(max(aa.sum(), 0.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure == "cosine":
            return float(ab.sum() / np.sqrt(aa.sum() * bb.sum()))
        if measure == "cosine_halves":
            return _halves(aa, ab, bb)
        own, other = (each.sum() - np.trace(each) for each in (aa, bb))
        if own <= 0 or other <= 0:
            return float("nan")
        return float((ab.sum() - np.trace(ab)) / np.sqrt(own * other))


def _halves(aa: Products, ab: Products, bb: Products) -> float:
    first = _every_half(len(aa))
    second = 1 - first
    value = [
        np.einsum("si,ij,sj->s", x, ab, y)
        / np.sqrt(np.einsum("si,ij,sj->s", x, aa, x) * np.einsum("si,ij,sj->s", y, bb, y))
        for x, y in ((first, second), (second, first))
    ]
    return float(np.mean(value))


@cache
def _every_half(n: int) -> Float[ndarray, "way group"]:
    """Mark one half of ``n`` groups, in a row for each way to halve; it is asked for thousands of times, and only read."""
    ways = list(combinations(range(n), n // 2))
    marks = np.zeros((len(ways), n))
    for row, mine in zip(marks, ways, strict=True):
        row[list(mine)] = 1
    marks.flags.writeable = False
    return marks
