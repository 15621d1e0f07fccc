"""The new-instruction check: does a student still listen when the context says something new?

A student that ignores every context is perfectly robust to the one it internalised. So an instruction *other* than
the internalised one is given (the ``mismatched`` context), and the share of responses that obey it is reported for
each arm. How often a response happens to obey without having been told is in ``new_instruction_x``.
"""

from typing import Any

import numpy as np
import pandas as pd

from cr_interp.errors import unknown
from cr_interp.study.rows import counted_split, last_step
from cr_interp.tables.answer_sums import with_clusters
from cr_interp.tables.estimates import Kind, Sums, estimates
from cr_interp.tables.pairing import meetings, named

#: metric → the view and control whose responses count
OBEDIENCE = {"new_instruction": ("with_context", "mismatched"), "new_instruction_x": ("no_context", "none")}


def new_instruction(
    generations: pd.DataFrame,
    resamples: int = 2000,
    split: str | None = None,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Return rows ``arm, seed, metric, estimate, low, high, n, interval`` like ``behaviour.metrics``; none if it was not
    measured.

    ``seed`` is NA for the value over seeds. Several samples of an example are averaged first, and n counts examples (of all
    seeds). ``split`` names the split whose answers count; None: the test split, or all if there is none.
    """
    rows: list[dict[str, Any]] = []
    asked = _asked(generations, split)
    if asked is None:
        return pd.DataFrame(rows)
    for metric, (view, control) in OBEDIENCE.items():
        chosen = asked[(asked["view"] == view) & (asked["control"] == control)]
        for arm, of_arm in chosen.groupby("arm", sort=False):
            table, cluster = _shares(of_arm)
            values = table.to_numpy()[:, :, None]
            sums = Sums(values, np.ones_like(values), cluster.loc[table.columns].tolist())
            for row in estimates([sums], [True], interval, resamples):
                seed = None if row.seed is None else table.index[row.seed]
                n = values.size if row.seed is None else values.shape[1]
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "metric": metric,
                        "estimate": float(row.estimate[0]),
                        "low": float(row.low[0]),
                        "high": float(row.high[0]),
                        "n": n,
                        "interval": row.kinds[0],
                    }
                )
    return pd.DataFrame(rows)


def new_instruction_difference(
    generations: pd.DataFrame,
    arm: str,
    baseline: str,
    resamples: int = 2000,
    split: str | None = None,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Return ``arm`` minus ``baseline`` in obeying the new instruction, paired over the seeds and examples that both have.

    Rows ``metric, seed, estimate, low, high, n, interval`` like ``behaviour.differences``, of ``new_instruction`` only; n counts
    examples. Which runs meet says ``pairing.py``. None if it was not measured for both.
    """
    asked = _asked(generations, split)
    if asked is None:
        return pd.DataFrame()
    view, control = OBEDIENCE["new_instruction"]
    chosen = asked[(asked["view"] == view) & (asked["control"] == control)]
    sides = [_shares(chosen[chosen["arm"] == name]) for name in (arm, baseline)]
    if any(table.empty for table, _ in sides):
        return pd.DataFrame()
    met = meetings([(name, list(table.index)) for name, (table, _) in zip((arm, baseline), sides, strict=True)])
    seeds = named((arm, baseline), met)
    examples = sorted(set.intersection(*(set(table.columns) for table, _ in sides)))
    if not seeds or not examples:
        return pd.DataFrame()
    sums = []
    for (table, cluster), those in zip(sides, met, strict=True):
        found = table.loc[those, examples].to_numpy()[:, :, None]
        sums.append(Sums(found, np.ones_like(found), cluster.loc[examples].tolist()))
    return pd.DataFrame(
        {
            "metric": "new_instruction",
            "seed": None if row.seed is None else seeds[row.seed],
            "estimate": float(row.estimate[0]),
            "low": float(row.low[0]),
            "high": float(row.high[0]),
            "n": len(examples) * (len(seeds) if row.seed is None else 1),
            "interval": row.kinds[0],
        }
        for row in estimates(sums, [True], interval, resamples)
    )


def _asked(generations: pd.DataFrame, split: str | None) -> pd.DataFrame | None:
    """Return the answers whose obedience was looked at; None if the new instruction was given to nobody."""
    if "obeys_new" not in generations:
        return None
    if "split" in generations:
        found = set(generations["split"].unique())
        if split is not None and split not in found:
            raise unknown("split", split, map(str, found))
        generations = generations[
            generations["split"] == (counted_split(generations) if split is None else split)
        ]
    asked = with_clusters(last_step(generations))
    asked = asked[asked["obeys_new"].notna()]
    return asked if (asked["control"] == "mismatched").any() else None


def _shares(of_arm: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Make of one arm the share of samples that obey, seeds × examples, and the cluster of each example."""
    obeyed = of_arm.assign(obeys_new=of_arm["obeys_new"].astype(float))
    table = obeyed.pivot_table("obeys_new", "seed", "example_id").dropna(axis=1)
    return table, obeyed.drop_duplicates("example_id").set_index("example_id")["cluster"]
