"""Every metric of a study in one table, as ``cr-interp table`` prints it.

Mental model: the metrics are computed next door and put under each other here. Of the answers (Acc, Harm, Rescue, …):
``behaviour.py``. Of a new instruction: ``obedience.py``. Of the distributions (fidelity, invariance): ``divergence.py``.
The lowest cosine: ``drift.py``.
"""

from typing import Any

import pandas as pd

from cr_interp.study.rows import counted_split
from cr_interp.study.study import Study
from cr_interp.tables.behaviour import metrics
from cr_interp.tables.divergence import divergence_metrics
from cr_interp.tables.drift import extremes, mean_interval
from cr_interp.tables.estimates import Kind
from cr_interp.tables.obedience import OBEDIENCE, new_instruction
from cr_interp.tables.stored import of_study
from cr_interp.vocabulary import AGREEMENT, DIVERGENCES, METRICS


def metric_table(study: Study, control: str = "exact", interval: Kind = "across") -> pd.DataFrame:
    """Return rows ``arm, seed, metric, estimate, low, high, n, interval``: the metrics, and what else was measured.

    That is ``new_instruction`` (``obedience.py``), ``fidelity`` and ``invariance`` (``divergence.py``), and ``min_cosine``.
    The column ``interval`` names each row's kind; the argument the kind of the rows over seeds, where there are at least two.

    >>> from cr_interp.study.searching import open_study
    >>> table = metric_table(open_study("organism-shift"))
    >>> table.columns.tolist()
    ['arm', 'seed', 'metric', 'estimate', 'low', 'high', 'n', 'interval']
    >>> harm = table[(table["metric"] == "harm") & table["seed"].isna()]    # over seeds
    >>> harm["arm"].tolist()
    ['base', 'nca', 'opd']
    """
    of = ("generations", "divergence", "drift")
    return of_study("metric_table", study, of, [control, interval], lambda: _metrics(study, control, interval))


def _metrics(study: Study, control: str, interval: Kind) -> pd.DataFrame:
    generations = study.table("generations")
    split = counted_split(generations)
    table = metrics(generations, control=control, split=split, interval=interval)
    more = [new_instruction(generations, split=split, interval=interval)]
    if study.has_table("divergence"):
        more.append(divergence_metrics(study.table("divergence"), control, interval=interval))
    if study.has_table("drift"):
        more.append(min_cosine(study.table("drift"), control, interval))
    table = pd.concat([table, *(each for each in more if len(each))], ignore_index=True)
    table["seed"] = table["seed"].astype("Int64")
    return table


def min_cosine(drift: pd.DataFrame, control: str = "exact", interval: Kind = "across") -> pd.DataFrame:
    """Return the lowest cosine over the blocks' outputs, per arm and seed, with the *within* interval of that layer.

    Over seeds (``seed`` NA) it is the mean of the seeds' minima. *Across*, the interval is Student's t over the minima.
    *Within*, it is the mean of the intervals' ends: exact for examples that move all seeds alike, too wide otherwise. n
    counts examples.
    """
    rows: list[dict[str, Any]] = []
    for arm, lowest in extremes(drift, "cosine", control).groupby("arm", sort=False):
        for row in lowest.itertuples():
            rows.append(_row(arm, row.seed, row.estimate, row.low, row.high, row.n_examples, "within"))
        low, high, kind = mean_interval(lowest, "cosine", interval)
        rows.append(_row(arm, None, lowest["estimate"].mean(), low, high, lowest["n_examples"].sum(), kind))
    return pd.DataFrame(rows)


def _row(arm: Any, seed: Any, estimate: float, low: float, high: float, n: int, interval: Kind) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "metric": "min_cosine",
        "estimate": estimate,
        "low": low,
        "high": high,
        "n": int(n),
        "interval": interval,
    }


def metric_names(table: pd.DataFrame) -> list[str]:
    return [
        name
        for name in (*METRICS, *AGREEMENT, *OBEDIENCE, *DIVERGENCES, "min_cosine")
        if name in set(table["metric"])
    ]
