"""Fidelity and invariance of a study, from the rows of its examples: nats a token, with their intervals.

Mental model: a row of ``divergence`` is the mean over an example's tokens; times its tokens it is a sum, and a metric is the
ratio of two sums over the examples, KL over tokens, so that a long answer counts by its length. A difference of two arms is the
difference of their ratios, on the runs that meet (``pairing.py``) and the examples that both answered; each answer keeps its own
length. Intervals are of the two kinds that every metric has (``estimates.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.errors import UserError
from cr_interp.study.rows import last_step
from cr_interp.tables.answer_sums import with_clusters
from cr_interp.tables.estimates import Estimates, Kind, Sums, estimates
from cr_interp.tables.pairing import meetings, named
from cr_interp.vocabulary import CONTROLS, DIVERGENCES


@dataclass(frozen=True)
class Nats:
    """One arm's KL and tokens, ``[seeds, examples]``, zero where an example has no answer, and the cluster of each example."""

    seeds: list[int]
    examples: list[Any]
    nats: np.ndarray
    tokens: np.ndarray
    clusters: list[Any]

    def at(self, seeds: list[int], examples: list[Any]) -> "Nats":
        """Return the same arm with these seeds and examples only, in this order."""
        row = [self.seeds.index(seed) for seed in seeds]
        place = {example: column for column, example in enumerate(self.examples)}
        column = [place[example] for example in examples]
        clusters = [self.clusters[i] for i in column]
        return Nats(seeds, examples, self.nats[row][:, column], self.tokens[row][:, column], clusters)

    def sums(self) -> Sums:
        return Sums(self.nats[:, :, None], self.tokens[:, :, None], self.clusters)


def divergence_metrics(
    divergence: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute ``fidelity`` and ``invariance``: rows ``arm, seed, metric, estimate, low, high, n, interval`` like
    ``behaviour.metrics``.

    ``seed`` is NA for the value over seeds; n counts examples (of all seeds). Fidelity is of the exact context and has no rows
    under another ``control``, nor where no teacher was known.
    """
    found: list[dict[str, Any]] = []
    for arm, of_arm in _under(divergence, control).groupby("arm", sort=True):
        for metric in DIVERGENCES:
            mine = _nats(of_arm, metric)
            if mine is None:
                continue
            for row in estimates([mine.sums()], [False], interval, resamples, seed):
                low, high = _ends(row, len(set(mine.clusters)))
                low = low if np.isnan(low) else max(low, min(0.0, float(row.estimate[0])))  # KL is never below 0
                found.append({"arm": str(arm), **_said(metric, row, mine, low, high)})
    return pd.DataFrame(found, columns=["arm", *_COLUMNS]).astype({"seed": "Int64"})


def divergence_differences(
    divergence: pd.DataFrame,
    arm: str,
    baseline: str,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute ``arm`` minus ``baseline`` in ``fidelity`` and ``invariance``: ``seed, metric, estimate, low, high, n, interval``.

    Paired over the runs that meet and the examples that both have; without any, or where one arm has no such rows, no rows.
    Raises :class:`UserError` where both were measured and no run of the two meets.
    """
    rows = _under(divergence, control)
    found: list[dict[str, Any]] = []
    for metric, (mine, other) in _both(rows, arm, baseline):
        met = meetings([(arm, mine.seeds), (baseline, other.seeds)])
        examples = sorted(set(mine.examples) & set(other.examples))
        if not met[0] or not examples:
            raise UserError("These arms have no seed or example in common, so they cannot be paired.")
        called = named((arm, baseline), met)
        sides = [
            replace(one.at(seeds, examples), seeds=called) for one, seeds in zip((mine, other), met, strict=True)
        ]
        asked = (sides[0].tokens > 0) & (sides[1].tokens > 0)
        sides = [replace(one, nats=one.nats * asked, tokens=one.tokens * asked) for one in sides]
        for row in estimates([one.sums() for one in sides], [False], interval, resamples, seed):
            found.append(_said(metric, row, sides[0], *_ends(row, len(set(sides[0].clusters)))))
    return pd.DataFrame(found, columns=_COLUMNS).astype({"seed": "Int64"})


_COLUMNS = ["seed", "metric", "estimate", "low", "high", "n", "interval"]


def _under(divergence: pd.DataFrame, control: str) -> pd.DataFrame:
    rows = last_step(divergence)
    return with_clusters(rows[rows["control"] == control])


def _both(rows: pd.DataFrame, *arms: str) -> Iterator[tuple[str, tuple[Nats, Nats]]]:
    """Return the metrics that both arms have, with their sums."""
    for metric in DIVERGENCES:
        mine, other = (_nats(rows[rows["arm"] == name], metric) for name in arms)
        if mine is not None and other is not None:
            yield metric, (mine, other)


def _nats(of_arm: pd.DataFrame, metric: str) -> Nats | None:
    """Sum up one arm's rows; None if it has no value of the metric."""
    known = of_arm[of_arm[metric].notna()] if metric in of_arm else of_arm.iloc[:0]
    if known.empty:
        return None
    place, seeds = pd.factorize(known["seed"], sort=True)
    column, examples = pd.factorize(known["example_id"], sort=True)
    nats, tokens = np.zeros((len(seeds), len(examples))), np.zeros((len(seeds), len(examples)))
    tokens[place, column] = known["n_tokens"].to_numpy(dtype=float)
    nats[place, column] = known[metric].to_numpy(dtype=float) * tokens[place, column]
    cluster = known.drop_duplicates("example_id").set_index("example_id")["cluster"]
    return Nats([int(seed) for seed in seeds], list(examples), nats, tokens, cluster.loc[examples].tolist())


def _said(metric: str, row: Estimates, mine: Nats, low: float, high: float) -> dict[str, Any]:
    asked = mine.tokens > 0 if row.seed is None else mine.tokens[row.seed] > 0
    return {
        "seed": pd.NA if row.seed is None else mine.seeds[row.seed],
        "metric": metric,
        "estimate": float(row.estimate[0]),
        "low": low,
        "high": high,
        "n": int(asked.sum()),
        "interval": row.kinds[0],
    }


def _ends(row: Estimates, clusters: int) -> tuple[float, float]:
    """Compute the interval of a number that has no bound; none from a single cluster, which varies nowhere."""
    if row.kinds[0] == "within" and clusters < 2:
        return np.nan, np.nan
    return float(row.low[0]), float(row.high[0])


def controls_of(divergence: pd.DataFrame) -> list[str]:
    """Return the context controls that a table has, in their order."""
    return [each for each in CONTROLS if each in set(divergence["control"])]
