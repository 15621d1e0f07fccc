"""The verdict's table: every row's numbers once, a colour only where the interval excludes 0, nothing from a file as HTML."""

import re

import pandas as pd
import pytest

from cr_interp.figures.style import READING_COLOURS
from cr_interp.figures.verdict_html import chips_html, verdict_html

NAN = float("nan")


def table(*rows: tuple) -> pd.DataFrame:
    names = ("metric", "words", "unit", "better", "baseline", "arm", "estimate", "low", "high", "reading")
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


ROWS = table(
    ("harm", "Harm", "%", "less", 0.22, 0.01, -0.21, -0.335, -0.108, "better"),
    ("acc_x", "Acc_x", "%", "more", 1.0, 0.99, -0.01, -0.05, 0.03, "open"),
    ("new_instruction", "Obeys", "%", "more", 0.5, 0.25, -0.25, -0.4, -0.1, "worse"),
    ("fidelity", "Fidelity", "nats", "less", NAN, NAN, NAN, NAN, NAN, "not measured"),
)


def test_a_row_has_its_numbers_once_and_its_colour_where_it_is_sure():
    html = verdict_html(ROWS, "nca", "opd")
    rows = re.findall(r"<tr>.*?</tr>", html)[1:]
    assert len(rows) == 4
    assert "22.0 %" in rows[0]
    assert "−21.0 [−33.5, −10.8] pts" in rows[0]
    assert rows[0].count("−21.0") == 1
    for row, colour in zip(rows, ("better", "open", "worse"), strict=False):
        assert READING_COLOURS[colour] in row
        assert not [other for other in ("better", "worse") if other != colour and READING_COLOURS[other] in row]
        assert colour in re.sub(r"<[^>]*>", " ", row)
    assert "not measured" in rows[3]
    assert "ct-point" not in rows[3]


def test_bars_lie_where_their_numbers_say():
    html = verdict_html(ROWS, "nca", "opd")
    first = re.search(
        r"ct-whisker' style='left:([\d.]+)%;width:([\d.]+)%.*?ct-point' style='left:([\d.]+)%", html
    )
    low, width, at = (float(each) for each in first.groups())
    assert low < at < low + width < 50  # 50: the axis's zero
    assert (50 - at) / (50 - low) == pytest.approx(0.21 / 0.335, abs=0.01)
    assert "−50" in html  # the axis ends at the next round number


def test_it_is_a_table_that_can_be_read_aloud():
    html = verdict_html(ROWS, "nca", "opd", {"harm": 'of "right" ones'})
    assert html.count("scope='row'") == 4
    assert html.count("scope='col'") == 6
    assert "of &quot;right&quot; ones" in html
    assert html.count("<div class='ct-bar' aria-hidden='true'>") == 4
    assert "<svg" not in html  # where the page shows HTML only, SVG is taken out


def test_names_are_escaped():
    html = verdict_html(ROWS, "<b>x</b>", "a'b\"c") + chips_html("<i>", ["<script>"])
    assert "<b>x" not in html
    assert "<script>" not in html
    assert "<i>" not in html


def test_distances_have_an_axis_of_their_own_and_digits_that_tell_them_apart():
    tiny = ("fidelity", "Fidelity", "nats", "less", 0.000034, 0.000021, -0.000013, -0.00004, 0.00002, "open")
    wide = ("invariance", "Invariance", "nats", "less", 0.4, 0.1, -0.3, -0.5, -0.1, "better")
    html = verdict_html(pd.concat([ROWS[:1], table(tiny, wide)]), "nca", "opd")
    assert html.index("Harm") < html.index("+0.5 nats") < html.index("Fidelity")
    assert html.count("ct-scale'") == 1
    assert "−0.000013 [−0.000040, +0.000020] nats" in html
    assert "0.400 nats" in html
    # One axis for both: the tiny difference is drawn tiny.
    widths = [float(each) for each in re.findall(r"ct-whisker' style='left:[\d.]+%;width:([\d.]+)%", html)]
    assert widths[1] < 0.1 < widths[2]
    assert "nats" not in verdict_html(ROWS[:3], "nca", "opd")
