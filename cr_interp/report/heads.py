"""What ``cr-interp explain`` prints of heads, of windows of layers, and of how well attribution agrees with patching."""

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from cr_interp.study.study import Study
from cr_interp.system.percent import number
from cr_interp.system.shown import PlainTable, literal
from cr_interp.tables.attribution import agreement, first_cells


def rich_heads(heads: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """Return the heads that do most when they are patched, beside their controls."""
    caption = "Layer.head, among the heads that attribution named first; intervals as if they had been chosen beforehand."
    found = first_cells(heads[heads["chosen"] == "first"], readout=readout)
    cells = [f"{row.layer}.{row.head}" for row in found.itertuples()]
    return _table(f"{name}: heads that do most", "head", caption, found, cells, readout)


def rich_windows(windows: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """Return the windows of layers that do most when they are patched, beside their controls."""
    found = first_cells(windows, readout=readout)
    cells = [f"{row.site} {row.layer}–{row.layer + row.width - 1}" for row in found.itertuples()]
    caption = "Several layers at once; intervals as if the window had been chosen beforehand."
    return _table(f"{name}: windows of layers that do most", "layers", caption, found, cells, readout)


def rich_agreement(study: Study) -> Table:
    """Report how well attribution agrees with patching: correlations over the cells that have both."""
    exact = {name: study.table(name) if study.has_table(name) else None for name in _EXACT}
    found = agreement(study.table("attribution_examples"), *exact.values())
    table = PlainTable(
        f"{study.name}: attribution against patching",
        caption="Correlations over cells of the recovered shares [95 %]; heads (z): those named first and those drawn at random.",
    )
    _columns(table, ("arm", "seed", "direction", "site"), ("cells", "Pearson", "Spearman", "n"))
    for row in found.itertuples():
        values = [
            f"{number(row.pearson, 2)}\n[{number(row.pearson_low, 2)}, {number(row.pearson_high, 2)}]",
            f"{number(row.spearman, 2)}\n[{number(row.spearman_low, 2)}, {number(row.spearman_high, 2)}]",
        ]
        cells = [row.arm, row.seed, row.direction, row.site, row.n_cells, *values, row.n_examples]
        table.add_row(*(literal(str(cell)) for cell in cells))
    return table


#: Tables of patched cells that attribution is held against, in the order of ``agreement``'s arguments.
_EXACT = ("patching_examples", "patching_heads_examples")


def _table(
    title: str, which: str, caption: str, found: pd.DataFrame, cells: Sequence[str], readout: str
) -> Table:
    table = PlainTable(title, caption=caption)
    _columns(table, ("arm", "group", "direction", which), (f"{readout} [95 %]", "random", "other", "n"))
    for row, cell in zip(found.itertuples(), cells, strict=True):
        value = f"{number(row.estimate, 2)}\n[{number(row.low, 2)}, {number(row.high, 2)}]"
        shown = [
            row.arm,
            row.group,
            row.direction,
            cell,
            value,
            number(row.random, 2),
            number(row.other, 2),
            row.n_examples,
        ]
        table.add_row(*(literal(str(each)) for each in shown))
    return table


def _columns(table: Table, left: Sequence[str], right: Sequence[str]) -> None:
    for column in left:
        table.add_column(column, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
