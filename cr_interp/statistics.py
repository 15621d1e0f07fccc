"""Intervals and tests, by what they speak about: these runs with other examples (*within*), or other seeds (*across*).

Mental model. Two things could have come out otherwise, and each has its own interval; they are never mixed.

    within   these runs, other examples. Examples are drawn with replacement, whole clusters at a time: eight frames of
             one phrase are one draw, not eight. A replicate is weights times sums, so nothing is copied or looped over:

                 weights = cluster_weights(clusters)                      # [resamples, n]
                 low, high = interval((weights @ num) / (weights @ den), units=…)  # of 0/0 a replicate is NaN: ignored

             Two statistics computed with the *same* weights are paired: ``interval(first - second)``. The same ``seed``
             and sizes always give the same weights.
    across   other seeds, on these examples. Student's t over the seeds' values, df = seeds − 1: :func:`t_interval`. A
             bootstrap over three seeds is not used, since it covers 71 to 85 % where it says 95.

Where nothing happened, a bootstrap draws nothing but nothing and a t has no spread; both would say "0.0 [0.0, 0.0]". Then
:func:`clopper_pearson` speaks for a run and :func:`next_seed`, a beta-binomial, for the next one. ``make coverage`` prints how
often each interval is right in simulations.
"""

from __future__ import annotations  # shapes are for readers and type checkers: loading jaxtyping takes its time

import warnings
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from jaxtyping import Float

#: "No loss" and "the same" are said of a difference whose whole interval is within two points.
MARGIN = 0.02
#: So many seeds at most have all their sign flips counted (2¹⁶ of them); beyond that, as many are drawn.
_ALL_FLIPS = 16


# -- within: other examples ----------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def bootstrap_weights(n: int, resamples: int = 2000, seed: int = 0) -> Float[ndarray, "resamples n"]:
    """Count how often each of ``n`` units is drawn in each replicate of n draws with replacement. Read-only.

    The last few are kept: every row of a report asks for the same ones.
    """
    if n == 0:
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    cells = drawn + n * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * n).astype(float).reshape(resamples, n)
    counts.flags.writeable = False
    return counts


def cluster_weights(
    clusters: Sequence[Hashable], resamples: int = 2000, seed: int = 0
) -> Float[ndarray, "resamples n"]:
    """Count how often each example is drawn when whole clusters are; ``clusters[i]`` names the cluster of example i.

    All examples of a cluster have the same weight. With every example a cluster of its own these are
    :func:`bootstrap_weights`.
    """
    where = cluster_numbers(clusters)
    if not len(where):
        return np.zeros((resamples, 0))
    return bootstrap_weights(int(where.max()) + 1, resamples, seed)[:, where]


def cluster_numbers(clusters: Sequence[Hashable]) -> ndarray:
    """Number the distinct clusters 0, 1, … in the order in which they first appear."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in clusters], dtype=int)


def interval(
    samples: Float[ndarray, "resamples ..."], level: float = 0.95, units: int | None = None
) -> tuple[Float[ndarray, "*any"], Float[ndarray, "*any"]]:
    """Compute the percentile interval over the first axis: ``(low, high)``.

    With ``units``, the number of clusters that were drawn from, the percentiles are those that make up for their being few
    (Hesterberg 2015, "expanded"): a bootstrap's variance is (n − 1)/n of what it should be, and it knows no t. Replicates
    that are NaN (an empty denominator) are left out; if all are, so is the interval.
    """
    tail = (1 - level) / 2
    if units is not None and units > 1:
        tail = float(special().ndtr(special().stdtrit(units - 1, tail) * np.sqrt(units / (units - 1))))
    samples = np.asarray(samples, dtype=float)
    if samples.shape[0] == 0:
        return np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    if not np.isnan(samples).any():  # the same numbers, without a call for each column
        low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
        return low, high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "All-NaN slice": NaN is the answer
        low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def clopper_pearson(events: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of a share, ``events`` of ``n``; it also has a width where nothing or everything happened.

    ``events`` need not be whole: of clusters, each counts by the share of its answers. NaN for n = 0.

    >>> low, high = clopper_pearson(0, 256)
    >>> low, round(high, 4)
    (0.0, 0.0143)
    """
    if not n > 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = special().betaincinv(events, n - events + 1, tail) if events > 0 else 0.0
    high = special().betaincinv(events + 1, n - events, 1 - tail) if events < n else 1.0
    return float(low), float(high)


# -- across: other seeds -------------------------------------------------------------------------------------


def t_interval(
    values: Float[ndarray, "seeds ..."], level: float = 0.95
) -> tuple[Float[ndarray, "*any"], Float[ndarray, "*any"]]:
    """Compute the interval of Student's t over the first axis: mean ± t · SD/√seeds, df = seeds − 1. NaN are left out; below
    two values NaN.
    """
    mean, error, df = _mean_and_error(values)
    reach = special().stdtrit(df, (1 + level) / 2) * error
    return mean - reach, mean + reach


