"""The table of a study for the terminal and as Markdown; its numbers are those of ``tables/metrics.py``."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table

from cr_interp.study.study import Study
from cr_interp.system.percent import number, percent
from cr_interp.system.shown import PlainTable, literal
from cr_interp.system.visible import code, in_markdown
from cr_interp.tables.estimates import Kind
from cr_interp.tables.interval_words import SHORT, said_intervals
from cr_interp.tables.metrics import metric_names, metric_table
from cr_interp.tables.obedience import OBEDIENCE
from cr_interp.tables.unread import instead, keyless, sentences, unread_of
from cr_interp.vocabulary import DIVERGENCES, arm_order, of_answers


def rich_study(
    study: Study,
    control: str = "exact",
    seeds: bool = False,
    title: str | None = None,
    interval: Kind = "across",
) -> Group:
    """Return :func:`rich_table` of a study, and under it how many answers could not be read."""
    rows = unread_of(study, control)
    table = rich_table(
        metric_table(study, control, interval), title or study.name, seeds, instead(rows), interval
    )
    return Group(table, *map(literal, [*unread_sentences(rows), *keyless_sentences(study)]))


def markdown_study(study: Study, control: str = "exact", interval: Kind = "across") -> str:
    """Return :func:`markdown_table` of a study, and under it how many answers could not be read."""
    notes = map(in_markdown, [*unread_sentences(unread_of(study, control)), *keyless_sentences(study)])
    return "\n\n".join([markdown_table(metric_table(study, control, interval), interval), *notes])


def unread_sentences(rows: pd.DataFrame, least: float = 0.0) -> list[str]:
    return sentences(rows, arm_order(rows["arm"]), least)


def keyless_sentences(study: Study) -> list[str]:
    """Report on examples without an answer key; nothing if all have one."""
    asked, without = keyless(study)
    if not without:
        return []
    if without == asked:
        return [
            "No example has an answer key: accuracies, Harm and Rescue are not defined here. What is shown needs none."
        ]
    return [
        f"{asked - without} of {asked} examples have an answer key: accuracies, Harm and Rescue are of these, "
        f"changed and agreement of all."
    ]


def rich_table(
    table: pd.DataFrame,
    title: str,
    seeds: bool = False,
    shown_instead: Mapping[tuple[str, str], str] | None = None,
    interval: Kind = "across",
) -> Table:
    """Return a column per arm, a row per metric (with ``seeds``, also per seed): that fits a terminal of 80 columns.

    ``shown_instead``: (arm, metric) → what stands there for the value over seeds.
    """
    other = shown_instead or {}
    arms = arm_order(table["arm"])
    scope = said_intervals(table[table["seed"].isna()], short=True, wanted=interval)
    by_seed = f"; each seed: {SHORT['within']}" if seeds else ""
    caption = f"in %, but for {_no_shares(table)}; 95 % intervals: {scope}{by_seed}"
    out = PlainTable(title, caption, padding=0, pad_edge=False, collapse_padding=True)
    out.add_column("metric")
    for arm in arms:
        out.add_column(str(arm), justify="right")
    cells = {
        (row.metric, None if pd.isna(row.seed) else row.seed, row.arm): _cell(row.metric, row._asdict())
        for row in table.itertuples()
    }
    for name in metric_names(table):
        of_seeds = sorted({seed for metric, seed, _ in cells if metric == name and seed is not None})
        for seed in [None, *(of_seeds if seeds else [])]:
            shown = [cells.get((name, seed, arm), "").replace(" %", "") for arm in arms]
            if seed is None:
                shown = [other.get((str(arm), name)) or cell for arm, cell in zip(arms, shown, strict=True)]
            out.add_row(name if seed is None else f"  seed {seed}", *shown)
    return out


def _no_shares(table: pd.DataFrame) -> str:
    """Name the rows that are no shares, and what they are in."""
    nats = [name for name in DIVERGENCES if name in set(table["metric"])]
    return " and ".join([*([f"{', '.join(nats)} (nats a token)"] if nats else []), "min_cosine"])


def _cell(name: str, row: Any) -> str:
    return format_estimate(name, row["estimate"], row["low"], row["high"])


def format_estimate(name: str, estimate: float, low: float, high: float) -> str:
    """Write a metric's estimate with its interval: a share in per cent, anything else to three digits."""
    if pd.isna(estimate):
        return "–"
    in_percent = name in of_answers() or name in OBEDIENCE
    text = percent(estimate, unit=" %") if in_percent else number(estimate)
    if pd.isna(low) or pd.isna(high):
        return text
    write = percent if in_percent else number
    return f"{text} [{write(low)}, {write(high)}]"


def markdown_table(table: pd.DataFrame, interval: Kind = "across") -> str:
    """Write the values over seeds as in the README: a row per arm, and below which kind the intervals are."""
    shown, names = table[table["seed"].isna()], metric_names(table)
    lines = ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for arm in arm_order(shown["arm"]):
        cells = (
            shown[shown["arm"] == arm].set_index("metric").reindex(names)
        )  # an arm may have states and no answers yet
        lines.append(f"| {code(arm)} | " + " | ".join(_cell(name, cells.loc[name]) for name in names) + " |")
    return "\n".join([*lines, "", f"95 % intervals: {in_markdown(said_intervals(shown, wanted=interval))}."])


def plain_table(rows: pd.DataFrame, title: str) -> Table:
    """Turn a data frame into a table for the terminal: numbers to four digits, what is missing as a dash."""
    out = PlainTable(title)
    for name in rows:
        out.add_column(str(name), justify="right" if pd.api.types.is_numeric_dtype(rows[name]) else "left")
    for values in rows.itertuples(index=False):
        shown = (number(value, 4) if isinstance(value, float) else str(value) for value in values)
        out.add_row(*("–" if text in ("nan", "None") else text for text in shown))
    return out
