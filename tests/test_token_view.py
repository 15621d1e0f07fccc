"""Tokens: movement, order and alignment known by hand; whatever a token says, it stays text."""

import doctest
import json
import re

import numpy as np
import pandas as pd
import pytest

from cr_interp import cells, figures, token_view
from cr_interp.token_view import OUTPUT, Reading

HOSTILE = "<script>window.hit=1</script>"


def rows(tokens: list[str], cosine: dict[int, list[float]], kl: list[float], example: str = "e0") -> pd.DataFrame:
    """Rows of one arm's response; ``cosine[layer]`` with layer −1 for the embedding."""
    found = []
    for layer, values in cosine.items():
        for position, (token, value) in enumerate(zip(tokens, values, strict=True)):
            site = "resid_pre" if layer < 0 else "resid_post"
            found.append((example, position, token, site, max(layer, 0), value, 2 * (1 - value), np.nan))
    for position, (token, value) in enumerate(zip(tokens, kl, strict=True)):
        found.append((example, position, token, "output", -1, np.nan, np.nan, value))
    columns = ["example_id", "position", "token", "site", "layer", "cosine", "relative_l2", "kl"]
    return pd.DataFrame(found, columns=columns)


TWO = rows(["a", "b"], {-1: [1.0, 1.0], 0: [0.9, 0.7], 1: [0.5, 1.0000001]}, [0.01, 2.0])


def reading(arm: str, tokens: list[str], drift: float = 0.1) -> Reading:
    return Reading(arm, tokens, [0], np.full((1, len(tokens)), drift))


# -- numbers -------------------------------------------------------------------------------------------------


def test_places():
    assert list(token_view.place(TWO)) == [-1, -1, 0, 0, 1, 1, OUTPUT, OUTPUT]


def test_movement_is_zero_where_nothing_moves_and_never_below():
    assert token_view.moved(TWO, "cosine")[:6] == pytest.approx([0, 0, 0.1, 0.3, 0.5, 0])
    assert token_view.moved(TWO, "relative_l2")[2:4] == pytest.approx([0.2, 0.6])
    assert token_view.moved(TWO, "kl")[-2:] == pytest.approx([0.01, 2.0])
    assert np.isnan(token_view.moved(TWO, "kl")[0])


def test_rank_by_the_farthest_token_and_by_the_mean():
    spiky = rows(["a", "b", "c"], {0: [1.0, 0.4, 1.0]}, [0, 0, 0], "spiky")
    even = rows(["d", "e"], {0: [0.6, 0.6]}, [0, 0], "even")
    both = pd.concat([even, spiky])
    both = both[both["site"] == "resid_post"]
    by_max = token_view.rank(both, "cosine", "max")
    assert list(by_max["example_id"]) == ["spiky", "even"]
    assert list(by_max["drift"]) == pytest.approx([0.6, 0.4])
    assert list(by_max["tokens"]) == [3, 2]
    assert (by_max.loc[0, "position"], by_max.loc[0, "token"]) == (1, "b")
    by_mean = token_view.rank(both, "cosine", "mean")
    assert list(by_mean["example_id"]) == ["even", "spiky"]
    assert list(by_mean["drift"]) == pytest.approx([0.4, 0.2])


def test_rank_of_nothing_and_of_nothing_measured():
    assert token_view.rank(TWO.iloc[:0], "cosine").empty
    assert token_view.rank(TWO[TWO["site"] == "output"], "cosine").empty


def test_the_scale_ends_where_99_percent_lie():
    values = np.append(np.linspace(0, 1, 1001), [np.nan, 50.0])
    assert token_view.scale_end(values) == pytest.approx(0.99, abs=0.01)
    assert token_view.scale_end(np.array([np.nan])) == 1.0
    assert token_view.scale_end(np.zeros(5)) > 0


def test_shares_are_linear_but_logarithmic_for_the_output():
    assert list(token_view.share(np.array([0.0, 0.2, 9.0]), "cosine", 0.4)) == pytest.approx([0, 0.5, 1])
    kl = token_view.share(np.array([0.0, 1e-3, 1e-2, 0.1, 5.0, np.nan]), "kl", 0.1)
    assert list(kl[:5]) == pytest.approx([0, 0, 0.5, 1, 1])
    assert np.isnan(kl[5])
    assert list(token_view.scale_ticks("kl", 0.1).items()) == [(0.0, "≤ 0.001"), (0.5, "0.01"), (1.0, "0.1")]


def test_a_reading_holds_each_place_and_token():
    mine = Reading.of("opd", TWO.sample(frac=1, random_state=0), "cosine")
    assert mine.tokens == ["a", "b"]
    assert mine.places == [-1, 0, 1]
    assert mine.drift == pytest.approx(np.array([[0, 0], [0.1, 0.3], [0.5, 0]]))
    assert list(mine.at(1)) == pytest.approx([0.5, 0])
    assert np.isnan(mine.at(7)).all()
    assert token_view.farthest([mine]) == pytest.approx(0.5)


def test_the_output_is_a_reading_without_layers():
    mine = Reading.of("opd", TWO, "kl")
    assert mine.places == [OUTPUT]
    assert list(mine.at(1)) == list(mine.at(-1)) == pytest.approx([0.01, 2.0])


# -- alignment -----------------------------------------------------------------------------------------------


def test_equal_tokens_share_a_column_and_an_insertion_opens_one():
    assert token_view.align([list("abcd"), list("abXcd")]) == [[0, 1, None, 2, 3], [0, 1, 2, 3, 4]]
    assert token_view.align([list("abcde"), list("acde")]) == [[0, 1, 2, 3, 4], [0, None, 1, 2, 3]]


