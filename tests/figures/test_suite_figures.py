"""The suite's figures: they show the tables' numbers, say what they show, and survive what is missing."""

import json
import subprocess
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_study

from cr_interp.figures.regimes import go, regime_scatter
from cr_interp.figures.style import alt_text, arm_colour, arm_symbol, caption
from cr_interp.figures.suite import harm_forest
from cr_interp.figures.suite_curves import drift_small_multiples, early_gap_curves
from cr_interp.tables import suite

SETTINGS = ("sokoban-self", "rules-llama", "codebook-gemma2")


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    root = tmp_path_factory.mktemp("figures") / "mine"
    for index, setting in enumerate(SETTINGS):
        make_study(root / setting, seeds=(0, 1), examples=20, layers=3 + index, seed=index, controls=("exact",))
    mine = suite.open_suite(root)
    return {
        "rows": suite.setting_rows(mine),
        "early": suite.early_gap(suite.suite_training(mine)),
        "drift": suite.suite_drift(mine),
    }


def drawn(tables: dict[str, pd.DataFrame]) -> dict[str, go.Figure]:
    return {
        "regimes": regime_scatter(tables["rows"]),
        "forest": harm_forest(tables["rows"]),
        "early": early_gap_curves(tables["early"]),
        "drift": drift_small_multiples(tables["drift"]),
    }


def curve(figure: go.Figure, name: str, index: int = 0) -> go.Scatter:
    return [trace for trace in figure.data if trace.name == name and trace.x[0] is not None][index]


@pytest.mark.slow
def test_every_figure_says_what_it_shows_and_has_no_background(tables):
    for name, figure in drawn(tables).items():
        assert "n = " in caption(figure), name
        assert "95 %" in caption(figure), name
        assert "opd" in alt_text(figure), name
        assert "nca" in alt_text(figure), name
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)", name
        assert any(axis.title.text for axis in figure.select_xaxes()), name
        named = [axis for axis in figure.select_yaxes() if axis.title.text or axis.ticktext]
        assert named, name
        assert {
            arm for arm in ("opd", "nca") if any(t.name == arm and t.showlegend is not False for t in figure.data)
        } == {"opd", "nca"}, name
        json.loads(figure.to_json())


def test_arms_look_as_in_every_other_figure(tables):
    for figure in drawn(tables).values():
        for arm in ("opd", "nca"):
            marker = curve(figure, arm).marker
            symbols = {marker.symbol} if isinstance(marker.symbol, str) else set(marker.symbol)
            assert marker.color == arm_colour(arm)
            assert {symbol.removesuffix("-open") for symbol in symbols} == {arm_symbol(arm)}


def test_tables_are_left_as_they_were(tables):
    before = {name: table.copy() for name, table in tables.items()}
    drawn(tables)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, before[name])


def test_regimes_are_drawn_where_they_are(tables):
    rows = tables["rows"].set_index(["arm", "setting"])
    figure = regime_scatter(tables["rows"])
    for arm in ("opd", "nca"):
        mine, trace = rows.loc[arm], curve(figure, arm)
        assert list(trace.x) == list(mine["harm"])
        assert list(trace.y) == pytest.approx(list(100 * mine["acc_change"]))
        is_open = [symbol.endswith("-open") for symbol in trace.marker.symbol]
        assert is_open == list(~mine["regime"].isin(["A", "B"]))
        # accuracy loses at most Harm, which is what the dotted line says
        assert all(y >= -100 * x - 1e-9 for x, y in zip(trace.x, trace.y, strict=True))
    arrows = [note for note in figure.layout.annotations if note.showarrow]
    assert {(note.ax, note.x) for note in arrows} == {
        (rows.loc[("opd", setting), "harm"], rows.loc[("nca", setting), "harm"]) for setting in SETTINGS
    }
    named = [note.text for note in figure.layout.annotations if note.name == "setting"]
    assert sorted(named) == sorted(SETTINGS)
    assert "base" not in {trace.name for trace in figure.data}


def test_names_beside_crowded_markers_do_not_lie_on_each_other(tables):
    row = tables["rows"][tables["rows"]["arm"] == "opd"].iloc[[0]]
    crowd = pd.concat(
        [row.assign(setting=f"setting-{i}", harm=0.2 + i / 100) for i in range(6)], ignore_index=True
    )
    figure = regime_scatter(crowd)
    left, right = figure.layout.xaxis.range
    low, high = figure.layout.yaxis.range
    boxes = []
    for note in figure.layout.annotations:
        if note.name == "setting":  # a letter is about 0.8 % of the figure's width, a line 4 % of its height
            reach = 0.008 * (right - left) * len(note.text)
            span = (note.x, note.x + reach) if note.xanchor == "left" else (note.x - reach, note.x)
            boxes.append((span, note.y))
    assert len(boxes) == 6
    for one, other in combinations(boxes, 2):
        apart = one[0][1] <= other[0][0] or other[0][1] <= one[0][0]
        assert apart or abs(one[1] - other[1]) >= 0.03 * (high - low)
    assert left < min(crowd["harm"])
    assert max(crowd["harm"]) < right


def test_markers_that_lie_on_each_other_share_a_label(tables):
    row = tables["rows"][tables["rows"]["arm"] == "opd"].iloc[[0]]
    places = [0.2, 0.2, 0.2, 0.3, 0.3, 0.4]
    crowd = pd.concat([row.assign(setting=f"s{i}", harm=x) for i, x in enumerate(places)], ignore_index=True)
    named = {note.text for note in regime_scatter(crowd).layout.annotations if note.name == "setting"}
    assert named == {"3 settings", "s3, s4", "s5"}


