"""Figures of heads and of windows of layers: their cells, their captions, and what they say when there is nothing."""

import pandas as pd
import pytest

from cr_interp.figures.cells import clicked
from cr_interp.figures.heads import head_map, window_map
from cr_interp.figures.style import alt_text, caption


def rows(cells, **common):
    found = []
    for control, scale in (("none", 1.0), ("random", 0.1), ("other", 0.3)):
        for cell, value in cells:
            found.append(
                {
                    "arm": "opd",
                    "seed": 0,
                    "step": 9,
                    "group": "harmed",
                    "direction": "repair",
                    "control": control,
                    "readout": "share",
                    "estimate": scale * value,
                    "low": scale * value - 0.1,
                    "high": scale * value + 0.1,
                    "before": 0.0,
                    "n_examples": 20,
                    **common,
                    **cell,
                }
            )
    return pd.DataFrame(found)


@pytest.fixture
def heads():
    every = [
        ({"layer": layer, "head": head}, 0.1 * layer + 0.01 * head) for layer in range(3) for head in range(4)
    ]
    attribution = rows(every, site="z")
    exact = rows([({"layer": 2, "head": 3}, 1.4), ({"layer": 0, "head": 1}, 0.2)], site="z", chosen="first")
    return attribution, exact


def test_both_are_drawn_on_one_grid(heads):
    figure = head_map(*heads)
    guessed, _, exact, marks = figure.data
    assert guessed.z[3][2] == pytest.approx(0.23)
    assert exact.z[3][2] == pytest.approx(1.4)
    assert len(marks.x) == 2  # only patched heads can be pointed at
    assert clicked(figure, [{"curve_number": 3, "x": 2, "y": 3}]) == ("opd", 2, 3)
    assert any("another example's state: 0.42" in text for row in marks.customdata for text in row)
    said = caption(figure)
    assert "n = 20 harmed examples" in said
    assert "a random direction of the same norm at most 0.14" in said
    assert "Patching: opd most at layer 2, head 3, 1.40" in alt_text(figure)


def test_a_single_cluster_has_no_interval(heads):
    """As where sites are patched: no [nan, nan]."""
    attribution, exact = heads
    marks = head_map(attribution, exact.assign(low=float("nan"), high=float("nan"))).data[3]
    assert all("(no interval: a single cluster)" in cell[1] for cell in marks.customdata)


def test_attribution_alone_says_that_nothing_was_patched(heads):
    figure = head_map(heads[0])
    assert len(figure.data) == 2
    assert "No head was patched exactly" in caption(figure)
    assert "No heads" in head_map(heads[0], group="rescued").layout.annotations[0].text


def test_windows_stand_above_single_layers():
    windows = rows([({"layer": 0, "width": 2}, 0.5), ({"layer": 1, "width": 2}, 0.9)], site="attn_out")
    single = rows([({"layer": layer}, 0.1 * layer) for layer in range(3)], site="attn_out")
    figure = window_map(windows, single)
    assert figure.layout.yaxis.ticktext == ("1", "2")
    assert figure.data[0].z[0][2] == pytest.approx(0.2)
    assert figure.data[0].z[1][1] == pytest.approx(0.9)
    assert "opd most at layer 1, width 2, 0.90" in alt_text(figure)
    assert "No windows of mlp_out" in window_map(windows, single, site="mlp_out").layout.annotations[0].text
