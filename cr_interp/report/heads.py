"""What ``cr-interp explain`` prints of heads, of windows of layers, and of how well attribution agrees with patching."""

import pandas as pd
from rich.table import Table

from cr_interp.study.study import Study
from cr_interp.system.shown import PlainTable, literal
from cr_interp.tables.attribution import agreement, first_cells
from cr_interp.vocabulary import layer_name


def rich_heads(heads: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """The heads that do most when they are patched, beside their controls."""
    caption = "Among the heads that attribution named first; intervals as if they had been chosen beforehand."
    return _cells(heads[heads["chosen"] == "first"], f"{name}: heads that do most", "head", caption, readout)


def rich_windows(windows: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """The windows of layers that do most when they are patched, beside their controls."""
    caption = "Several layers at once, from `layer` on; intervals as if the window had been chosen beforehand."
    return _cells(windows, f"{name}: windows of layers that do most", "width", caption, readout)


def rich_agreement(study: Study) -> Table:
    """Report how well attribution agrees with patching: correlations over the cells that have both."""
    exact = {name: study.table(name) if study.has_table(name) else None for name in _EXACT}
    found = agreement(study.table("attribution_examples"), *exact.values())
    table = PlainTable(
        f"{study.name}: attribution against patching",
        caption="Correlations over cells of the recovered shares; heads: those named first and those drawn at random.",
    )
    left = ("arm", "seed", "direction", "site")
    for column in (*left, "cells", "Pearson [95 %]", "Spearman [95 %]", "n"):
        table.add_column(column, justify="left" if column in left else "right")
    for row in found.itertuples():
        values = [
            f"{number(each)} [{number(low)}, {number(high)}]"
            for each, low, high in (
                (row.pearson, row.pearson_low, row.pearson_high), (row.spearman, row.spearman_low, row.spearman_high),
            )
        ]  # fmt: skip
        cells = [row.arm, row.seed, row.direction, row.site, row.n_cells, *values, row.n_examples]
        table.add_row(*(literal(str(cell)) for cell in cells))
    return table


#: Tables of patched cells that attribution is held against, in the order of ``agreement``'s arguments.
_EXACT = ("patching_examples", "patching_heads_examples")


def _cells(rows: pd.DataFrame, title: str, which: str, caption: str, readout: str) -> Table:
    table = PlainTable(title, caption=caption)
    left = ("arm", "group", "direction", "site")
    for column in (*left, "layer", which, f"{readout} [95 %]", "random", "other", "n"):
        table.add_column(column, justify="left" if column in left else "right")
    for row in first_cells(rows, readout=readout).itertuples():
        value = f"{number(row.estimate)} [{number(row.low)}, {number(row.high)}]"
        controls = [number(row.random), number(row.other)]
        place = [layer_name(row.layer), getattr(row, which)]
        cells = [row.arm, row.group, row.direction, row.site, *place, value, *controls, row.n_examples]
        table.add_row(*(literal(str(cell)) for cell in cells))
    return table


def number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"
