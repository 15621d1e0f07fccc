"""Figures: pure, complete, the same colours everywhere, honest captions, and safe with hostile names."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from synthetic import make_study

from cr_interp import figures
from cr_interp.study.study import Study
from cr_interp.tables import behaviour
from cr_interp.tables import drift as drift_tables
from cr_interp.tables.metrics import min_cosine

ARMS = ("base", "opd", "nca", "dual_opd", "sym_kl", "mine", "yours")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("studies") / "organism-shift", examples=40)


@pytest.fixture(scope="module")
def metrics(study: Study) -> pd.DataFrame:
    return behaviour.metrics(study.table("generations"))


@pytest.fixture(scope="module")
def drift(study: Study) -> pd.DataFrame:
    return study.table("drift")


def drawn(study: Study, metrics: pd.DataFrame) -> dict[str, go.Figure]:
    drift, log = study.table("drift"), study.training()
    return {
        "forest": figures.metric_forest(metrics),
        "outcomes": figures.outcomes_bar(behaviour.outcome_shares(study.table("generations"))),
        "drift": figures.drift_by_layer(drift),
        "log": figures.drift_by_layer(drift, "centred_cosine", movement=True),
        "behind": figures.drift_by_layer(drift, behind=["floor", "repeat", "mismatched"]),
        "difference": figures.drift_difference(drift, "opd", "cka"),
        "training": figures.training_curves(log),
        "loss": figures.training_curves(log, figures.training_columns(log)),
    }


@pytest.mark.slow
def test_importing_needs_neither_torch_nor_streamlit():
    heavy = "('torch', 'streamlit', 'transformers')"
    code = f"import sys, cr_interp.figures.behaviour; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_every_figure_has_caption_alt_text_axis_titles_and_no_background(study, metrics):
    for name, figure in drawn(study, metrics).items():
        assert figure.data, name
        assert "n = " in figures.caption(figure) or name == "loss", name
        assert "seed" in figures.caption(figure), name
        assert figures.alt_text(figure), name
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)", name
        titled = [axis for axis in figure.select_xaxes() if axis.title.text]
        assert titled, name
        json.loads(figure.to_json())


def test_tables_are_left_as_they_were(study, metrics):
    drift, log = study.table("drift"), study.training()
    before = [frame.copy() for frame in (metrics, drift, log)]
    figures.metric_forest(metrics)
    figures.drift_by_layer(drift, movement=True)
    figures.drift_difference(drift, "opd")
    figures.training_curves(log)
    for old, new in zip(before, (metrics, drift, log), strict=True):
        pd.testing.assert_frame_equal(old, new)


def test_each_arm_has_one_colour_and_marker_of_its_own():
    looks = {(figures.arm_colour(arm, ARMS), figures.arm_symbol(arm, ARMS)) for arm in ARMS}
    assert len(looks) == len({figures.arm_colour(arm, ARMS) for arm in ARMS}) == len(ARMS)
    assert figures.arm_colour("nca") == figures.arm_colour("nca", ARMS) == "#0072B2"
    assert figures.arm_order(["zeta", "nca", "base", "nca", "alpha", "opd"]) == [
        "base",
        "opd",
        "nca",
        "alpha",
        "zeta",
    ]


def test_an_arm_of_ones_own_looks_the_same_in_whatever_order_a_table_names_it():
    assert figures.arm_order(["step-10", "small", "step-9"]) == ["small", "step-9", "step-10"]
    for arm in ("small", "large"):
        assert figures.arm_colour(arm, ["small", "large"]) == figures.arm_colour(arm, ["large", "small"])
        assert figures.arm_symbol(arm, ["small", "large"]) == figures.arm_symbol(arm, ["large", "small"])


def test_colours_stand_out_on_light_and_dark_pages():
    """Okabe and Ito's light colours miss WCAG's 3 : 1 on white, so markers say it once more; none may vanish."""
    for colour in (*figures.ARM_COLOURS.values(), *figures.FALLBACK_COLOURS):
        for page in ("#FFFFFF", "#171614"):
            assert contrast(colour, page) > 2.0, (colour, page)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_forest_shows_the_table_s_numbers(metrics):
    figure = figures.metric_forest(metrics)
    pooled = metrics[metrics["seed"].isna() & metrics["estimate"].notna()].set_index(["arm", "metric"])
    arms = figures.arm_order(metrics["arm"])
    large = [trace for trace in figure.data if trace.mode == "markers+text"]
    shown = {
        (arms[int(y)], trace.meta["panel"]): (x, x - below, x + above, colour)
        for trace in large
        for x, y, below, above, colour in zip(
            trace.x, trace.y, trace.error_x.arrayminus, trace.error_x.array, trace.marker.color, strict=True
        )
    }
    assert shown.keys() == set(pooled.index)
    for key, (*numbers, colour) in shown.items():
        assert numbers == pytest.approx(list(pooled.loc[key, ["estimate", "low", "high"]]))
        assert colour == figures.arm_colour(key[0], arms)


def test_layer_table_and_extreme_layer_agree_with_a_plain_recomputation(drift):
    table = drift_tables.layer_table(drift, "cosine")
    assert list(table["layer"][:5]) == ["emb", "0", "1", "2", "3"]
    rows = drift[(drift["measure"] == "cosine") & (drift["control"] == "exact") & (drift["site"] == "resid_post")]
    for arm in ("base", "opd", "nca"):
        for layer in range(4):
            here = rows[(rows["arm"] == arm) & (rows["layer"] == layer)]
            mine = table[(table["arm"] == arm) & (table["layer"] == str(layer))].iloc[0]
            assert mine["estimate"] == pytest.approx(here["estimate"].mean())
            assert (mine["low"], mine["high"]) == (here["low"].min(), here["high"].max())
            assert mine["seeds"] == 3
    lowest = drift_tables.extreme_layer(drift, "cosine").set_index("arm")["estimate"]
    assert lowest["base"] < lowest["opd"] < lowest["nca"]
    farthest = drift_tables.extreme_layer(drift, "relative_l2").set_index("arm")["estimate"]
    assert farthest["base"] > farthest["opd"] > farthest["nca"]


def test_the_lowest_cosine_is_the_one_that_the_command_line_prints(drift):
    printed = min_cosine(drift)
    printed = printed[printed["seed"].isna()].set_index("arm")[["estimate", "low", "high"]].astype(float)
    shown = drift_tables.extreme_layer(drift, "cosine").set_index("arm")[["estimate", "low", "high"]]
    pd.testing.assert_frame_equal(shown.sort_index(), printed.sort_index(), check_names=False)


def test_only_the_last_step_of_a_run_is_drawn(drift):
    earlier = drift.assign(step=drift["step"] - 50, estimate=0.0, low=0.0, high=0.0)
    both = pd.concat([earlier, drift], ignore_index=True)
    pd.testing.assert_frame_equal(
        drift_tables.layer_table(both, "cosine"), drift_tables.layer_table(drift, "cosine")
    )


def test_log_scale_draws_one_minus_the_measure_and_leaves_out_float_noise(drift):
    figure = figures.drift_by_layer(drift, "cosine", movement=True)
    assert figure.layout.yaxis.type == "log"
    curve = next(trace for trace in figure.data if trace.name == "nca")
    expected = drift_tables.layer_table(drift[drift["arm"] == "nca"], "cosine")
    assert list(curve.y) == pytest.approx(list(1 - expected["estimate"][1:]))
    assert "not drawn" in figures.caption(figure)
    assert min(np.nanmin(np.array(trace.y, dtype=float)) for trace in figure.data if len(trace.y)) > 0


def test_difference_is_paired_by_seed_and_a_baseline_with_one_seed_meets_all(drift):
    some = drift[~((drift["arm"] == "base") & (drift["seed"] > 0))]
    figure = figures.drift_difference(some, "base")
    curve = next(trace for trace in figure.data if trace.name and trace.name.startswith("nca"))
    means = drift_tables.layer_table(some, "cosine").set_index(["arm", "layer"])["estimate"]
    assert list(curve.y) == pytest.approx(
        [means["nca", layer] - means["base", layer] for layer in ["emb", *"0123"]]
    )
    assert "not a confidence interval" in figures.caption(figure)


def test_an_arm_that_was_run_once_meets_the_mean_of_the_baseline_s_seeds(drift):
    some = drift[~((drift["arm"] == "base") & (drift["seed"] > 0))]
    figure = figures.drift_difference(some, "opd")
    curve = next(trace for trace in figure.data if trace.name and trace.name.startswith("base"))
    means = drift_tables.layer_table(some, "cosine").set_index(["arm", "layer"])["estimate"]
    assert list(curve.y) == pytest.approx(
        [means["base", layer] - means["opd", layer] for layer in ["emb", *"0123"]]
    )
    dots = next(trace for trace in figure.data if trace.mode == "markers" and trace.legendgroup == "base")
    assert len(dots.x) == 3 * 5


def test_a_trained_baseline_that_was_run_once_meets_its_own_seed_only(drift):
    some = drift[~((drift["arm"] == "opd") & (drift["seed"] > 0))]
    figure = figures.drift_difference(some[some["arm"] != "base"], "opd")
    dots = next(trace for trace in figure.data if trace.mode == "markers" and trace.legendgroup == "nca")
    assert len(dots.x) == 5


def test_seeds_that_only_one_of_two_arms_has_are_not_compared(drift):
    some = drift[
        ~((drift["arm"] == "nca") & (drift["seed"] == 0)) & ~((drift["arm"] == "opd") & (drift["seed"] == 2))
    ]
    figure = figures.drift_difference(some[some["arm"] != "base"], "opd")
    dots = next(trace for trace in figure.data if trace.mode == "markers")
    assert len(dots.x) == 5  # seed 1, the only one that both have


def test_of_many_arms_the_difference_draws_no_dots(drift):
    many = pd.concat([drift, *(drift[drift["arm"] == "nca"].assign(arm=f"nca_{i}") for i in range(5))])
    figure = figures.drift_difference(many, "opd")
    assert not [trace for trace in figure.data if trace.mode == "markers"]
    assert "dots" not in figures.caption(figure)
    assert "dots: each seed" in figures.caption(figures.drift_difference(drift, "opd"))


def test_floor_and_controls_stand_behind_the_curves(drift):
    plain = figures.drift_by_layer(drift)
    figure = figures.drift_by_layer(drift, behind=["floor", "repeat", "mismatched", "exact", "nonesuch"])
    added = figure.data[: len(figure.data) - len(plain.data)]
    assert {trace.name for trace in added} == {"beyond the floor", "floor", "repeat", "mismatched"}
    grey = {trace.name: trace for trace in added if trace.name in ("repeat", "mismatched")}
    floors = [trace for trace in added if trace.name == "floor"]
    assert len({trace.line.dash for trace in (*grey.values(), floors[0])}) == 3
    # A floor an arm, in its colour, one entry in the legend.
    rows = drift_tables.layer_table(drift, "cosine", "floor")
    for trace, arm in zip(floors, ("base", "opd", "nca"), strict=True):
        assert trace.line.color == figures.arm_colour(arm)
        assert list(trace.y) == pytest.approx(list(rows.loc[rows["arm"] == arm, "estimate"]))
    assert [trace.showlegend for trace in floors] == [True, False, False]
    assert list(grey["repeat"].y).count(None) == 2  # gaps between three arms' lines
    # Shaded is what lies beyond every arm's floor: from the lowest of them downwards.
    shade = next(trace for trace in added if trace.name == "beyond the floor")
    half = len(shade.y) // 2
    assert list(shade.y[:half]) == pytest.approx(list(rows.groupby("layer", sort=False)["estimate"].min()))
    assert max(shade.y[half:]) < min(shade.y[:half])
    # No curve leaves the shade at its lower end.
    low = drift.assign(low=drift["low"].mask(drift["control"] == "exact", -0.4))
    deep = next(
        trace for trace in figures.drift_by_layer(low, behind=["floor"]).data if trace.name == "beyond the floor"
    )
    assert max(deep.y[half:]) < -0.4
    text = figures.caption(figure)
    assert "Grey, behind" in text
    assert "floor (unrelated tokens at the same place of two responses" in text
    assert "mismatched." in text
    fewer = drift.assign(n_tokens=drift["n_tokens"].mask(drift["control"] == "floor", 99))
    assert "n = 99 tokens" in figures.caption(figures.drift_by_layer(fewer, behind=["floor"]))
    assert "floor from 0.3000 to 0.3000" in figures.alt_text(figure)
    # On the logarithmic axis the numerical ceiling is float noise, and beyond the floor is above it.
    far = figures.drift_by_layer(drift, movement=True, behind=["floor", "repeat"])
    names = [trace.name for trace in far.data]
    assert "floor" in names
    assert "repeat" not in names
    shade = next(trace for trace in far.data if trace.name == "beyond the floor")
    assert min(shade.y[half:]) > max(shade.y[:half])


def test_the_overlap_of_neighbours_has_its_chance_level(drift):
    figure = figures.drift_by_layer(drift, "knn_overlap")
    chance = next(trace for trace in figure.data if trace.name == "chance")
    assert {y for y in chance.y if y is not None} == {0.02}
    assert "chance" in figures.caption(figure)
    assert "knn_chance" not in figures.MEASURES


@pytest.mark.slow
@pytest.mark.parametrize("measure", figures.MEASURES)
def test_every_measure_is_drawn_with_the_layer_that_moves_most(drift, measure):
    for movement in (False, True):
        assert figures.drift_by_layer(drift, measure, movement=movement).data
    rows = drift[(drift["measure"] == measure) & (drift["control"] == "exact") & (drift["site"] == "resid_post")]
    mine = rows[rows["arm"] == "base"].groupby("seed")["estimate"]
    found = drift_tables.extreme_layer(drift, measure).set_index("arm").loc["base"]
    word = drift_tables.extreme_word(measure)
    expected = mine.min() if word == "lowest" else mine.max()  # the synthetic norm ratio is above 1 throughout
    assert found["estimate"] == pytest.approx(expected.mean())
    better = "less drift" in figures.caption(figures.drift_difference(drift, "opd", measure))
    assert better == (measure not in ("norm_ratio", "top3_share", "shift_share"))


def test_a_ratio_leaves_one_in_both_directions(drift):
    rows = drift[(drift["measure"] == "norm_ratio") & (drift["arm"] == "opd") & (drift["seed"] == 0)]
    below = rows.assign(estimate=2 - rows["estimate"], low=2 - rows["high"], high=2 - rows["low"])
    curves = [
        next(trace for trace in figures.drift_by_layer(each, "norm_ratio", movement=True).data if trace.name)
        for each in (rows, below)
    ]
    assert list(curves[0].y) == pytest.approx(list(curves[1].y))
    assert len(curves[0].y) == 4
    mixed = pd.concat([rows, below[below["layer"] == 3].assign(estimate=0.5, low=0.4, high=0.6)])
    assert drift_tables.extreme_layer(
        mixed[~mixed.duplicated(["site", "layer", "control"], keep="last")], "norm_ratio"
    )["layer"].tolist() == ["3"]


def test_a_measure_without_an_interval_says_so(drift):
    assert "no interval is estimated" in figures.caption(figures.drift_by_layer(drift, "procrustes"))


def test_captions_name_the_context_and_say_where_there_is_no_interval(study):
    answers = study.table("generations")
    forest = figures.metric_forest(behaviour.metrics(answers, "irrelevant"), control="irrelevant")
    assert "context (irrelevant)" in figures.caption(forest)
    steps = figures.metrics_over_steps(behaviour.metrics_by_step(answers, "irrelevant"), control="irrelevant")
    assert "context (irrelevant)" in figures.caption(steps)
    assert "no interval is estimated" in figures.caption(figures.outcomes_bar(behaviour.outcome_shares(answers)))


def test_training_mean_uses_only_steps_that_every_seed_has(study):
    log = study.training()
    running = log[~((log["seed"] == 2) & (log["step"] > 50))]
    figure = figures.training_curves(running, ["acc_x"])
    thick = [trace for trace in figure.data if trace.name]
    assert {trace.name for trace in thick} == {"opd", "nca"}
    assert all(max(trace.x) == 50 for trace in thick)


def test_training_columns_find_metrics_terms_and_the_rest(study):
    columns = figures.training_columns(study.training())
    assert columns[0] == "acc_x"
    assert "terms.KL(q_x || f)" in columns
    assert columns[-2:] == ["tokens_per_second", "peak_resident_bytes"]


def test_memory_is_drawn_in_units_that_can_be_read(study):
    figure = figures.training_curves(study.training(), ["peak_resident_bytes"])
    assert figure.layout.yaxis.tickformat == "~s"  # 700M
    assert figure.layout.yaxis.title.text == "resident bytes"


@pytest.mark.parametrize("layers", [1, 12, 80])
def test_depth(tmp_path, layers):
    study = make_study(tmp_path / "deep", arms=("opd", "nca"), seeds=(0,), layers=layers, examples=10)
    figure = figures.drift_by_layer(study.table("drift"))
    assert len(figure.layout.xaxis.tickvals) <= 18
    assert figure.layout.xaxis.ticktext[0] == "emb"


def test_nothing_to_show_is_a_figure_that_says_so(drift, metrics):
    for figure in (
        figures.metric_forest(metrics.iloc[:0]),
        figures.outcomes_bar(pd.DataFrame(columns=["arm", "view", "outcome", "share"])),
        figures.drift_by_layer(drift, "cosine", control="nonesuch"),
        figures.drift_difference(drift, "nonesuch"),
        figures.training_curves(pd.DataFrame(columns=["arm", "seed", "kind", "step"])),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text
        assert figures.alt_text(figure)


def test_missing_values_do_not_stop_a_figure(metrics, drift):
    gaps = metrics.assign(estimate=metrics["estimate"].where(metrics["metric"] != "rescue"))
    assert figures.metric_forest(gaps).data
    holes = drift.assign(estimate=drift["estimate"].where(drift["layer"] != 1), low=np.nan, high=np.nan)
    assert figures.drift_by_layer(holes, movement=True).data


def test_hostile_names_are_shown_as_text(metrics, drift):
    name = "<img src=x onerror=alert(1)><b>opd"
    renamed = metrics.assign(arm=metrics["arm"].replace("opd", name))
    for figure in (
        figures.metric_forest(renamed),
        figures.drift_by_layer(drift.assign(arm=drift["arm"].replace("opd", name))),
    ):
        labels = [
            str(text)
            for trace in figure.data
            for text in (trace.name, trace.hovertemplate, *(figure.layout.yaxis.ticktext or ()))
        ]
        assert any("&lt;img" in text for text in labels)
        assert not any("<img" in text for text in labels)
        page = figures.to_page(figure)
        assert "<img src=x" not in page.rpartition("</script>")[2]
        assert "<figcaption>" in page


def test_arms_whose_numbers_are_equal_keep_an_order():
    """01 and 1 are the same number: without a second rule, their places and colours would change from run to run."""
    arms = ["nca_beta1", "nca_beta01"]
    assert figures.arm_order(arms) == figures.arm_order(arms[::-1]) == ["nca_beta01", "nca_beta1"]


@pytest.mark.parametrize(
    ("measure", "said"),
    [("shift_share", "not debiased"), ("cka_examples", "shortest response"), ("cosine", None)],
)
def test_captions_say_what_an_earlier_table_holds(drift, measure, said):
    """A table without ``method`` was measured before; one with it says nothing."""
    assert "method" not in drift
    now = drift.assign(method="as today")
    for draw in (
        lambda table: figures.drift_by_layer(table, measure),
        lambda table: figures.drift_difference(table, "opd", measure),
    ):
        text = figures.caption(draw(drift))
        assert ("measured in an earlier way here" in text) == (said is not None)
        assert said is None or said in text
        assert "earlier way" not in figures.caption(draw(now))


def test_on_a_dense_layer_axis_the_embedding_s_name_has_layer_0_s_room():
    from cr_interp.figures.style import layer_ticks

    assert layer_ticks(range(-1, 30))["ticktext"][:3] == ["emb", "2", "4"]
    assert layer_ticks(range(-1, 4))["ticktext"] == ["emb", "0", "1", "2", "3"]
    assert layer_ticks(range(30))["ticktext"][:2] == ["0", "2"], "without an embedding there is room for it"
