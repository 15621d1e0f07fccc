"""Maps: means and differences known by hand, one scale for all panels, cells that say where they are."""

import doctest
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from synthetic import make_study

from cr_interp import figures
from cr_interp.figures import cells
from cr_interp.figures import maps as map_figures

LAYERS = (-1, 0, 1)


def maps(values: dict[tuple[str, int], float], kind: str = "views", step: int = 100) -> pd.DataFrame:
    """``values[arm, seed]`` is the value of the cell (0, 1); the diagonal is 1, all else 0.5."""
    rows = []
    for (arm, seed), value in values.items():
        for x in LAYERS:
            for y in LAYERS:
                cka = value if (x, y) == (0, 1) else 1.0 if x == y else 0.5
                rows.append((arm, seed, step, kind, x, y, cka, 100 + seed))
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "map", "layer_x", "layer_y", "cka", "n_tokens"])


RUNS = maps({("nca", 0): 0.8, ("nca", 1): 0.9, ("opd", 0): 0.2, ("opd", 1): 0.6, ("base", 0): 0.1})


def cell(table: pd.DataFrame, arm: str, x: int = 0, y: int = 1) -> pd.Series:
    return table[(table["arm"] == arm) & (table["layer_x"] == x) & (table["layer_y"] == y)].iloc[0]


def heat(figure: go.Figure) -> list[np.ndarray]:
    return [np.asarray(trace.z, dtype=float) for trace in figure.data if trace.type == "heatmap"]


def test_table_is_the_mean_over_seeds_with_their_range():
    table = map_figures.map_table(RUNS, "views")
    assert list(dict.fromkeys(table["arm"])) == ["base", "opd", "nca"]
    row = cell(table, "opd")
    assert row["cka"] == pytest.approx(0.4)
    assert (row["low"], row["high"], row["seeds"], row["n_tokens"]) == (0.2, 0.6, 2, 100)
    assert cell(table, "base")["seeds"] == 1


def test_only_the_last_step_of_a_run_counts():
    both = pd.concat([maps({("opd", 0): 0.9}, step=50), RUNS])
    pd.testing.assert_frame_equal(map_figures.map_table(both, "views"), map_figures.map_table(RUNS, "views"))


def test_undefined_cells_stay_undefined_and_do_not_spoil_the_mean():
    holes = RUNS.assign(cka=RUNS["cka"].where((RUNS["seed"] == 0) | (RUNS["layer_x"] != 0)))
    holes.loc[holes["layer_y"] == -1, "cka"] = np.nan
    table = map_figures.map_table(holes, "views")
    assert cell(table, "opd")["cka"] == pytest.approx(0.2)
    assert np.isnan(cell(table, "opd", 0, -1)["cka"])
    figure = map_figures.map_panels(table, "views")
    assert "Empty: undefined" in figures.caption(figure)
    assert np.isnan(heat(figure)[0][0]).all()


def test_difference_is_paired_by_seed():
    table = map_figures.map_difference(RUNS, "views", "opd")
    assert set(table["arm"]) == {"base", "nca"}
    row = cell(table, "nca")
    assert row["difference"] == pytest.approx(((0.8 - 0.2) + (0.9 - 0.6)) / 2)
    assert (row["low"], row["high"]) == pytest.approx((0.3, 0.6))
    assert row["seeds"] == 2
    # How many times closer to 1: 0.8 / 0.2 = 4 and 0.4 / 0.1 = 4.
    assert row["closer"] == pytest.approx(np.log10(4))
    assert row["n_tokens"] == 100
    assert "n = 100 tokens per seed" in figures.caption(map_figures.difference_panels(table, "views", "opd"))


def test_an_arm_that_was_run_once_meets_every_seed_of_the_baseline():
    row = cell(map_figures.map_difference(RUNS, "views", "opd"), "base")
    assert row["difference"] == pytest.approx(0.1 - (0.2 + 0.6) / 2)
    assert row["seeds"] == 2


def test_a_seed_that_only_one_of_two_arms_has_is_left_out():
    runs = maps({("nca", 0): 0.8, ("nca", 2): 0.9, ("opd", 0): 0.2, ("opd", 1): 0.6})
    row = cell(map_figures.map_difference(runs, "views", "opd"), "nca")
    assert (row["difference"], row["seeds"]) == (pytest.approx(0.6), 1)
    apart = maps({("nca", 2): 0.8, ("nca", 3): 0.9, ("opd", 0): 0.2, ("opd", 1): 0.6})
    assert map_figures.map_difference(apart, "views", "opd").empty


