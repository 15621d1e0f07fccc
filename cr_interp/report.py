"""The table of a study: metrics of every arm and seed, as rows, as JSON and for the terminal."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from cr_interp.behaviour import METRICS, metrics
from cr_interp.study import Study

PERCENT = {"acc_x", "acc_xc", "both_correct", "harm", "rescue", "delta_len"}


def metric_table(study: Study, control: str = "exact") -> pd.DataFrame:
    """Rows ``arm, seed, metric, estimate, low, high, n``: the metrics, and ``min_cosine`` if drift was measured."""
    generations = study.table("generations")
    splits = generations["split"].unique()
    table = metrics(generations, control=control, split="test" if "test" in splits else str(splits[0]))
    if study.has_table("drift"):
        lowest = min_cosine(study.table("drift"), control)
        table = pd.concat([table, lowest], ignore_index=True) if len(lowest) else table
        table["seed"] = table["seed"].astype("Int64")
    return table


def min_cosine(drift: pd.DataFrame, control: str = "exact") -> pd.DataFrame:
    """The lowest cosine over the blocks' outputs, per arm and seed, with the interval of that layer.

    Over seeds (``seed`` NA): the mean of the seeds' minima, between the lowest ``low`` and the highest ``high``.
    n counts examples.
    """
    drift = drift[drift["step"] == drift.groupby(["arm", "seed"])["step"].transform("max")]
    chosen = drift[
        (drift["site"] == "resid_post") & (drift["measure"] == "cosine") & (drift["control"] == control)
    ]
    rows: list[dict[str, Any]] = []
    for arm, of_arm in chosen.groupby("arm", sort=False):
        lowest = of_arm.loc[of_arm.groupby("seed")["estimate"].idxmin()]
        for row in lowest.itertuples():
            rows.append(_row(arm, row.seed, row.estimate, row.low, row.high, row.n_examples))
        rows.append(
            _row(
                arm,
                None,
                lowest["estimate"].mean(),
                lowest["low"].min(),
                lowest["high"].max(),
                lowest["n_examples"].sum(),
            )
        )
    return pd.DataFrame(rows)


def _row(arm: Any, seed: Any, estimate: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "metric": "min_cosine",
        "estimate": estimate,
        "low": low,
        "high": high,
        "n": int(n),
    }


def rich_table(table: pd.DataFrame, title: str, seeds: bool = False) -> Table:
    """A row per arm (with ``seeds``, per arm and seed), a column per metric, intervals in brackets."""
    shown = table if seeds else table[table["seed"].isna()]
    names = [*METRICS, *(["min_cosine"] if "min_cosine" in set(table["metric"]) else [])]
    out = Table(title=title, caption="95 % intervals in brackets; over seeds and examples unless a seed is named")
    out.add_column("arm")
    if seeds:
        out.add_column("seed")
    for name in names:
        out.add_column(name, justify="right")
    for (arm, seed), rows in shown.groupby(["arm", "seed"], sort=False, dropna=False):
        cells = rows.set_index("metric")
        label = [str(arm)] + ([("all" if pd.isna(seed) else str(seed))] if seeds else [])
        out.add_row(*label, *(_cell(name, cells.loc[name]) if name in cells.index else "" for name in names))
    return out


def _cell(name: str, row: Any) -> str:
    return format_estimate(name, row["estimate"], row["low"], row["high"])


def format_estimate(name: str, estimate: float, low: float, high: float) -> str:
    if pd.isna(estimate):
        return "–"
    if name in PERCENT:
        return f"{100 * estimate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"


def markdown_table(table: pd.DataFrame, arms: Sequence[str] | None = None) -> str:
    """The same table for the README."""
    shown = table[table["seed"].isna()]
    names = [*METRICS, *(["min_cosine"] if "min_cosine" in set(table["metric"]) else [])]
    lines = ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for arm in arms or list(dict.fromkeys(shown["arm"])):
        cells = shown[shown["arm"] == arm].set_index("metric")
        lines.append(f"| `{arm}` | " + " | ".join(_cell(name, cells.loc[name]) for name in names) + " |")
    return "\n".join(lines)
