"""The report's parts on heads and on windows of layers: a figure of each, and the cells that do most beside their controls."""

from typing import Any

import pandas as pd

from cr_interp import figures
from cr_interp.report.parts import Drawing, Numbers, Words
from cr_interp.study.study import Study
from cr_interp.tables.attribution import agreement, first_cells


def heads(study: Study) -> list[Any]:
    """Report which heads decide, by attribution and by patching, and how well the two agree."""
    exact = study.table("patching_heads")
    group = _group(exact)
    parts: list[Any] = [Words("Heads", "head")]
    if study.has_table("attribution"):
        parts.append(Drawing(figures.head_map(study.table("attribution"), exact, group=group), least=480))
    note = (
        f"The heads that do most on {group} answers when they are patched, among those that attribution named first. Intervals "
        f"within these runs, as if a head had been chosen beforehand.{_agreed(study)}"
    )
    parts.append(Numbers(_shown(exact[exact["chosen"] == "first"], group, "head"), note, heads=4))
    return parts


def windows(study: Study) -> list[Any]:
    """Report how many layers it takes."""
    table = study.table("patching_windows")
    group = _group(table)
    single = study.table("patching") if study.has_table("patching") else None
    drawings = [
        Drawing(figures.window_map(table, single, str(site), group), least=480) for site in table["site"].unique()
    ]
    note = f"The windows of layers that do most on {group} answers, from the layer given on. Intervals within these runs."
    return [
        Words("Several layers at once", "head"),
        *drawings,
        Numbers(_shown(table, group, "width"), note, heads=4),
    ]


def _group(table: pd.DataFrame) -> str:
    groups = list(table["group"].unique())
    return "harmed" if "harmed" in groups else str(groups[0])


def _shown(table: pd.DataFrame, group: str, which: str) -> pd.DataFrame:
    found = first_cells(table[table["group"] == group])
    if found.empty:
        return pd.DataFrame(columns=["arm", "direction", "site", "layer", which])
    return pd.DataFrame(
        {
            "arm": found["arm"].astype(str), "direction": found["direction"], "site": found["site"],
            "layer": found["layer"].astype(str), which: found[which].astype(str),
            "recovered share": [f"{r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in found.itertuples()],
            "random direction": found["random"].map("{:.2f}".format), "another example": found["other"].map("{:.2f}".format),
            "n": found["n_examples"].astype(int).astype(str),
        }
    ).replace("nan", "–")  # fmt: skip


def _agreed(study: Study) -> str:
    names = ("attribution_examples", "patching_heads_examples")
    if not all(study.has_table(name) for name in names):
        return ""
    found = agreement(study.table(names[0]), None, study.table(names[1]))
    if found.empty:
        return ""
    return (
        f" Over heads that were patched, named first or drawn at random, attribution and patching correlate (Spearman) by "
        f"{found['spearman'].min():.2f} to {found['spearman'].max():.2f}, run by run and direction by direction."
    )
