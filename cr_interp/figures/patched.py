"""What the figures of patching draw alike: cells in one colour scale with their controls, and the words about them.

Mental model: a cell is what was recovered at one place, and beside it the pointer shows the controls of the same place. A site, a
head or a window of layers stands up the figure; the layer goes across. :mod:`cr_interp.figures.mechanism` draws sites,
:mod:`cr_interp.figures.heads` heads and windows.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.cells import add_cells
from cr_interp.figures.style import LESS_TO_MORE, layer_ticks, safe_text
from cr_interp.system.percent import number
from cr_interp.tables.interval_words import between
from cr_interp.tables.patching import CONTROLS

#: From undone to done, white where a patch does nothing; more and less than that is shown as these ends and said in the text.
SCALE = LESS_TO_MORE


def add_patched(
    figure: go.Figure,
    table: pd.DataFrame,
    up: str,
    across: str,
    ups: Sequence[Hashable],
    places: Sequence[int],
    named: Callable[[int, int], str],
    arm: str,
    said: str,
    heights: Sequence[int] | None = None,
    row: int = 1,
    column: int = 1,
) -> None:
    """Draw one arm's cells: ``up`` and ``across`` are columns of ``table``, ``ups`` and ``places`` their values in order.

    ``named`` gives a cell's name from its place in ``ups`` and ``places``; ``heights`` is where each of ``ups`` is drawn.
    """
    of = {(each[up], each[across], each["control"]): each for each in table.to_dict("records")}
    z = np.full((len(ups), len(places)), np.nan)
    for i, height in enumerate(ups):
        for j, place in enumerate(places):
            if (height, place, "none") in of:
                z[i, j] = of[height, place, "none"]["estimate"]

    def hover(i: int, j: int) -> list[str]:
        mine = of[ups[i], places[j], "none"]
        controls = [
            f"{says}: {number(of[ups[i], places[j], name]['estimate'], 2)}"
            for name, says in CONTROLS.items()
            if name != "none" and (ups[i], places[j], name) in of
        ]
        return [
            named(i, j),
            f"{number(mine['estimate'], 2)} {between(mine['low'], mine['high'])}",
            f"{int(mine['n_examples'])}",
            "<br>".join(controls) or "no controls",
        ]

    template = (
        f"<b>{safe_text(arm)}</b>, %{{customdata[0]}}<br>{said} %{{customdata[1]}}, n = %{{customdata[2]}}"
        "<br>%{customdata[3]}"
    )
    at = list(range(len(ups))) if heights is None else list(heights)
    add_cells(figure, z, list(places), at, hover, template, arm, row=row, col=column)


def finish_axes(figure: go.Figure, places: Sequence[int], last: int, readout: str) -> None:
    """Set what the panels share: the layer axis, named below the row ``last``, and the colours."""
    figure.update_xaxes(layer_ticks(places, 8), tickangle=0, range=[min(places) - 0.5, max(places) + 0.5])
    figure.update_xaxes(title="layer", row=last)
    figure.update_layout(
        coloraxis={"colorscale": SCALE, "cmin": -1, "cmax": 1, "colorbar": {"thickness": 12, "title": readout}},
        showlegend=False,
    )


def highest(real: pd.DataFrame) -> pd.DataFrame:
    """Keep each arm's row of the highest estimate."""
    return real.loc[real.groupby("arm", sort=False)["estimate"].idxmax()]


def controls_words(controls: pd.DataFrame, told: Mapping[str, str] | None = None) -> str:
    """Say how high each control comes; ``told`` adds to a control's name. "none" where nothing was controlled."""
    most = controls.groupby("control")["estimate"].max()
    words = [
        f"{CONTROLS[str(name)]} at most {number(value, 2)}{(told or {}).get(str(name), '')}"
        for name, value in most.items()
    ]
    return ", ".join(words) or "none"
