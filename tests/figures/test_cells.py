"""Clickable cells: few enough markers, each where its cell is, and clicks that say which panel they were in."""

import numpy as np
import plotly.graph_objects as go
import pytest

from cr_interp.figures import cells


@pytest.mark.parametrize(
    ("rows", "columns", "panels"), [(5, 5, 3), (31, 31, 3), (81, 81, 8), (81, 120, 8), (1, 1, 1)]
)
def test_stride_is_the_smallest_that_keeps_within_the_limit(rows, columns, panels):
    def markers(step: int) -> int:
        return len(range(0, rows, step)) * len(range(0, columns, step)) * panels

    step = cells.stride(rows, columns, panels)
    assert markers(step) <= cells.CLICKABLE
    assert step == 1 or markers(step - 1) > cells.CLICKABLE


def test_markers_stand_on_their_cells_and_holes_have_none():
    figure = go.Figure()
    z = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])
    cells.add_cells(figure, z, [10, 20, 30], [-1, 0], lambda i, j: [f"{z[i, j]:g}"], "%{customdata[0]}", "a/b")
    heat, marks = figure.data
    assert np.array_equal(np.asarray(heat.z), z.astype("float32"), equal_nan=True)
    assert list(zip(marks.x, marks.y, [row[0] for row in marks.customdata], strict=True)) == [
        (10, -1, "1"),
        (20, -1, "2"),
        (30, -1, "3"),
        (10, 0, "4"),
        (30, 0, "6"),
    ]
    assert heat.hoverinfo == "skip"
    assert marks.marker.opacity == marks.unselected.marker.opacity == marks.selected.marker.opacity == 0


def test_a_click_names_its_panel_and_place():
    figure = go.Figure()
    for panel in ("opd", "nca"):
        cells.add_cells(figure, np.zeros((2, 2)), [0, 1], [0, 1], lambda i, j: [""], "", panel)
    assert cells.clicked(figure, [{"curve_number": 3, "x": 1, "y": 0}]) == ("nca", 1, 0)
    assert cells.clicked(figure, [{"curve_number": 1, "x": 0, "y": 1}]) == ("opd", 0, 1)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [{}],
        [{"curve_number": 99, "x": 1, "y": 1}],
        [{"curve_number": "1", "x": 1, "y": 1}],
        [{"curve_number": 0}],
    ],
)
def test_what_is_no_click_on_a_cell_is_nothing(points):
    figure = go.Figure(go.Scatter(x=[1], y=[1]))
    assert cells.clicked(figure, points) is None
    assert cells.clicked(figure, [{"curve_number": 0, "x": 1, "y": 1}]) is None