def test_three_lists_are_matched_with_what_stands_already():
    columns = token_view.align([list("abcd"), list("abcdX"), list("Yabcd")])
    assert columns == [[None, 0, 1, 2, 3, None], [None, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, None]]


def test_unrelated_texts_are_aligned_by_position():
    assert token_view.align([list("hfhpkjf"), list("egojie")]) == [list(range(7)), [0, 1, 2, 3, 4, 5, None]]


def test_every_token_stands_in_exactly_one_column():
    draw = np.random.default_rng(0)
    for _ in range(50):
        lists = [list(draw.choice(list("abc"), draw.integers(0, 9))) for _ in range(3)]
        columns = token_view.align(lists)
        assert len({len(each) for each in columns}) == 1
        for tokens, mine in zip(lists, columns, strict=True):
            assert [index for index in mine if index is not None] == list(range(len(tokens)))
        assert all(any(mine[k] is not None for mine in columns) for k in range(len(columns[0])))


# -- HTML ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_seen_gets_a_sign():
    assert token_view.visible("") == "∅"
    assert token_view.visible(" a\n\t") == "·a⏎⇥"
    assert token_view.visible("\u202eabc\x00") == "‹202E›abc‹0000›"


def test_text_is_coloured_by_its_drift_and_gaps_are_shown():
    one, two = Reading.of("opd", TWO, "cosine"), reading("nca", ["a"])
    html = token_view.text_html(
        [one, two], token_view.align([one.tokens, two.tokens], similar=0), 0, "cosine", 0.3
    )
    styles = re.findall(r'<td style="background:([^"]*)" title="([^"]*)">([^<]*)</td>', html)
    assert [(colour, token) for colour, _, token in styles] == [
        (token_view.shade(1 / 3), "a"),
        (token_view.shade(1.0), "b"),
        (token_view.shade(1 / 3), "a"),
    ]
    assert "layer 0: cosine 0.9, relative L2 0.2" in styles[0][1]
    assert "output KL 2 nats" in styles[1][1]
    assert html.count("class='ct-gap'") == 1
    assert "0.3 and more" in html


@pytest.mark.parametrize(
    "hostile", [HOSTILE, "\" onmouseover='x' <img src=x onerror=alert(1)>", "</td></table><b>", "&lt;"]
)
def test_hostile_tokens_and_arms_stay_text(hostile):
    table = rows([hostile, " "], {0: [0.5, 1.0]}, [0.1, 0.1])
    mine = Reading.of(hostile, table, "cosine")
    html = token_view.text_html([mine], token_view.align([mine.tokens]), 0, "cosine", 0.3).replace(
        token_view.STYLE, ""
    )
    tags = set(re.findall(r"</?([a-zA-Z]+)", html))
    assert tags == {"div", "span", "i", "table", "tr", "th", "td"}
    attributes = set(
        re.findall(r"\s([a-z-]+)=[\"']", re.sub(r"\"[^\"]*\"|>[^<]*<", lambda m: m[0][0] + m[0][-1], html))
    )
    assert attributes <= {"class", "style", "title", "scope", "role", "aria-label"}
    assert "onerror" not in re.sub(r"\"[^\"]*\"|>[^<]*<", "", html)


def test_a_window_shows_only_its_columns():
    mine = reading("opd", [f"t{i}" for i in range(300)])
    html = token_view.text_html([mine], token_view.align([mine.tokens]), 0, "cosine", 1.0, (120, 240))
    shown = re.findall(r">(t\d+)<", html)
    assert shown == [f"t{i}" for i in range(120, 240)]
    # Lines are broken so that each fits.
    assert html.count("<table>") > 5


# -- figure --------------------------------------------------------------------------------------------------


def test_strips_have_a_panel_per_arm_with_common_columns():
    one = Reading.of("opd", TWO, "cosine")
    two = Reading.of("nca", rows(["a"], {-1: [1.0], 0: [0.8], 1: [0.9]}, [0.0]), "cosine")
    columns = token_view.align([one.tokens, two.tokens], similar=0)
    figure = token_view.strips([one, two], columns, "cosine", 0.5, layer=1)
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
    figure = token_view.strips(found, token_view.align([each.tokens for each in found]), "kl", 2.0)
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
    figure = token_view.strips(found, token_view.align([tokens] * 3), "cosine", 1.0, 3, (0, token_view.WINDOW))
    assert sum(len(trace.x) for trace in figure.data if trace.type == "scatter") <= cells.CLICKABLE
    assert len(figure.to_json()) < 1.5e6
    assert "Columns 0 to 119 of 2000" in figures.caption(figure)


def test_figures_escape_tokens_and_arms():
    mine = Reading.of(HOSTILE, rows([HOSTILE, "b"], {0: [0.5, 1.0]}, [0.1, 0.1]), "cosine")
    output = Reading.of(HOSTILE, rows([HOSTILE, "b"], {0: [0.5, 1.0]}, [0.1, 0.1]), "kl")
    for figure in (
        token_view.strips([mine], token_view.align([mine.tokens]), "cosine", 1.0),
        token_view.strips([output], token_view.align([output.tokens]), "kl", 1.0),
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
    assert token_view.strips([], [], "cosine", 1.0).layout.annotations[0].text


def test_examples_in_the_documentation():
    assert doctest.testmod(token_view).failed == 0
