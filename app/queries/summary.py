"""Small tables made from the tables of a study, and the sentences of its report. Pure functions: no Streamlit, easy to test."""

import pandas as pd

from cr_interp.report.settings import configuration, flatten, provenance
from cr_interp.report.verdict import Headline, Verdict, change, headline, value
from cr_interp.system.percent import percent
from cr_interp.tables.example_pairs import MARKS
from cr_interp.vocabulary import of_answers

__all__ = [
    "Headline",
    "Verdict",
    "answers",
    "change",
    "configuration",
    "flatten",
    "headline",
    "metric_table",
    "provenance",
    "value",
]


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Make a table with an arm a row and a metric a column, each cell ``estimate [low, high]`` over seeds, in %."""
    pooled = metrics[metrics["seed"].isna()]
    cells = pooled.assign(
        cell=[
            "–" if pd.isna(row.estimate) else f"{percent(row.estimate)} [{percent(row.low)}, {percent(row.high)}]"
            for row in pooled.itertuples()
        ]
    )
    table = cells.pivot_table(index="arm", columns="metric", values="cell", aggfunc="first", sort=False)
    heads = {name: in_percent(name) for name in of_answers() if name in table}
    table = table.loc[list(dict.fromkeys(pooled["arm"])), list(heads)]
    return table.rename(columns=heads).reset_index(names="arm")


def in_percent(metric: str) -> str:
    """Return the head of a metric's column: ``Acc_x (%)``."""
    return f"{of_answers()[metric].short} (%)"


def answers(
    generations: pd.DataFrame, arms: list[str], control: str, seed: int, harmed_under: str | None = None
) -> pd.DataFrame:
    """Make a table with a prompt a row: for every arm its response without and with the context, each behind a mark.

    An arm that was run with one seed only (``base``) shows that one. ``harmed_under`` keeps the prompts that this arm answers
    right without the context and wrong with it.
    """
    rows = generations[generations["sample"] == generations["sample"].min()]
    table = rows.groupby("example_id", sort=True)["prompt"].first().to_frame()
    harmed = None
    for arm in arms:
        mine = rows[rows["arm"] == arm]
        seeds = mine["seed"].unique()
        mine = mine[mine["seed"] == (seed if seed in seeds or len(seeds) != 1 else seeds[0])]
        mine = mine[mine["step"] == mine["step"].max()]
        views = {
            "without": mine[mine["view"] == "no_context"],
            "with": mine[(mine["view"] == "with_context") & (mine["control"] == control)],
        }
        right = {}
        for view, part in views.items():
            part = part.drop_duplicates("example_id").set_index("example_id")
            right[view] = (part["outcome"] == "right").reindex(table.index)
            text = part["outcome"].map(MARKS).fillna("?").astype(str) + " " + part["response"].astype(str)
            table[f"{arm} · {view}"] = text.reindex(table.index).fillna("")
        if arm == harmed_under:
            harmed = right["without"].eq(True) & right["with"].eq(False)
    return (table if harmed is None else table[harmed]).reset_index()