def test_the_forest_has_a_row_a_setting_and_the_intervals(tables):
    rows = tables["rows"]
    figure = harm_forest(rows)
    assert list(figure.layout.yaxis.ticktext) == ["rules-llama", "codebook-gemma2", "sokoban-self"]
    for arm in ("opd", "nca"):
        mine, trace = rows[rows["arm"] == arm], curve(figure, arm)
        assert [round(y) for y in trace.y] == [0, 1, 2]
        assert list(trace.x) == list(mine["harm"])
        assert list(np.asarray(trace.x) + trace.error_x.array) == pytest.approx(list(mine["harm_high"]))
        assert list(np.asarray(trace.x) - trace.error_x.arrayminus) == pytest.approx(list(mine["harm_low"]))
    assert not [trace for trace in figure.data if trace.name == "floor" and len(trace.x)]
    noisy = harm_forest(rows.assign(harm_floor=0.07))
    assert [list(trace.x) for trace in noisy.data if trace.name == "floor"] == [[0.07] * 3] * 2
    assert "noise floor" in caption(noisy)


def test_early_curves_are_the_means_and_their_bands(tables):
    early = tables["early"]
    figure = early_gap_curves(early)
    for index, metric in enumerate(("acc_xc", "harm")):
        mine = early[(early["arm"] == "opd") & (early["metric"] == metric)].dropna(subset="estimate")
        trace = curve(figure, "opd", index)
        assert list(trace.x) == list(mine["step"])
        assert list(trace.y) == list(mine["estimate"])
        band = next(
            t for t in figure.data if t.fill == "toself" and t.xaxis == trace.xaxis and t.legendgroup == "opd"
        )
        assert max(band.y) == pytest.approx(mine["high"].max())
    assert "over settings" in caption(figure)
    assert len({trace.xaxis for trace in early_gap_curves(early, ["acc_x", "acc_xc", "harm"]).data}) == 3


def test_a_single_setting_has_lines_without_a_band(tables):
    one = tables["early"].assign(low=np.nan, high=np.nan)
    figure = early_gap_curves(one)
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    assert "Band" not in caption(figure)
    assert list(curve(figure, "nca").y) == list(one.query("arm == 'nca' and metric == 'acc_xc'")["estimate"])


def test_panels_of_drift_are_one_a_setting_on_one_scale(tables):
    drift = tables["drift"]
    figure = drift_small_multiples(drift)
    titles = [note.text for note in figure.layout.annotations if note.text]
    assert titles == ["rules-llama", "codebook-gemma2", "sokoban-self"]
    for index, setting in enumerate(titles):
        mine = drift[(drift["setting"] == setting) & (drift["arm"] == "nca")]
        trace = curve(figure, "nca", index)
        assert list(trace.x) == list(mine["layer"])
        assert list(trace.y) == list(mine["estimate"])
    ranges = {tuple(axis.range) for axis in figure.select_yaxes()}
    assert len(ranges) == 1
    low, high = ranges.pop()
    assert low < drift["low"].min()
    assert drift["high"].max() < high


@pytest.mark.parametrize("count", [1, 5, 12])
def test_any_number_of_panels(tables, count):
    one = tables["drift"][tables["drift"]["setting"] == "rules-llama"]
    many = pd.concat([one.assign(setting=f"s{i:02d}") for i in range(count)], ignore_index=True)
    figure = drift_small_multiples(many)
    assert len([note for note in figure.layout.annotations if note.text]) == count
    assert len([axis for axis in figure.select_xaxes() if axis.title.text]) == min(4, count)


def test_nothing_to_show_is_a_figure_that_says_so(tables):
    for figure in (
        regime_scatter(tables["rows"].iloc[:0]),
        harm_forest(tables["rows"].assign(harm=np.nan)),
        early_gap_curves(tables["early"].iloc[:0]),
        drift_small_multiples(tables["drift"], arms=("nonesuch",)),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text
        assert alt_text(figure)


def test_one_arm_alone_has_markers_and_no_arrow(tables):
    only = tables["rows"][tables["rows"]["arm"] == "opd"]
    figure = regime_scatter(only)
    assert len(curve(figure, "opd").x) == 3
    assert not [note for note in figure.layout.annotations if note.showarrow]
    assert len(curve(harm_forest(only), "opd").x) == 3


def test_hostile_names_are_shown_as_text(tables):
    name = "<img src=x onerror=alert(1)><b>rules"
    renamed = {key: tables[key].replace({"setting": {"rules-llama": name}}) for key in ("rows", "drift")}
    for figure in (
        regime_scatter(renamed["rows"]),
        harm_forest(renamed["rows"]),
        drift_small_multiples(renamed["drift"]),
    ):
        drawing = figure.to_dict()
        drawing["layout"].pop("meta")  # plain text, escaped where it is written into a page
        for trace in drawing["data"]:
            trace.pop("meta", None)  # says what a click means, and is drawn nowhere
        text = json.dumps(json.loads(go.Figure(drawing).to_json()), ensure_ascii=False)
        assert "&lt;img" in text
        assert "<img" not in text


@pytest.mark.slow
def test_importing_needs_neither_torch_nor_streamlit():
    modules = "cr_interp.figures.suite, cr_interp.figures.suite_curves"
    heavy = "('torch', 'streamlit', 'transformers')"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
