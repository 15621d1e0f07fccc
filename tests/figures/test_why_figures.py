"""The figures of knockout, attention mass and lens: what is drawn, what stands beside it, and what the captions say."""

import numpy as np
import pytest
from why_tables import attention, knockout, lens

from cr_interp.figures.style import alt_text, caption
from cr_interp.figures.why import attention_heads, attention_map, knockout_curves, lens_curves
from cr_interp.tables.knockout import attention_table, knockout_table, strongest_cuts
from cr_interp.tables.lens import lens_table, parting


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_knockout_over_seeds_and_its_strongest_layer_beside_the_control():
    table = knockout_table(knockout()).set_index(["span", "readers", "layer", "width", "control"])
    assert table.loc[("context", "all", 1, 1, "none"), "estimate"] == pytest.approx(0.6)
    assert table.loc[("context", "all", 1, 1, "none"), "low"] == pytest.approx(0.4)
    assert table.loc[("context", "all", 1, 1, "none"), "seeds"] == 2
    best = strongest_cuts(knockout()).set_index(["span", "readers"]).loc[("context", "aligned")]
    assert (best["layer"], best["estimate"], best["elsewhere"]) == (1, pytest.approx(0.6), 0)
    assert (best["all"], best["all_elsewhere"], best["cut"]) == (1, 0, 32)


def test_knockout_curves_show_effect_control_and_all_layers_at_once():
    figure = knockout_curves(knockout())
    effect, control = traces(figure, "opd"), traces(figure, "as many tokens elsewhere")
    assert [list(trace.x) for trace in effect] == [[0, 1, 2], [0, 1, 2]]  # a row for context, one for system
    np.testing.assert_allclose(effect[0].y, [0.1, 0.6, 0.0])
    np.testing.assert_allclose(control[0].y, 0)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert {trace.x[0] for trace in points} == {3.5}
    assert max(trace.y[0] for trace in points) == 1
    said = caption(figure)
    assert "n = 20 harmed examples" in said
    assert "2 seeds" in said
    assert "context 32, system 30" in said
    assert "Less is left elsewhere for context, system" in said
    assert "opd, context: most in layer 1, 0.60" in alt_text(figure)
    assert "No rescued answers" in knockout_curves(knockout(), group="rescued").layout.annotations[0].text


def test_attention_maps_name_the_even_share_and_the_heads():
    figure = attention_map(attention(), "opd")
    cells = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(cells) == 2
    assert np.isnan(cells[0].z).any()  # without the context there is no system message to look at
    said = caption(figure)
    assert "system 0.20" in said
    assert "n = 20 harmed examples" in said
    heads = attention_heads(attention(), "opd", span="system")
    np.testing.assert_allclose(
        next(trace for trace in heads.data if trace.type == "heatmap").z, [[0.25, 0.25], [0.25, 0.75]]
    )
    assert "layer 1, head 1, 0.75" in alt_text(heads)
    assert set(attention_table(attention(), head=None)["head"]) == {0, 1}
    assert "No attention" in attention_map(attention(), "nca").layout.annotations[0].text


def test_lens_curves_have_both_tokens_in_both_views_and_the_distance_below():
    figure = lens_curves(lens())
    assert list(traces(figure, "right, with context")[0].x) == [-1, 0, 1]
    np.testing.assert_allclose(traces(figure, "right, with context")[0].y, [-1, -1, -5])
    np.testing.assert_allclose(traces(figure, "wrong, with context")[0].y, [-5, -5, -1])
    assert len(traces(figure, "another example's state")) == 2
    np.testing.assert_allclose(traces(figure, "opd")[0].y, [0, 0, 1])
    assert "n = 20 harmed examples" in caption(figure)
    assert "with context: the wrong token is ahead from layer 1 on" in alt_text(figure)
    ranks = lens_curves(lens(), readout="rank")
    assert ranks.layout.yaxis.type == "log"


def test_where_the_views_choices_part():
    found = parting(lens()).set_index("view")
    assert found.loc["with_context", "ahead"] == "wrong"
    assert found.loc["with_context", "place"] == 1
    assert found.loc["no_context", "place"] == -1
    assert found.loc["with_context", "difference"] == pytest.approx(-4)
    assert len(lens_table(lens())) == 3 * 2 * 2 * 2
