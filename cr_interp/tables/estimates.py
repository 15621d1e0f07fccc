"""Ratios of sums with their two intervals: what metrics, cases and obedience have in common.

Mental model: a number is Σ numerator / Σ denominator over the examples of a run. An arm is a block of such sums, seeds ×
examples × numbers (:class:`Sums`); a difference is two blocks on the same seeds and examples. :func:`estimates` makes of them
a row for each seed and one over the seeds:

    one seed      its ratio; *within* (bootstrap over clusters)
    over seeds    *across* (the default): the mean of the seeds' ratios, each run counting once; Student's t over them
                  *within*: the ratio of all sums, in which a run with more to count counts for more; bootstrap over clusters,
                  one draw for all seeds, as they share the examples

One seed has no *across* interval: what is defined in one seed only is *within*, and whoever shows it says "one seed". A
share of few events (fewer than :data:`FEW` clusters have one, or fewer lack one, or there are fewer than twice as many
clusters) gets Clopper–Pearson's interval over clusters; where nothing varies over seeds, the beta-binomial's for the next.
"""

from __future__ import annotations  # shapes are for readers and type checkers: loading jaxtyping takes its time

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy import ndarray

from cr_interp.errors import unknown
from cr_interp.statistics import (
    bootstrap_weights,
    clopper_pearson,
    cluster_numbers,
    interval,
    next_seed,
    sign_flip,
    t_interval,
    t_test,
)

if TYPE_CHECKING:
    from jaxtyping import Float

Kind = Literal["within", "across"]
KINDS: tuple[Kind, ...] = ("across", "within")
#: Clusters with an event, and without; with fewer a bootstrap over them is too narrow.
FEW = 5


def kind_named(name: str) -> Kind:
    """Look up a kind of interval by its name; raises :class:`UserError` for another word."""
    for kind in KINDS:
        if name == kind:
            return kind
    raise unknown("interval", name, KINDS)


@dataclass(frozen=True)
class Sums:
    """Numerators and denominators, zero where an example was not asked, and the cluster of each example."""

    num: Float[ndarray, "seeds examples numbers"]
    den: Float[ndarray, "seeds examples numbers"]
    clusters: Sequence[Hashable]


@dataclass(frozen=True)
class Estimates:
    """One row of :func:`estimates`: for each of the numbers a value. ``seed`` is the place of the seed; None: over seeds."""

    seed: int | None
    kinds: list[Kind]
    estimate: Float[ndarray, " numbers"]
    low: Float[ndarray, " numbers"]
    high: Float[ndarray, " numbers"]
    p: Float[ndarray, " numbers"]
    """Of a difference over seeds: Student's t, two-sided."""
    p_sign_flip: Float[ndarray, " numbers"]


def estimates(
    sides: Sequence[Sums],
    shares: Sequence[bool],
    kind: Kind = "across",
    resamples: int = 2000,
    seed: int = 0,
) -> list[Estimates]:
    """Estimate each seed's numbers and those over seeds (last), of one side or of the first minus the second.

    ``shares`` says which numbers are shares, from 0 to 1: their intervals have to hold also where there are few events. Both
    sides are on the same seeds and examples.
    """
    clusters = cluster_numbers(sides[0].clusters)
    weights = bootstrap_weights(int(clusters.max(initial=-1)) + 1, resamples, seed)
    is_share = np.asarray(shares, dtype=bool)
    rows = []
    for place in range(len(sides[0].num)):
        parts = [(side.num[place], side.den[place]) for side in sides]
        rows.append(_within(place, parts, clusters, weights, is_share))
    parts = [(side.num.sum(axis=0), side.den.sum(axis=0)) for side in sides]
    pooled = _within(None, parts, clusters, weights, is_share)
    if kind == "within" or len(rows) < 2:
        return [*rows, pooled]
    both = [np.prod([side.den[place] > 0 for side in sides], axis=0) for place in range(len(rows))]
    asked = np.stack([_clusters(each, clusters) for each in both])
    across = _across(np.stack([row.estimate for row in rows]), asked, is_share, len(sides) == 2)
    return [*rows, _where_several_seeds(across, pooled)]


