"""Figures over training steps: lines of seeds and their mean, logarithmic losses, drift at a step, honest captions."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import make_study

from cr_interp import figures
from cr_interp.figures import training as training_figures
from cr_interp.study.log import bin_widths, thin
from cr_interp.tables import behaviour
from cr_interp.tables.drift import layer_table

ARMS = ("opd", "nca")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("made") / "one", examples=20)


@pytest.fixture(scope="module")
def drift(study) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    earlier = [synthetic.drift(rng, ARMS, (0, 1, 2), 4, 20, ("exact", "irrelevant"), step) for step in (0, 50)]
    return pd.concat([study.table("drift"), *earlier], ignore_index=True)


def log_of(values: dict[int, list[float]], arm: str = "opd") -> pd.DataFrame:
    """Seed → its loss at steps 1, 2, …"""
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "kind": "train", "step": step, "loss": value}
            for seed, losses in values.items()
            for step, value in enumerate(losses, start=1)
        ]
    )


def thick(figure, name="opd"):
    return next(trace for trace in figure.data if trace.name == name)


# -- the log -----------------------------------------------------------------------------------------------------


def test_the_mean_its_seeds_and_their_range():
    figure = figures.training_curves(log_of({0: [1, 2, 3], 1: [3, 4]}), ["loss"])
    assert list(thick(figure).y) == [2, 3]  # the third step has one seed only
    thin = next(trace for trace in figure.data if trace.line.width == 1)
    assert list(thin.y) == [1, 2, 3, None, 3, 4]
    assert len(figure.data) == 3
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(band.y) == [3, 4, 2, 1]
    assert "not a confidence interval" in figures.caption(figure)
    assert "loss of opd at step 2: 3" in figures.alt_text(figure)


def test_one_seed_has_no_band():
    figure = figures.training_curves(log_of({0: [1, 2, 3]}), ["loss"])
    assert len(figure.data) == 1
    assert figures.caption(figure) == "Line: 1 seed (0), without an interval. One point a logged step."


def test_many_seeds_are_a_band():
    figure = figures.training_curves(log_of({seed: [1, 2] for seed in range(9)}), ["loss"])
    assert len(figure.data) == 2


def test_logarithmic_losses_and_what_has_no_place_there(study):
    figure = figures.training_curves(log_of({0: [1, 0, 0.01], 1: [1, -1, 0.01]}), ["loss"], log=True)
    assert figure.layout.yaxis.type == "log"
    assert list(thick(figure).y) == [1, 0.01]
    assert "2 values of 0 or less" in figures.caption(figure)
    assert 0.01 in figure.layout.yaxis.tickvals
    # What does not fall over orders of magnitude keeps its axis, and so does a loss that is never above 0.
    figure = figures.training_curves(study.training(), ["acc_x", "loss"], log=True)
    assert figure.layout.yaxis.type is None
    assert figure.layout.yaxis2.type == "log"
    assert figures.training_curves(log_of({0: [0, 0]}), ["loss"], log=True).layout.yaxis.type is None


def test_a_thinned_log_says_so():
    log = log_of({0: list(np.linspace(2, 1, 1000)), 1: list(np.linspace(2, 1, 1000))})
    thinned = pd.concat(
        thin(rows.drop(columns=["arm", "seed"]), bin_widths([rows], 100)).assign(arm="opd", seed=seed)
        for seed, rows in log.groupby("seed")
    )
    figure = figures.training_curves(thinned, ["loss"])
    assert len(thick(figure).x) == 100
    assert thick(figure).x[-1] == 1000
    assert "mean of up to 10 logged steps" in figures.caption(figure)


def test_columns_that_say_nothing_are_left_out():
    log = log_of({0: [1, 2]}).assign(learning_rate=3e-4, **{"topk_mass.q_x": 1.0, "topk_mass.f": 0.9})
    assert training_figures.training_columns(log) == ["loss", "topk_mass.f"]
    assert "learning_rate" in training_figures.training_columns(log.assign(learning_rate=[0, 1]))


def test_more_columns_than_panels_and_names_from_files():
    terms = {f"terms.<b>{index} {'x' * 60}": 1.0 for index in range(20)}
    log = log_of({0: [1, 2]}, arm="<i>").assign(**terms)
    figure = figures.training_curves(log, list(terms))
    titles = [note.text for note in figure.layout.annotations]
    assert len(titles) == 12
    assert all("<" not in title and len(title) < 45 for title in titles)
    assert figure.data[0].name == "&lt;i&gt;"
    assert "The first 12 of 20" in figures.caption(figure)


# -- checkpoints -------------------------------------------------------------------------------------------------


def test_metrics_over_steps(study):
    rng = np.random.default_rng(0)
    answers = [synthetic.generations(rng, ARMS, (0, 1, 2), 20, ("exact",), step) for step in (25, 50)]
    table = behaviour.metrics_by_step(pd.concat([study.table("generations"), *answers]), resamples=50)
    figure = figures.metrics_over_steps(table, ["acc_x", "harm"])
    assert list(thick(figure, "nca").x) == [25, 50, 100]
    assert list(thick(figure, "base").x) == [0]
    assert "95 % interval" in figures.caption(figure)
    assert "n = 60" in figures.caption(figure)
    assert "acc_x of nca at step 100" in figures.alt_text(figure)
    assert not figures.metrics_over_steps(table.iloc[:0]).data


# -- drift -------------------------------------------------------------------------------------------------------


def test_steps_are_those_of_arms_that_were_trained(drift, study):
    assert training_figures.drift_steps(drift) == [0, 50, 100]
    assert training_figures.drift_steps(study.table("drift")) == [100]
    assert training_figures.drift_steps(drift.assign(step=0)) == []
    assert training_figures.drift_steps(drift.assign(step=np.nan)) == []


def test_drift_at_a_step_is_that_step_s_and_the_base_stays(drift):
    figure = figures.drift_at_step(drift, 50, "cosine")
    expected = layer_table(drift[(drift["step"] == 50)], "cosine")
    expected = expected[expected["arm"] == "nca"]["estimate"]
    assert list(thick(figure, "nca").y) == pytest.approx(list(expected))
    assert thick(figure, "base").y is not None
    assert figures.caption(figure).startswith("Step 50. Cosine")
    assert "base was not trained and is the same at every step" in figures.caption(figure)
    assert figures.alt_text(figure).startswith("At step 50")


@pytest.mark.parametrize("movement", [False, True])
def test_the_axis_is_the_same_at_every_step(drift, movement):
    ranges = {
        figures.drift_at_step(drift, step, "cosine", movement=movement).layout.yaxis.range for step in (50, 100)
    }
    assert len(ranges) == 1
    low, high = ranges.pop()
    assert low < high


def test_step_table_has_every_step(drift):
    table = training_figures.step_table(drift, "cka", "irrelevant")
    assert set(table["step"]) == {0, 50, 100}
    assert list(table)[:3] == ["step", "arm", "layer"]
    assert set(table.loc[table["arm"] == "base", "step"]) == {0}
    assert training_figures.step_table(drift.iloc[:0], "cka").empty


@pytest.mark.parametrize("measure", ["cosine", "relative_l2"])
@pytest.mark.parametrize("movement", [False, True])
def test_drift_over_steps(drift, measure, movement):
    figure = figures.drift_over_steps(drift, measure, movement=movement, step=50)
    assert list(thick(figure, "nca").x) == [0, 50, 100]
    assert list(thick(figure, "base").x) == [0, 100]  # level, dashed
    table = training_figures.extremes_by_step(drift, measure)
    mine = table[(table["arm"] == "nca")]["estimate"]
    assert list(thick(figure, "nca").y) == pytest.approx(
        list(1 - mine if movement and measure == "cosine" else mine)
    )
    assert "Dashed: base, not trained" in figures.caption(figure)
    assert figure.layout.shapes[0].x0 == 50


def test_nothing_to_show_says_so(drift):
    empty = drift.iloc[:0]
    for figure in (
        figures.drift_at_step(empty, 1),
        figures.drift_over_steps(empty),
        figures.drift_over_steps(drift, control="nonesuch"),
        figures.drift_at_step(drift, 7, "nonesuch"),
        figures.training_curves(pd.DataFrame(columns=["arm", "seed", "kind", "step"])),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text
        assert figures.alt_text(figure)


def test_missing_values(drift):
    holes = drift.assign(low=np.nan, high=np.nan, estimate=drift["estimate"].where(drift["layer"] != 1))
    assert figures.drift_at_step(holes, 50).data
    assert figures.drift_over_steps(holes, movement=True).data
    assert figures.drift_at_step(drift.assign(step=drift["step"].where(drift["arm"] != "base")), 50).data
