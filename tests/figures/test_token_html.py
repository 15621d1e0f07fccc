"""Responses as HTML: coloured by drift, and whatever a token says, it stays text."""

import re

import pytest
from token_rows import HOSTILE, TWO, reading, rows

from cr_interp.figures import style, token_html
from cr_interp.tables import token_view
from cr_interp.tables.token_view import Reading


def test_text_is_coloured_by_its_drift_and_gaps_are_shown():
    one, two = Reading.of("opd", TWO, "cosine"), reading("nca", ["a"])
    html = token_html.text_html(
        [one, two], token_view.align([one.tokens, two.tokens], similar=0), 0, "cosine", 0.3
    )
    styles = re.findall(r'<td style="background:([^"]*)" title="([^"]*)">([^<]*)</td>', html)
    assert [(colour, token) for colour, _, token in styles] == [
        (style.shade(1 / 3), "a"),
        (style.shade(1.0), "b"),
        (style.shade(1 / 3), "a"),
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
    html = token_html.text_html([mine], token_view.align([mine.tokens]), 0, "cosine", 0.3).replace(
        token_html.STYLE, ""
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
    html = token_html.text_html([mine], token_view.align([mine.tokens]), 0, "cosine", 1.0, (120, 240))
    shown = re.findall(r">(t\d+)<", html)
    assert shown == [f"t{i}" for i in range(120, 240)]
    # Lines are broken so that each fits.
    assert html.count("<table>") > 5