def test_curves_of_one_seed_do_not_speak_of_several():
    one = map_figures.map_table(maps({("opd", 0): 0.4}), "views")
    assert "One seed." in figures.caption(map_figures.profile_curves(one, "views", (0, 1)))
    several = map_figures.profile_curves(map_figures.map_table(RUNS, "views"), "views", (0, 1))
    assert "mean over seeds" in figures.caption(several)


def test_a_baseline_with_one_seed_meets_every_seed():
    row = cell(map_figures.map_difference(RUNS, "views", "base"), "opd")
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx((0.1 + 0.5) / 2)


def test_a_trained_arm_with_one_seed_meets_that_seed_only():
    runs = maps({("opd", 0): 0.4, ("nca", 0): 0.9, ("nca", 1): 0.5})
    row = cell(map_figures.map_difference(runs, "views", "opd"), "nca")
    assert row["seeds"] == 1
    assert row["difference"] == pytest.approx(0.9 - 0.4)


def test_a_distance_below_the_closest_is_not_amplified():
    close = maps({("nca", 0): 1.0000003, ("opd", 0): 1 - 1e-3})
    row = cell(map_figures.map_difference(close, "views", "opd"), "nca")
    assert row["closer"] == pytest.approx(np.log10(1e-3 / map_figures.CLOSEST))


def test_panels_draw_the_table_with_x_across_and_y_up_on_one_fixed_scale():
    table = map_figures.map_table(RUNS, "views")
    figure = map_figures.map_panels(table, "views", seeds=RUNS["seed"])
    base, opd, nca = heat(figure)
    # Row 2 is layer_y = 1, column 1 is layer_x = 0.
    assert (base[2, 1], opd[2, 1], nca[2, 1]) == pytest.approx((0.1, 0.4, 0.85))
    assert opd[1, 2] == 0.5
    assert {trace.coloraxis for trace in figure.data if trace.type == "heatmap"} == {"coloraxis"}
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    assert figure.layout.xaxis.title.text == "layer, without context"
    assert figure.layout.yaxis.title.text == "layer, with context"
    text = figures.caption(figure)
    assert "2 seeds (0, 1)" in text
    assert "n = 100 tokens" in text
    assert "opd: from 0.400 (0 × 1)" in figures.alt_text(figure)


def test_the_scale_is_the_same_whatever_is_shown():
    low = map_figures.map_panels(map_figures.map_table(maps({("opd", 0): -0.2}), "views"), "views")
    high = map_figures.map_panels(map_figures.map_table(maps({("opd", 0): 0.99}), "views"), "views")
    for side in ("cmin", "cmax"):
        assert low.layout.coloraxis[side] == high.layout.coloraxis[side]
    assert "below 0 is drawn as 0" in figures.caption(low)
    assert "below 0" not in figures.caption(high)


def test_distance_scale_is_the_logarithm_of_one_minus_the_value():
    table = map_figures.map_table(RUNS, "views")
    figure = map_figures.map_panels(table, "views", "distance")
    assert heat(figure)[1][2, 1] == pytest.approx(np.log10(0.6))
    assert heat(figure)[1][0, 0] == pytest.approx(np.log10(map_figures.CLOSEST))
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-4, 0)


def test_differences_diverge_from_zero_on_a_round_symmetric_scale():
    table = map_figures.map_difference(RUNS, "views", "opd")
    figure = map_figures.difference_panels(table, "views", "opd")
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-0.5, 0.5)  # the largest difference is 0.45
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["<b>base − opd</b>", "<b>nca − opd</b>"]
    assert "not a confidence interval" in figures.caption(figure)
    ratio = map_figures.difference_panels(table, "views", "opd", "distance")
    assert heat(ratio)[1][2, 1] == pytest.approx(np.log10(4))
    assert (ratio.layout.coloraxis.cmin, ratio.layout.coloraxis.cmax) == (-1, 1)


def test_a_marked_cell_is_framed_in_every_panel():
    table = map_figures.map_table(RUNS, "views")
    figure = map_figures.map_panels(table, "views", cell=(0, 1))
    frames = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert len(frames) == 2 * 3
    assert {(shape.x0, shape.x1, shape.y0, shape.y1) for shape in frames} == {(-0.47, 0.47, 0.53, 1.47)}
    assert not map_figures.map_panels(table, "views", cell=(7, 1)).layout.shapes


