"""The figures of knockout, attention mass and lens: what is drawn, what stands beside it, and what the captions say."""

import numpy as np
import pandas as pd
import pytest
from why_tables import RUN, attention, knockout, lens

from cr_interp.figures.lens_answer import lens_tokens
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
    assert (best["all"], best["all_elsewhere"], best["cut"], best["cut_elsewhere"]) == (1, 0, 32, 12)


def test_knockout_curves_show_effect_control_and_all_layers_at_once():
    figure = knockout_curves(knockout())
    effect, control = traces(figure, "opd"), traces(figure, "tokens elsewhere")
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
    assert (
        "Less is left elsewhere for context, system: there the control cuts all that is left (12 tokens)" in said
    )
    assert "opd, context: most in layer 1, 0.60" in alt_text(figure)
    assert figure.layout.yaxis.range[0] < -0.1 < 1.1 < figure.layout.yaxis.range[1]
    assert "No rescued answers" in knockout_curves(knockout(), group="rescued").layout.annotations[0].text


def test_kept_answers_that_the_same_cut_loses_stand_beside():
    harmed = knockout().assign(readout="answer")
    kept = harmed[harmed["control"] == "none"].assign(
        group="kept", estimate=lambda of: 1 - of["estimate"], n_examples=9
    )
    both = pd.concat([harmed, kept])
    best = (
        strongest_cuts(both, "answer").set_index(["group", "span", "readers"]).loc[("harmed", "context", "all")]
    )
    assert (best["kept"], best["all_kept"]) == (pytest.approx(0.4), 0)
    figure = knockout_curves(both, readout="answer")
    np.testing.assert_allclose(traces(figure, "kept answers still there")[0].y, [0.9, 0.4, 1.0])
    assert "kept answers that the same cut leaves (n = 9)" in caption(figure)
    assert not traces(knockout_curves(both), "kept answers still there")  # of a share there is nothing to lose
    assert not traces(knockout_curves(both, group="kept", readout="answer"), "kept answers still there")


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
    table = attention()
    without = table[table["control"] != "even"]  # nothing is said of a control that the table does not have
    for drawn, said in ((table, True), (without, False)):
        for figure in (attention_map(drawn, "opd"), attention_heads(drawn, "opd", span="system")):
            assert ("even attention" in caption(figure)) is said
            assert "nan" not in caption(figure)
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
    right = (lens()["token"] == "right") & (lens()["readout"] == "logprob")
    difference = lens()[right].assign(token="all", readout="difference")
    figure = lens_curves(pd.concat([lens(), difference]), readout="difference")
    np.testing.assert_allclose(traces(figure, "right − wrong, with context")[0].y, [-1, -1, -5])
    ranks = lens_curves(lens(), readout="rank")
    assert ranks.layout.yaxis.type == "log"
    assert ranks.layout.yaxis.range[0] > np.log10(9) > 0 > ranks.layout.yaxis.range[1]  # the first rank is up


def test_where_the_views_choices_part():
    found = parting(lens()).set_index("view")
    assert found.loc["with_context", "ahead"] == "wrong"
    assert found.loc["with_context", "place"] == 1
    assert found.loc["no_context", "place"] == -1
    assert found.loc["with_context", "difference"] == pytest.approx(-4)
    assert len(lens_table(lens())) == 3 * 2 * 2 * 2


def one_answer(text="a"):
    """Two positions; behind the last layer the view with the context says x where the answers part."""
    rows = []
    for site, layer in (("resid_pre", 0), ("resid_post", 0), ("resid_post", 1)):
        for view in ("no_context", "with_context"):
            for position, token in enumerate((text, "<|end|>")):
                wrong = position == 1 and view == "with_context" and layer == 1
                rows.append(
                    {
                        **RUN,
                        "seed": 0,
                        "example_id": "e1",
                        "position": position,
                        "parts": position == 1,
                        "view": view,
                        "site": site,
                        "layer": layer,
                        "control": "none",
                        "token": token,
                        "logprob": -5.0 if wrong else -0.1,
                        "rank": 2.0 if wrong else 1.0,
                        "top": "x" if wrong else token,
                        "kl": 1.0,
                    }
                )
    return pd.DataFrame(rows)


def test_one_answer_token_by_token():
    figure = lens_tokens(one_answer(), "opd", 0, "e1")
    cells = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_allclose(cells[1].z, [[-0.1, -0.1], [-0.1, -0.1], [-0.1, -5.0]], rtol=1e-6)
    words = [list(trace.text) for trace in figure.data if trace.type == "scatter"]
    assert words[1][-1] == "x"
    assert list(figure.layout.xaxis.ticktext) == ["a", "&lt;|end|&gt;"]
    assert "A frame marks where the answers part" in caption(figure)
    assert "with context, last layer: a x." in alt_text(figure)
    assert "no example e2" in lens_tokens(one_answer(), "opd", 0, "e2").layout.annotations[0].text


def test_texts_of_a_model_are_escaped():
    figure = lens_tokens(one_answer("<b>&"), "opd", 0, "e1")
    assert "<b>" not in str(figure.layout.xaxis.ticktext)
    assert all("<b>&" not in str(trace.text) for trace in figure.data)
