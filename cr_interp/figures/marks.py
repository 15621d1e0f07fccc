"""What many figures draw alike: a band, an entry of the legend, the shaded rows of a forest.

Mental model: each function here adds one thing to a figure that is being made. The caller gives what differs (where, which
colour, whose legend entry it belongs to); what is the same in every figure (no outline, nothing to point at) stands here once.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.style import bold

#: ``unselected`` of a trace whose other markers must not turn pale when one is clicked.
UNCHANGED = {"marker": {"opacity": 1}}
#: Of every second row of a forest.
SHADE = "rgba(128,128,128,0.10)"


def arm_panels(arms: Sequence[str], heights: Sequence[float]) -> go.Figure:
    """Make an empty figure with a column per arm, and a row for each of ``heights``, on shared axes."""
    return make_subplots(
        len(heights),
        len(arms),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.08,
        horizontal_spacing=0.03,
        row_heights=list(heights),
        subplot_titles=bold(arms),
    )


def add_band(figure: go.Figure, x: Sequence[Any], low: Any, high: Any, fill: str, **where: Any) -> None:
    """Fill the area between ``low`` and ``high`` along ``x``; ``where`` is the legend's group, the panel, the axis."""
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=fill,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **where,
    )


def add_legend_entry(figure: go.Figure, name: str, **look: Any) -> None:
    """Name a line or marker in the legend without drawing it, since the panels may show it in several ways or not at all."""
    figure.add_scatter(x=[None], y=[None], name=name, **look)


def shade_rows(figure: go.Figure, rows: int) -> None:
    """Shade every second row of a forest, so that the eye follows a row to its name."""
    for place in range(0, rows, 2):
        figure.add_hrect(y0=place - 0.5, y1=place + 0.5, fillcolor=SHADE, line_width=0, layer="below")