def test_the_pointer_reads_the_cell_it_is_on():
    figure = map_figures.map_panels(map_figures.map_table(RUNS, "views"), "views")
    marks = next(trace for trace in figure.data if trace.type == "scatter" and trace.meta["panel"] == "opd")
    at = {(x, y): row for x, y, row in zip(marks.x, marks.y, marks.customdata, strict=True)}
    assert list(at[0, 1]) == ["layer 0", "layer 1", "0.4000", "0.2000", "0.6000"]
    assert at[-1, 0][0] == "the embedding"
    assert "without context: %{customdata[0]}" in marks.hovertemplate


def test_profiles_are_the_row_and_the_column_of_the_cell():
    table = map_figures.map_table(RUNS, "views")
    figure = map_figures.profile_curves(table, "views", (0, 1))
    opd = [trace for trace in figure.data if trace.name == "opd"]
    assert [list(trace.x) for trace in opd] == [[-1, 0, 1], [-1, 0, 1]]
    assert list(opd[0].y) == pytest.approx([0.5, 1.0, 0.4])  # layer_x = 0 against every layer_y
    assert list(opd[1].y) == pytest.approx([0.5, 0.4, 1.0])  # layer_y = 1 against every layer_x
    assert opd[0].line.color == figures.arm_colour("opd")
    far = map_figures.profile_curves(table, "views", (0, 1), "distance")
    assert list(next(t for t in far.data if t.name == "opd").y) == pytest.approx([0.5, map_figures.CLOSEST, 0.6])
    assert far.layout.yaxis.type == far.layout.yaxis2.type == "log"


def test_a_kind_that_is_not_known_is_shown_under_its_own_name():
    strange = maps({("opd", 0): 0.3}, kind="<b>paraphrase")
    assert map_figures.map_kinds(pd.concat([strange, RUNS])) == ["views", "<b>paraphrase"]
    figure = map_figures.map_panels(map_figures.map_table(strange, "<b>paraphrase"), "<b>paraphrase")
    assert heat(figure)[0][2, 1] == pytest.approx(0.3)


def test_nothing_to_show_says_so():
    nothing = RUNS.iloc[:0]
    for figure in (
        map_figures.map_panels(map_figures.map_table(nothing, "views"), "views"),
        map_figures.difference_panels(map_figures.map_difference(nothing, "views", "opd"), "views", "opd"),
        map_figures.difference_panels(map_figures.map_difference(RUNS, "views", "nonesuch"), "views", "nonesuch"),
        map_figures.profile_curves(map_figures.map_table(nothing, "views"), "views", (0, 0)),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text


def test_hostile_names_are_shown_as_text():
    name = "<img src=x onerror=alert(1)><b>opd"
    rows = RUNS.assign(arm=RUNS["arm"].replace("opd", name))
    for figure in (
        map_figures.map_panels(map_figures.map_table(rows, "views"), "views"),
        map_figures.difference_panels(map_figures.map_difference(rows, "views", "base"), "views", "base"),
        map_figures.profile_curves(map_figures.map_table(rows, "views"), "views", (0, 1)),
    ):
        labels = [str(each) for trace in figure.data for each in (trace.name, trace.hovertemplate)]
        labels += [annotation.text for annotation in figure.layout.annotations]
        assert any("&lt;img" in label for label in labels)
        assert not any("<img" in label for label in labels)


@pytest.mark.parametrize("layers", [1, 12, 80])
def test_depth_and_many_arms_keep_a_figure_small(tmp_path, layers):
    arms = ("base", "opd", "nca", "dual_opd", "sym_kl", "a", "b", "c")
    study = make_study(tmp_path / "deep", arms=arms, seeds=(0,), layers=layers, examples=4, tables=("cka_map",))
    table = map_figures.map_table(study.table("cka_map"), "views")
    before = table.copy()
    figure = map_figures.map_panels(table, "views", cell=(0, 0))
    pd.testing.assert_frame_equal(table, before)
    markers = sum(len(trace.x) for trace in figure.data if trace.type == "scatter")
    assert markers <= cells.CLICKABLE
    assert len(figure.layout.xaxis.tickvals) <= 10
    assert (
        len(json.dumps(figure.to_plotly_json(), default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x)))
        < 3e6
    )


def test_examples_in_the_documentation():
    assert doctest.testmod(map_figures).failed == 0
