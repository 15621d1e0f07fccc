"""Strips: a panel per arm with common columns, small on long responses, text stays text."""

import json
from itertools import pairwise

import numpy as np
import pytest
from token_rows import HOSTILE, TWO, rows

from cr_interp import figures
from cr_interp.figures import cells, token_strips
from cr_interp.tables import token_view
from cr_interp.tables.token_view import Reading


def test_strips_have_a_panel_per_arm_with_common_columns():
    one = Reading.of("opd", TWO, "cosine")
    two = Reading.of("nca", rows(["a"], {-1: [1.0], 0: [0.8], 1: [0.9]}, [0.0]), "cosine")
    columns = token_view.align([one.tokens, two.tokens], similar=0)
    figure = token_strips.strips([one, two], columns, "cosine", 0.5, layer=1)
    heats = [np.asarray(trace.z, dtype=float) for trace in figure.data if trace.type == "heatmap"]
    assert heats[0] == pytest.approx(np.array([[0, 0], [0.2, 0.6], [1.0, 0]]))
    assert heats[1][:, 0] == pytest.approx([0, 0.4, 0.2])
    assert np.isnan(heats[1][:, 1]).all()
    assert [list(trace.y) for trace in figure.data if trace.type == "heatmap"] == [[-1, 0, 1]] * 2
    assert {shape.y0 for shape in figure.layout.shapes} == {0.5, 1.5}
    text = figures.caption(figure)
    assert "2 (opd), 1 (nca) tokens" in text
    assert "no interval" in text
    assert "opd: farthest is token 0, a, at layer 1, 1 − cosine 0.5" in figures.alt_text(figure)


def test_the_output_is_one_panel_with_a_row_per_arm():
    found = [Reading.of(arm, TWO, "kl") for arm in ("base", "opd")]
    figure = token_strips.strips(found, token_view.align([each.tokens for each in found]), "kl", 2.0)
    (heat,) = [np.asarray(trace.z, dtype=float) for trace in figure.data if trace.type == "heatmap"]
    assert heat.shape == (2, 2)
    assert list(heat[0]) == pytest.approx(list(token_view.share(np.array([0.01, 2.0]), "kl", 2.0)), rel=1e-6)
    assert figure.layout.yaxis.ticktext == ("<b>base</b>", "<b>opd</b>")
    assert "logarithmic" in figures.caption(figure)


def test_a_long_response_on_a_deep_model_stays_small():
    tokens = [f"t{i}" for i in range(2000)]
    found = [
        Reading(arm, tokens, list(range(-1, 80)), np.random.default_rng(0).random((81, 2000)))
        for arm in ("base", "opd", "nca")
    ]
    figure = token_strips.strips(found, token_view.align([tokens] * 3), "cosine", 1.0, 3, (0, token_view.WINDOW))
    assert sum(len(trace.x) for trace in figure.data if trace.type == "scatter") <= cells.CLICKABLE
    assert len(figure.to_json()) < 1.5e6
    assert "Columns 0 to 119 of 2000" in figures.caption(figure)


def test_figures_escape_tokens_and_arms():
    mine = Reading.of(HOSTILE, rows([HOSTILE, "b"], {0: [0.5, 1.0]}, [0.1, 0.1]), "cosine")
    output = Reading.of(HOSTILE, rows([HOSTILE, "b"], {0: [0.5, 1.0]}, [0.1, 0.1]), "kl")
    for figure in (
        token_strips.strips([mine], token_view.align([mine.tokens]), "cosine", 1.0),
        token_strips.strips([output], token_view.align([output.tokens]), "kl", 1.0),
    ):
        said = json.dumps(figure.to_plotly_json(), default=str)
        said = said.replace(json.dumps(figures.alt_text(figure))[1:-1], "").replace(
            json.dumps(figures.caption(figure))[1:-1], ""
        )
        metas = {trace.meta["panel"] for trace in figure.data}
        for meta in metas:
            said = said.replace(json.dumps(meta), "")
        assert "<script" not in said
        assert "&lt;script" in said


def test_nothing_to_show_says_so():
    assert token_strips.strips([], [], "cosine", 1.0).layout.annotations[0].text


@pytest.mark.parametrize("count", [1, 5, 12, 25, 40])
def test_labels_stand_level_and_do_not_meet(count):
    from cr_interp.figures.token_strips import LETTER, ROOM, level

    tokens = [f"token{number}" * (1 + number % 2) for number in range(count)]
    labels = level(tokens)
    column = ROOM / count
    lines = [label.count("<br>") for label in labels]
    for line in set(lines):
        on = [
            (place, label.replace("<br>", ""))
            for place, label in enumerate(labels)
            if label.count("<br>") == line
        ]
        for (a, first), (b, second) in pairwise(on):
            assert LETTER * (len(first) + len(second)) / 2 <= (b - a) * column, (first, second)
    assert max(lines) <= 2