def ratio(num: Float[ndarray, "*any"], den: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """Divide num by den; NaN where nothing was counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(den > 0, num / den, np.nan)


def _within(
    seed: int | None,
    parts: Sequence[tuple[ndarray, ndarray]],
    clusters: ndarray,
    weights: ndarray,
    shares: ndarray,
) -> Estimates:
    points = [ratio(num.sum(axis=0), den.sum(axis=0)) for num, den in parts]
    # Examples of one cluster have one weight, so they are added up before they are weighted.
    draws = [ratio(weights @ _sums(num, clusters), weights @ _sums(den, clusters)) for num, den in parts]
    estimate = points[0] - points[1] if len(parts) == 2 else points[0]
    replicates = draws[0] - draws[1] if len(parts) == 2 else draws[0]
    low, high = interval(replicates, units=int(clusters.max(initial=-1)) + 1)
    asked = _clusters(np.prod([den > 0 for _, den in parts], axis=0), clusters)
    if len(parts) == 1:
        num, den = parts[0]
        with_event, without = _clusters(num > 0, clusters), _clusters(den - num > 0, clusters)
        few = shares & ((np.minimum(with_event, without) < FEW) | (asked < 2 * FEW)) & ~np.isnan(estimate)
        for i in np.flatnonzero(few):
            low[i], high[i] = clopper_pearson(estimate[i] * asked[i], asked[i])
    else:
        few = np.zeros_like(shares)
    # Nothing varied: at most so many clusters do, and by no more than all of it.
    for i in np.flatnonzero(~few & (high - low < 1e-12)):
        low[i], high[i] = _around(estimate[i], clopper_pearson(0, asked[i])[1], shares[i], len(parts) == 2)
    low, high = np.fmin(low, estimate), np.fmax(high, estimate)
    missing = np.full(estimate.shape, np.nan)
    return Estimates(seed, ["within"] * len(estimate), estimate, *_known(estimate, low, high), missing, missing)


def _across(values: ndarray, asked: ndarray, shares: ndarray, difference: bool) -> Estimates:
    """Average over seeds with Student's t; ``values`` and ``asked`` (clusters in the denominator) are [seeds, numbers]."""
    known = ~np.isnan(values)
    seeds = known.sum(axis=0)
    estimate = ratio(np.where(known, values, 0.0).sum(axis=0), seeds)
    low, high = t_interval(values)
    for i in np.flatnonzero((seeds > 1) & (high - low < 1e-12)):
        each, n = int(asked[known[:, i], i].min()), float(asked[known[:, i], i].sum())
        if shares[i] and not difference:
            low[i], high[i] = next_seed(estimate[i] * n, n, each)
        else:
            low[i], high[i] = _around(estimate[i], next_seed(0, n, each)[1], shares[i], difference)
    least, most = _limits(shares, difference)
    low, high = np.maximum(low, least), np.minimum(high, most)
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    p, flips = np.full(estimate.shape, np.nan), np.full(estimate.shape, np.nan)
    if difference:
        p, flips = (np.array([test(column) for column in values.T]) for test in (t_test, sign_flip))
    return Estimates(None, ["across"] * len(estimate), estimate, low, high, p, flips)


def _where_several_seeds(across: Estimates, within: Estimates) -> Estimates:
    """Take ``across`` where it has an interval, else ``within``: a number that one seed alone has is that seed's."""
    one = np.isnan(across.low) & ~np.isnan(within.estimate)
    kinds: list[Kind] = ["within" if each else "across" for each in one]
    estimate, low, high = (
        np.where(one, getattr(within, name), getattr(across, name)) for name in ("estimate", "low", "high")
    )
    return Estimates(None, kinds, estimate, low, high, across.p, across.p_sign_flip)


def _around(estimate: float, reach: float, share: bool, difference: bool) -> tuple[float, float]:
    least, most = _limits(np.array([share]), difference)
    return max(estimate - reach, float(least[0])), min(estimate + reach, float(most[0]))


def _limits(shares: ndarray, difference: bool) -> tuple[ndarray, ndarray]:
    """Give what no number can pass: a share is from 0 to 1, a relative change above −1, a difference of shares from −1 to 1."""
    if difference:
        return np.where(shares, -1.0, -np.inf), np.where(shares, 1.0, np.inf)
    return np.where(shares, 0.0, -1.0), np.where(shares, 1.0, np.inf)


def _sums(values: Float[ndarray, "examples numbers"], clusters: ndarray) -> Float[ndarray, "clusters numbers"]:
    """Add up each cluster's examples."""
    found = np.zeros((int(clusters.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(found, clusters, values)
    return found


def _clusters(chosen: Float[ndarray, "examples numbers"], clusters: ndarray) -> Float[ndarray, " numbers"]:
    """Count the clusters that have a chosen example."""
    return (_sums(np.asarray(chosen, dtype=float), clusters) > 0).sum(axis=0).astype(float)


def _known(estimate: ndarray, low: ndarray, high: ndarray) -> tuple[ndarray, ndarray]:
    """Take the interval away from undefined numbers."""
    missing = np.isnan(estimate)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)