def t_test(values: Float[ndarray, " seeds"]) -> float:
    """Compute the two-sided p of "the mean over seeds is 0", by the t of :func:`t_interval`; 1 if all are 0, NaN below two
    values.

    Seeds that all differ from 0 by exactly the same leave t undefined; then it is :func:`sign_flip`'s p.
    """
    mean, error, df = _mean_and_error(values)
    if not df >= 1:
        return float("nan")
    if error == 0:
        return sign_flip(values)
    return float(2 * special().stdtr(df, -abs(mean / error)))


def _mean_and_error(values: Float[ndarray, "seeds ..."]) -> tuple[ndarray, ndarray, ndarray]:
    """Compute mean, standard error and degrees of freedom over the first axis, without NaN; NaN below two values."""
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / n
        apart = np.where(known, values - mean, 0.0)
        # Equal values have a mean that may differ from them in its last digit: that is no spread.
        apart = np.where(np.abs(apart) <= 1e-12 * np.maximum(1.0, np.abs(mean)), 0.0, apart)
        error = np.sqrt((apart**2).sum(axis=0) / (n - 1) / n)
    few = n < 2
    return np.where(few, np.nan, mean), np.where(few, np.nan, error), np.where(few, np.nan, n - 1.0)


def sign_flip(values: Float[ndarray, " seeds"]) -> float:
    """Compute the exact two-sided p of "each seed's difference could as well have had the other sign"; NaN below two values.

    Of all 2^seeds flips, the share whose sum is at least as far from 0. Three seeds cannot fall below 2/8, five not below
    2/32. Zero differences flip to themselves.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n < 2:
        return float("nan")
    if n <= _ALL_FLIPS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(2**_ALL_FLIPS, n))
        signs[0] = 1
    sums = np.abs(signs @ values)
    return float((sums >= sums[0] * (1 - 1e-9) - 1e-15).mean())


def next_seed(events: float, n: float, asked: int, level: float = 0.95) -> tuple[float, float]:
    """Bound what share of ``asked`` the next seed may have, after ``events`` of ``n`` over the seeds so far: beta-binomial.

    The predictive distribution of a share of uniform prior (Laplace's rule of succession). It takes the next seed for one
    like these, and says nothing about how much seeds differ, which seeds without events cannot show. At least one event
    of the ``asked`` is always allowed for. NaN if nothing was asked.

    >>> next_seed(0, 3 * 256, 256)
    (0.0, 0.0078125)
    """
    if not (n > 0 and asked > 0):
        return float("nan"), float("nan")
    k = np.arange(asked + 1)
    a, b = 1 + events, 1 + n - events
    log = -special().betaln(asked - k + 1, k + 1) - np.log(asked + 1) + special().betaln(k + a, asked - k + b)
    below = np.cumsum(np.exp(log - special().betaln(a, b)))
    tail = (1 - level) / 2
    low, high = (int(np.searchsorted(below, end)) for end in (tail, 1 - tail))
    if events == 0:
        low, high = 0, max(high, 1)
    if events == n:
        low, high = min(low, asked - 1), asked
    return low / asked, min(high, asked) / asked


# -- several tests, and no difference ------------------------------------------------------------------------


def holm(p: Sequence[float]) -> Float[ndarray, " tests"]:
    """Adjust p for being one of several tests (Holm 1979): any of them below 0.05 is a claim on all together.

    A missing p stays missing and is not counted as a test.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, dtype=float)
    adjusted = np.full(raw.shape, np.nan)
    known = np.flatnonzero(~np.isnan(raw))
    order = known[np.argsort(raw[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors)) if len(order) else []
    return adjusted


def not_lower(low: float, margin: float = MARGIN) -> bool:
    """Tell whether a difference is non-inferior: its interval does not reach below −``margin``. False without an interval."""
    return bool(low >= -margin)


def same(low: float, high: float, margin: float = MARGIN) -> bool:
    """Tell whether a difference is equivalent to none: its whole interval lies within ±``margin``. False without an interval."""
    return bool(low >= -margin and high <= margin)


@cache
def special() -> Any:
    """Load SciPy's special functions at their first use: most of what imports this module draws no interval."""
    from scipy import special

    return special


def ranks(values: ndarray, axis: int | None = None) -> ndarray:
    """Rank from 1 along an axis of at most two (all values if None), ties by their mean. A line with a NaN is NaN.

    These are ``scipy.stats.rankdata``'s; pandas is there already, and loading ``scipy.stats`` takes half a second.

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    import pandas as pd

    table = np.asarray(values, dtype=float)
    if axis is None:
        table, axis = table.ravel(), 0
    found = pd.DataFrame(table).rank(axis=axis % table.ndim).to_numpy().reshape(table.shape)
    return np.where(np.isnan(table).any(axis=axis, keepdims=True), np.nan, found)
