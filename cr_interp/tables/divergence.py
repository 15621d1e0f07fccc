"""Fidelity and invariance of a study, from the rows of its examples: nats a token, with their intervals.

Mental model: a row of ``divergence`` is the mean over an example's tokens; times its tokens it is a sum, and a metric is the
ratio of two sums over the examples, KL over tokens, so that a long answer counts by its length. Intervals are of the two
kinds that every metric has (``estimates.py``).
"""

from typing import Any

import numpy as np
import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.tables.estimates import Estimates, Kind, Sums, estimates
from cr_interp.vocabulary import CONTROLS, DIVERGENCES


def divergence_metrics(
    divergence: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute ``fidelity`` and ``invariance``: rows ``arm, seed, metric, estimate, low, high, n, interval`` like
    ``behaviour.metrics``.

    ``seed`` is NA for the value over seeds; n counts examples (of all seeds). Fidelity is of the exact context and has no
    rows under another ``control``, nor where no teacher was known.
    """
    found: list[dict[str, Any]] = []
    rows = last_step(divergence)
    rows = rows[rows["control"] == control]
    for arm, of_arm in rows.groupby("arm", sort=True):
        for metric in DIVERGENCES:
            known = of_arm[of_arm[metric].notna()]
            if known.empty:
                continue
            place, seeds = pd.factorize(known["seed"], sort=True)
            column, examples = pd.factorize(known["example_id"], sort=True)
            num, den = (np.zeros((len(seeds), len(examples), 1)) for _ in range(2))
            num[place, column, 0] = known[metric].to_numpy(dtype=float) * known["n_tokens"].to_numpy(dtype=float)
            den[place, column, 0] = known["n_tokens"].to_numpy(dtype=float)
            clusters = known.drop_duplicates("example_id").set_index("example_id")["cluster"].loc[examples]
            for row in estimates([Sums(num, den, clusters.tolist())], [False], interval, resamples, seed):
                asked = den > 0 if row.seed is None else den[row.seed] > 0
                low, high = _ends(row, clusters.nunique())
                found.append(
                    {
                        "arm": str(arm),
                        "seed": pd.NA if row.seed is None else int(seeds[row.seed]),
                        "metric": metric,
                        "estimate": float(row.estimate[0]),
                        "low": low,
                        "high": high,
                        "n": int(asked.sum()),
                        "interval": row.kinds[0],
                    }
                )
    table = pd.DataFrame(found, columns=["arm", "seed", "metric", "estimate", "low", "high", "n", "interval"])
    return table.astype({"seed": "Int64"})


def _ends(row: Estimates, clusters: int) -> tuple[float, float]:
    """Return the interval of a number that has no upper bound and is never below 0; none from a single cluster, which varies
    nowhere.
    """
    if row.kinds[0] == "within" and clusters < 2:
        return np.nan, np.nan
    return max(float(row.low[0]), min(0.0, float(row.estimate[0]))), float(row.high[0])


def controls_of(divergence: pd.DataFrame) -> list[str]:
    """Return the context controls that a table has, in their order."""
    return [each for each in CONTROLS if each in set(divergence["control"])]
