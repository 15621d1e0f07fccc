"""The new-instruction check: does a student still listen when the context says something new?

A student that ignores every context is perfectly robust to the one it internalised. So an instruction *other* than
the internalised one is given (the ``mismatched`` context), and the share of responses that obey it is reported for
each arm. How often a response happens to obey without having been told is in ``new_instruction_x``.
"""

from typing import Any

import numpy as np
import pandas as pd

from cr_interp.statistics import bootstrap_weights, hierarchical_weights, interval
from cr_interp.study.rows import last_step

#: metric → the view and control whose responses count
OBEDIENCE = {"new_instruction": ("with_context", "mismatched"), "new_instruction_x": ("no_context", "none")}


def new_instruction(generations: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """Rows ``arm, seed, metric, estimate, low, high, n`` like ``behaviour.metrics``; none if it was not measured.

    ``seed`` is NA for the value over seeds. Several samples of an example are averaged first.
    """
    rows: list[dict[str, Any]] = []
    if "obeys_new" not in generations:
        return pd.DataFrame(rows)
    asked = last_step(generations)
    asked = asked[asked["obeys_new"].notna()]
    if not (asked["control"] == "mismatched").any():
        return pd.DataFrame(rows)
    for metric, (view, control) in OBEDIENCE.items():
        chosen = asked[(asked["view"] == view) & (asked["control"] == control)]
        for arm, of_arm in chosen.groupby("arm", sort=False):
            obeyed = of_arm.assign(obeys_new=of_arm["obeys_new"].astype(float))
            table = obeyed.pivot_table("obeys_new", "seed", "example_id").dropna(axis=1)
            values = table.to_numpy()
            weights = bootstrap_weights(values.shape[1], resamples)
            for seed, row in zip(table.index, values, strict=True):
                rows.append(_row(arm, seed, metric, row.mean(), (weights @ row) / len(row), len(row)))
            both = hierarchical_weights(values.shape[0], values.shape[1], resamples)
            replicates = np.einsum("rse,se->r", both, values) / both.sum((1, 2))
            rows.append(_row(arm, None, metric, values.mean(), replicates, values.size))
    return pd.DataFrame(rows)


def _row(arm: Any, seed: Any, metric: str, estimate: float, replicates: Any, n: int) -> dict[str, Any]:
    low, high = interval(replicates)
    return {
        "arm": arm, "seed": seed, "metric": metric, "estimate": float(estimate), "low": float(low),
        "high": float(high), "n": n,
    }  # fmt: skip
