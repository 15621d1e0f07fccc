"""Coloured cells that can be clicked, for layer × layer maps, token strips and tables of counts.

Mental model. A heat map paints the cells: they meet at any size. Streamlit gets no clicks from a heat map, so a layer of
invisible square markers lies over it; these report clicks and carry the hover text. Only one marker is drawn
(``maxdisplayed``); the pointer finds the others all the same. Markers make a figure large, so a large grid has one in every
second, third, … row and column (:func:`stride`), and the pointer finds the nearest.

Both traces of a panel carry ``meta = {"panel": name}``; a click comes back as the number of a trace and x, y.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray

from cr_interp.figures.style import MARK_INSIDE, MARK_OUTSIDE

#: Invisible markers of one figure; 50 000 of them would be megabytes to send.
CLICKABLE = 3000


def stride(rows: int, columns: int, panels: int, limit: int = CLICKABLE) -> int:
    """Choose the step between clickable rows and columns, so that all panels together have at most ``limit`` markers.

    >>> stride(31, 31, 3), stride(81, 81, 8)
    (1, 5)
    """
    step = 1
    while -(-rows // step) * -(-columns // step) * panels > limit:
        step += 1
    return step


def add_cells(
    figure: go.Figure,
    z: Float[ndarray, "row column"],
    x: Sequence[Any],
    y: Sequence[Any],
    hover: Callable[[int, int], Sequence[Any]],
    template: str,
    panel: Hashable,
    step: int = 1,
    text: Callable[[int, int], str] | None = None,
    coloraxis: str = "coloraxis",
    **where: Any,
) -> None:
    """Paint ``z`` (NaN: no cell) at the places ``x`` and ``y``, and make its cells clickable.

    ``hover(i, j)`` gives the values for row i, column j that the hover ``template`` names as ``%{customdata[0]}``, …. Plotly
    reads some HTML in both, so names in them must have been escaped.
    """
    meta = {"panel": str(panel)}
    figure.add_heatmap(
        z=np.asarray(z, dtype=np.float32),
        x=list(x),
        y=list(y),
        coloraxis=coloraxis,
        hoverinfo="skip",
        meta=meta,
        hoverongaps=False,
        **where,
    )
    at = [(i, j) for i in range(0, len(y), step) for j in range(0, len(x), step) if np.isfinite(z[i, j])]
    none = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=[x[j] for _, j in at],
        y=[y[i] for i, _ in at],
        showlegend=False,
        meta=meta,
        mode="markers+text" if text else "markers",
        text=[text(i, j) for i, j in at] if text else None,
        marker={"symbol": "square", "size": 9, "opacity": 0, "maxdisplayed": 0 if text else 1},
        selected=none,
        unselected=none,
        customdata=[list(hover(i, j)) for i, j in at],
        hovertemplate=f"{template}<extra></extra>",
        **where,
    )


def mark_cell(figure: go.Figure, x: float, y: float, inset: float = 0.03, **where: Any) -> None:
    """Draw a frame around one cell, dark outside and light inside, so that it is seen on any colour."""
    reach = 0.5 - inset
    for colour, width in ((MARK_OUTSIDE, 4), (MARK_INSIDE, 1.8)):
        figure.add_shape(
            type="rect",
            x0=x - reach,
            x1=x + reach,
            y0=y - reach,
            y1=y + reach,
            layer="above",
            line={"color": colour, "width": width},
            **where,
        )


def clicked(figure: go.Figure, points: Sequence[dict[str, Any]]) -> tuple[str, Any, Any] | None:
    """Read ``(panel, x, y)`` of a click from the points that the app reports; None without a click."""
    for point in points:
        number = point.get("curve_number")
        if isinstance(number, int) and 0 <= number < len(figure.data):
            meta = figure.data[number].meta
            if isinstance(meta, dict) and "panel" in meta and "x" in point and "y" in point:
                return meta["panel"], point["x"], point["y"]
    return None
