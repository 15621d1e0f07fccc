"""The four cases of an arm as a 2×2: right or wrong without the context (down) and with it (across)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells, mark_cell
from cr_interp.figures.style import (
    MARK_OUTSIDE,
    SHARE_SCALE,
    bold,
    empty_figure,
    finish,
    listed_seeds,
    safe_text,
    whole_range,
)
from cr_interp.system.percent import percent
from cr_interp.tables.example_pairs import CASES, case_at
from cr_interp.tables.interval_words import said_intervals
from cr_interp.vocabulary import arm_order


def four_cells(
    counts: pd.DataFrame,
    control: str = "exact",
    chosen: tuple[str, Sequence[str]] | None = None,
    seeds: pd.Series | None = None,
) -> go.Figure:
    """Draw a 2×2 per arm: right or wrong without the context (down) and with it (across), shares of its pairs.

    ``counts`` is :func:`case_counts`; ``chosen`` = (arm, cases) gets a frame, unless it is all of them; ``seeds`` are named
    in the caption. A cell can be clicked: its x and y are 0 for right and 1 for wrong, with and without the context; see
    :func:`case_at`.
    """
    if counts.empty:
        return empty_figure(f"No pairs of responses without and with the {safe_text(control)} context.")
    arms = arm_order(counts["arm"])
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = make_subplots(
        rows,
        columns,
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / rows if rows > 1 else 0,
        shared_yaxes=True,
        subplot_titles=bold(arms),
    )
    cell = {(row.arm, row.case): row for row in counts.itertuples()}
    for index, arm in enumerate(arms):
        where: dict[str, Any] = {"row": index // columns + 1, "col": index % columns + 1}
        at = {(y, x): cell[arm, case_at(x, y)] for y in (0, 1) for x in (0, 1)}
        z = np.array([[at[y, x].share for x in (0, 1)] for y in (0, 1)], dtype=float)

        def values(i: int, j: int, at: dict[Any, Any] = at) -> list[str]:
            row = at[i, j]
            ends = f"[{row.low:.1%}, {row.high:.1%}]"
            return [CASES[case_at(j, i)][2], f"{row.count} of {row.n}", f"{row.share:.1%}", ends]

        def text(i: int, j: int, at: dict[Any, Any] = at) -> str:
            return f"<b>{at[i, j].count}</b><br>{percent(at[i, j].share)} %"

        template = (
            f"<b>{safe_text(arm)}</b>, %{{customdata[0]}}<br>%{{customdata[1]}} pairs, %{{customdata[2]}} "
            "%{customdata[3]}"
        )
        add_cells(figure, z, [0, 1], [0, 1], values, template, arm, text=text, **where)
        if chosen is not None and chosen[0] == arm and len(chosen[1]) < len(CASES):
            for case in chosen[1]:
                without, given, _ = CASES[case]
                mark_cell(figure, int(not given), int(not without), **where)
        figure.update_xaxes(title="with context" if index + columns >= len(arms) else None, **where)
        figure.update_yaxes(title="without" if index % columns == 0 else None, **where)
    words = {
        "tickvals": [0, 1],
        "ticktext": ["right", "wrong"],
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
    }
    figure.update_traces(textfont={"color": MARK_OUTSIDE, "size": 14}, selector={"mode": "markers+text"})
    figure.update_layout(coloraxis={"colorscale": SHARE_SCALE, "cmin": 0, "cmax": 1, "showscale": False})
    several = counts["seeds"].max() > 1
    over = f"over {listed_seeds(seeds) if seeds is not None else str(whole_range(counts['seeds'])) + ' seeds'}"
    text_below = (
        f"Pairs of responses to the same prompt, without (down) and with the context ({control}, across)"
        f"{', ' + over if several else ''}: how many and their share. n = {whole_range(counts['n'])} pairs an arm. The "
        f"pointer shows 95 % intervals: {said_intervals(counts)}."
    )
    alt = "Right and wrong without and with the context. " + " ".join(
        f"{arm}: " + ", ".join(f"{CASES[case][2]} {cell[arm, case].count}" for case in CASES) + "."
        for arm in arms
    )
    figure = finish(figure, text_below, alt, height=52 + rows * 188, top=34)
    figure.update_xaxes(range=[-0.5, 1.5], **words)
    return figure.update_yaxes(range=[1.5, -0.5], ticklabelstandoff=4, **words)
