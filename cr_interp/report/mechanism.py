"""What ``cr-interp explain`` prints: for every arm and kind of site the layer that does most, beside its controls."""

import pandas as pd
from rich.table import Table

from cr_interp.system.shown import PlainTable, literal
from cr_interp.tables.patching import DIRECTIONS, strongest
from cr_interp.vocabulary import layer_name


def rich_patching(patching: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """:func:`~cr_interp.tables.patching.strongest` for the terminal. Where answers do not part there is no share, and no row."""
    table = PlainTable(
        f"{name}: patching, the layer that does most",
        caption="Intervals within these runs, as if the layer had been chosen beforehand.",
    )
    left = ("arm", "group", "direction", "site")
    for column in (*left, "layer", f"{readout} [95 %]", "random", "other", "n"):
        table.add_column(column, justify="left" if column in left else "right")
    order = {direction: index for index, direction in enumerate(DIRECTIONS)}
    found = strongest(patching, readout)
    for row in found.sort_values("direction", key=lambda each: each.map(order), kind="stable").itertuples():
        value = f"{_number(row.estimate)} [{_number(row.low)}, {_number(row.high)}]"
        controls = [_number(row.random), _number(row.other)]
        cells = [
            row.arm,
            row.group,
            row.direction,
            row.site,
            layer_name(row.place),
            value,
            *controls,
            row.n_examples,
        ]
        table.add_row(*(literal(str(cell)) for cell in cells))
    return table


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"
