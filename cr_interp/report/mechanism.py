"""What ``cr-interp explain`` prints: where an answer is decided, who reads the context, and from which layer on it shows."""

from collections.abc import Callable, Sequence

import pandas as pd
from rich.table import Table

from cr_interp.report.heads import rich_agreement, rich_heads, rich_windows
from cr_interp.report.trained import PRINTED
from cr_interp.study.study import Study
from cr_interp.system.percent import number
from cr_interp.system.shown import PlainTable, literal
from cr_interp.tables.knockout import strongest_cuts
from cr_interp.tables.lens import parting
from cr_interp.tables.patching import DIRECTIONS, strongest
from cr_interp.vocabulary import layer_name

#: In which answers part.
GROUPS = ("harmed", "rescued", "changed")


def printed(study: Study, names: Sequence[str]) -> list[Table]:
    """Return the tables that are printed behind these analyses, as far as the study has them."""
    known: dict[str, tuple[str, Callable[[pd.DataFrame, str], Table]]] = {
        "patching": ("patching", rich_patching),
        "windows": ("patching_windows", rich_windows),
        "heads": ("patching_heads", rich_heads),
        "knockout": ("knockout", rich_knockout),
        "lens": ("lens", rich_lens),
    }
    found = [
        show(study.table(table), study.name)
        for name, (table, show) in known.items()
        if name in names and study.has_table(table)
    ]
    if "attribution" in names and study.has_table("attribution_examples"):
        found.append(rich_agreement(study))
    return found + [PRINTED[name](study) for name in names if name in PRINTED and study.has_table(name)]


def rich_knockout(knockout: pd.DataFrame, name: str, readout: str = "answer") -> Table:
    """Make the terminal's table of :func:`~cr_interp.tables.knockout.strongest_cuts`."""
    table = PlainTable(
        f"{name}: knockout, share of answers without the context that are back",
        caption="In all layers, and in the layer that does most, as if it had been chosen beforehand. In round brackets: a "
        "span's tokens and those of its control; the share with the control's tokens cut off, which are of what both views "
        "have, as many as there are; the share of kept answers that the cut leaves. "
        "Intervals within these runs.",
    )
    left = ("arm", "group", "span", "readers")
    for column in (*left, "all layers", "layer", "alone", "n"):
        table.add_column(column, justify="left" if column in left else "right", no_wrap=column in left)
    found = strongest_cuts(knockout, readout)
    for row in found[found["group"].isin(GROUPS)].itertuples():
        cells = [
            row.arm,
            row.group,
            f"{row.span} ({row.cut:.0f}; {row.cut_elsewhere:.0f})",
            row.readers,
            _share(row.all, row.all_elsewhere, row.all_kept, row.all_low, row.all_high),
            "–" if pd.isna(row.layer) else f"{row.layer:.0f}",
            _share(row.estimate, row.elsewhere, row.kept, row.low, row.high),
            row.n_examples,
        ]
        table.add_row(*(literal(str(cell)) for cell in cells))
    return table


def _share(estimate: float, elsewhere: float, kept: float, low: float, high: float) -> str:
    return f"{number(estimate, 2)} ({number(elsewhere, 2)}; {number(kept, 2)})\n[{number(low, 2)}, {number(high, 2)}]"


def rich_lens(lens: pd.DataFrame, name: str) -> Table:
    """Make the terminal's table of :func:`~cr_interp.tables.lens.parting`, one row per arm, group and view."""
    table = PlainTable(
        f"{name}: lens, from which layer on the last layer's choice is ahead",
        caption="Log-probability of the right minus the wrong token behind the last layer; means over seeds.",
    )
    left = ("arm", "group", "view", "ahead")
    for column in (*left, "from layer", "right − wrong", "n"):
        table.add_column(column, justify="left" if column in left else "right")
    for group in (each for each in GROUPS if each in set(lens["group"])):
        for row in parting(lens, group).itertuples():
            cells = [
                row.arm,
                group,
                row.view,
                row.ahead,
                layer_name(row.place),
                number(row.difference, 2),
                row.n_examples,
            ]
            table.add_row(*(literal(str(cell)) for cell in cells))
    return table


def rich_patching(patching: pd.DataFrame, name: str, readout: str = "share") -> Table:
    """Make the terminal's table of :func:`~cr_interp.tables.patching.strongest`. Where answers do not part there is no share,
    and no row.
    """
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
        value = f"{number(row.estimate, 2)} [{number(row.low, 2)}, {number(row.high, 2)}]"
        controls = [number(row.random, 2), number(row.other, 2)]
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
