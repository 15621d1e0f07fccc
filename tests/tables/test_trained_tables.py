"""Updates, gradients, probes and directions over seeds, against sums by hand; their figures; what is printed."""

import numpy as np
import pandas as pd
import pytest
from planted import printed

from cr_interp.figures import directions as direction_figures
from cr_interp.figures import gradients as gradient_figures
from cr_interp.figures import updates as update_figures
from cr_interp.figures.flips import flips
from cr_interp.figures.probes import probes as probes_figure
from cr_interp.figures.style import alt_text, caption
from cr_interp.report.trained import PRINTED, rich_flips
from cr_interp.tables.directions import Verdict, verdicts
from cr_interp.tables.flips_by_drift import flips_by_drift
from cr_interp.tables.gradients import beside_baseline
from cr_interp.tables.probes import probe_table
from cr_interp.tables.updates import by_module, overlap_table, update_table

ARMS = (("opd", 0), ("opd", 1), ("nca", 0))


def runs(make, columns):
    rows = [(arm, seed, 100, *row) for arm, seed in ARMS for row in make(arm, seed)]
    return pd.DataFrame(rows, columns=["arm", "seed", "step", *columns])


@pytest.fixture(scope="module")
def updates():
    def make(arm, seed):
        scale = 1.0 if arm == "opd" else 2.0
        for module, layer, norm, size in (
            ("self_attn.q_proj", 0, 3.0, 10.0),
            ("self_attn.q_proj", 1, 4.0, 20.0),
            ("mlp.up_proj", 0, 1.0, 5.0),
            ("embed_tokens", -1, 0.5, 50.0),
        ):
            rest = (np.nan, np.nan, 100)
            yield module, layer, "norm", "none", scale * norm + seed, *rest
            yield module, layer, "weight_norm", "none", size, *rest
            yield module, layer, "relative", "none", (scale * norm + seed) / size, *rest
            yield module, layer, "top_share", "none", 0.1 + layer / 10, *rest
            yield module, layer, "top_share", "random", 0.01, *rest

    return runs(make, ["module", "layer", "measure", "control", "estimate", "low", "high", "n_weights"])


def test_norms_of_a_module_add_up_as_squares(updates):
    one = updates[updates["seed"] == 0]
    found = by_module(one, "relative").set_index(["arm", "module"])["estimate"]
    assert found["opd", "self_attn.q_proj"] == pytest.approx((25 / 500) ** 0.5)
    assert found["opd", "all"] == pytest.approx(((25 + 1 + 0.25) / (500 + 25 + 2500)) ** 0.5)
    assert by_module(one, "norm").set_index(["arm", "module"])["estimate"][
        "nca", "self_attn.q_proj"
    ] == pytest.approx(10.0)


def test_shares_are_means_over_layers_and_keep_their_control(updates):
    found = by_module(updates, "top_share").set_index(["arm", "module", "control"])["estimate"]
    assert found["opd", "self_attn.q_proj", "none"] == pytest.approx(0.15)
    assert found["opd", "self_attn.q_proj", "random"] == pytest.approx(0.01)


def test_a_share_of_weights_counts_each_weight_once(updates):
    """A norm's few weights are not as many as a matrix's."""
    one = updates[(updates["seed"] == 0) & (updates["measure"] == "norm")]
    shares = one.assign(
        measure="unchanged_bf16",
        estimate=one["module"].map({"embed_tokens": 1.0}).fillna(0.0),
        n_weights=one["module"].map({"embed_tokens": 10}).fillna(1000).astype(int),
    )
    found = by_module(shares, "unchanged_bf16").set_index(["arm", "module"])["estimate"]
    assert found["opd", "all"] == pytest.approx(10 / 3010)
    assert found["opd", "embed_tokens"] == 1


def test_a_module_at_a_depth_over_seeds(updates):
    row = update_table(updates, "norm").set_index(["arm", "module", "layer"]).loc[("opd", "mlp.up_proj", 0)]
    assert (row["estimate"], row["low"], row["high"], row["seeds"]) == (1.5, 1.0, 2.0, 2)


@pytest.fixture(scope="module")
def overlaps():
    def make(arm, seed):
        for other, other_seed in ARMS:
            if (other, other_seed) == (arm, seed):
                continue
            value = 0.8 if arm == other else 0.3 if seed == other_seed else 0.9
            rest = (np.nan, np.nan, 100)
            yield other, other_seed, "mlp.up_proj", 0, "cosine", "none", value, *rest
            yield other, other_seed, "mlp.up_proj", 0, "cosine", "random", 0.0, *rest

    columns = [
        "other_arm",
        "other_seed",
        "module",
        "layer",
        "measure",
        "control",
        "estimate",
        "low",
        "high",
        "n_weights",
    ]
    return runs(make, columns)


def test_arms_are_compared_at_one_seed_and_an_arm_with_itself_across_seeds(overlaps):
    found = overlap_table(overlaps)
    found = found[found["control"] == "none"].set_index(["arm", "other_arm"])
    assert found.loc[("opd", "opd"), "estimate"] == pytest.approx(0.8)
    assert found.loc[("opd", "nca"), "estimate"] == pytest.approx(0.3)
    assert found.loc[("opd", "nca"), "pairs"] == 1


OPD, NCA = gradient_figures.OPD, gradient_figures.NCA


@pytest.fixture(scope="module")
def gradients():
    def make(arm, seed):
        for module in ("all", "self_attn.q_proj"):
            for a, b, measure, value in (
                (OPD, OPD, "norm", 0.5),
                (NCA, NCA, "norm", 1.5),
                (OPD, OPD, "cosine_halves", 0.16 + seed / 100),
                (NCA, NCA, "cosine_halves", 0.95),
                (OPD, NCA, "cosine", 0.01),
                (OPD, NCA, "cosine_halves", 0.005),
                (OPD, NCA, "cosine_corrected", 0.02),
            ):
                yield module, -1, a, b, measure, "none", value, value - 0.1, value + 0.1, 128

    columns = [
        "module",
        "layer",
        "term",
        "other_term",
        "measure",
        "control",
        "estimate",
        "low",
        "high",
        "n_examples",
    ]
    return runs(make, columns)


def test_a_cosine_stands_beside_what_each_term_has_with_itself(gradients):
    row = beside_baseline(gradients).set_index(["arm", "term", "other_term"]).loc[("opd", OPD, NCA)]
    assert row["cosine"] == pytest.approx(0.01)
    assert row["own"] == pytest.approx(0.165)
    assert row["other_own"] == pytest.approx(0.95)
    assert row["corrected"] == pytest.approx(0.02)
    assert row["seeds"] == 2


@pytest.fixture(scope="module")
def probes():
    def make(arm, seed):
        for site, layer in (("resid_pre", 0), ("resid_post", 0), ("resid_post", 1)):
            for question, tested in (
                ("presence", "exact / none"),
                ("presence", "paraphrase / none"),
                ("content", "paraphrase / irrelevant"),
            ):
                value = 0.5 if site == "resid_pre" else 0.9 if tested.startswith("p") else 1.0
                yield site, layer, question, tested, "none", value, value - 0.1, min(value + 0.1, 1.0), 64
                yield site, layer, question, tested, "shuffled", 0.5, 0.4, 0.6, 64

    return runs(make, ["site", "layer", "question", "tested", "control", "estimate", "low", "high", "n_examples"])


def test_what_a_probe_was_not_fitted_on_is_shown_first(probes):
    found = probe_table(probes)
    assert set(found["tested"]) == {"paraphrase / none"}
    assert sorted(found["place"].unique()) == [-1, 0, 1]
    left = probes[probes["tested"] == "exact / none"]
    assert set(probe_table(left)["tested"]) == {"exact / none"}


def cosines(value, low, highest):
    rows = [(layer, "cos_u_v", "none", value, low, value + 0.1) for layer in (0, 1)]
    rows += [(layer, "cos_u_v", c, 0.0, -highest, highest) for layer in (0, 1) for c in ("random", "unrelated")]
    table = pd.DataFrame(rows, columns=["layer", "measure", "control", "estimate", "low", "high"])
    return table.assign(arm="opd", seed=0, step=100, site="resid_post", n_examples=64)


def tried(n, back, controls=0.0):
    """n harmed answers, each a cluster; in layer 1 a share ``back`` of them returns, with a control a share ``controls``."""
    rows = [
        (f"e{i}", f"e{i}", layer, control, i < round(n * (share if layer else 0.0)))
        for layer in (0, 1)
        for control, share in (("none", back), ("random", controls), ("unrelated", controls))
        for i in range(n)
    ]
    table = pd.DataFrame(rows, columns=["example_id", "cluster", "layer", "control", "answer"])
    return table.assign(
        arm="opd", seed=0, step=100, group="harmed", action="remove", vector="base", site="resid_post"
    )


def only(directions, examples) -> Verdict:
    (found,) = verdicts(directions, examples)
    return found


def test_supported_takes_the_direction_and_the_repair():
    found = only(cosines(0.8, 0.7, 0.2), tried(40, 0.9))
    assert (found.verdict, found.layer) == ("supported", 1)
    assert found.beyond == pytest.approx(0.9)
    assert 0 < found.low < 0.9 < found.high


def test_beside_it_stands_what_the_second_dose_itself_does():
    examples = tried(40, 0.9)
    added = examples[examples["control"] == "none"].assign(action="add", answer=False)
    added.loc[added["example_id"].isin(["e0", "e1"]) & (added["layer"] == 1), "answer"] = True
    assert only(cosines(0.8, 0.7, 0.2), pd.concat([examples, added])).lost == pytest.approx(2 / 40)
    assert np.isnan(only(cosines(0.8, 0.7, 0.2), examples).lost)


def dosed(removed, added):
    """Both actions; ``added`` in the columns of :func:`tried`, of which answers that are lost are ``answer``."""
    return pd.concat([removed, added.assign(action="add")], ignore_index=True)


def test_the_stronger_reading_asks_that_adding_breaks_in_the_same_layer():
    """The first reading stays what it is whatever adding does."""
    cases = {
        "supported": tried(40, 0.9),
        "not supported": tried(400, 0.02, 0.02),  # loses no more than its controls
        "open": tried(12, 2 / 12),
    }
    for expected, added in cases.items():
        found = only(cosines(0.8, 0.7, 0.2), dosed(tried(40, 0.9), added))
        assert (found.verdict, found.stronger) == ("supported", expected), expected
    elsewhere = tried(40, 0.9).assign(
        layer=lambda rows: 1 - rows["layer"]
    )  # breaks in layer 0, where removing repairs nothing
    found = only(cosines(0.8, 0.7, 0.2), dosed(tried(40, 0.9), elsewhere))
    assert (found.verdict, found.stronger, found.added_layer) == ("supported", "open", 0)


def test_adding_is_held_against_the_control_that_breaks_more():
    added = tried(100, 0.5, 0.1)
    more = (
        (added["control"] == "unrelated")
        & (added["layer"] == 1)
        & added["example_id"].isin([f"e{i}" for i in range(30)])
    )
    found = only(cosines(0.8, 0.7, 0.2), dosed(tried(40, 0.9), added.assign(answer=added["answer"] | more)))
    assert (found.added_layer, found.added_beyond) == (1, pytest.approx(0.5 - 0.3))
    assert 0 < found.added_low < 0.2 < found.added_high


def test_where_nothing_is_ever_lost_the_interval_is_not_a_point():
    few, many = (only(cosines(0.8, 0.7, 0.2), dosed(tried(n, 0.9), tried(n, 0.0))) for n in (20, 100))
    assert few.added_high == pytest.approx(1 - 0.025 ** (1 / 20))  # Clopper and Pearson's, none of 20
    assert (few.stronger, many.stronger) == ("open", "not supported")


def test_what_does_not_hold_in_the_first_reading_does_not_in_the_stronger():
    found = only(cosines(0.1, 0.0, 0.2), dosed(tried(40, 0.9), tried(40, 0.9)))
    assert (found.verdict, found.stronger) == ("not supported", "not supported")
    assert only(cosines(0.8, 0.7, 0.2), tried(40, 0.9)).stronger == "open"  # adding was not tried


def test_without_the_direction_it_is_not_supported_whatever_is_repaired():
    assert only(cosines(0.1, 0.0, 0.2), tried(40, 0.9)).verdict == "not supported"


def test_a_control_that_repairs_as_much_takes_the_repair_away():
    assert only(cosines(0.8, 0.7, 0.2), tried(400, 0.5, 0.5)).verdict == "not supported"
    assert only(cosines(0.8, 0.7, 0.2), tried(400, 0.0)).verdict == "not supported"


def test_too_few_or_too_wide_is_open():
    found = only(cosines(0.8, 0.7, 0.2), tried(5, 1.0))
    assert found.verdict == "open"
    assert "5 harmed answers of 5 clusters are too few" in found.why
    assert only(cosines(0.8, 0.7, 0.2), tried(12, 1 / 12)).verdict == "open"
    assert only(cosines(0.8, 0.7, 0.2), tried(40, 0.9).iloc[:0]).verdict == "open"


def effects():
    rows = [
        (arm, seed, 100, "harmed", action, vector, "resid_post", layer, control, "answer", 0.3, 0.2, 0.4, 0.0, 20)
        for arm, seed in ARMS
        for action in ("remove", "add")
        for vector in ("base", "student")
        for layer in (0, 1)
        for control in ("none", "random", "unrelated")
    ]
    columns = ["arm", "seed", "step", "group", "action", "vector", "site", "layer", "control", "readout", "estimate", "low",
               "high", "before", "n_examples"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def flipped():
    rng = np.random.default_rng(0)
    run = {"arm": "opd", "seed": 0, "step": 100, "sample": 0}
    answers, tokens = [], []
    for i in range(30):
        common = {**run, "example_id": f"e{i}", "cluster": f"e{i}", "response": "ab"[i % 2]}
        answers.append({**common, "view": "no_context", "control": "none", "outcome": "right"})
        answers.append(
            {**common, "view": "with_context", "control": "exact", "outcome": "right" if i % 3 else "wrong"}
        )
        tokens += [
            {**run, "example_id": f"e{i}", "site": "resid_post", "layer": layer, "cosine": rng.random()}
            for layer in (0, 1)
        ]
    return flips_by_drift(pd.DataFrame(tokens), pd.DataFrame(answers))


def test_every_figure_has_a_caption_that_says_n_and_words_for_those_who_do_not_see_it(
    updates, overlaps, gradients, probes
):
    drawn = {
        "updates": update_figures.updates(updates),
        "overlaps": update_figures.overlaps(overlaps),
        "gradients": gradient_figures.gradients(gradients),
        "probes": probes_figure(probes),
        "directions": direction_figures.directions(cosines(0.8, 0.7, 0.2)),
        "effects": direction_figures.direction_effects(effects()),
        "flips": flips(flipped()),
    }
    for name, figure in drawn.items():
        assert len(figure.data) > 1, name
        assert "seed" in caption(figure), name
        assert alt_text(figure), name
    for name in ("gradients", "probes", "directions", "effects"):
        assert "n = " in caption(drawn[name]), name
    assert "0.01, beside" in alt_text(drawn["gradients"])
    assert "20 harmed answers" in caption(drawn["effects"])


def test_nothing_to_draw_is_said(updates, overlaps, gradients, probes):
    for figure in (
        update_figures.updates(updates.iloc[:0]),
        update_figures.overlaps(overlaps.iloc[:0]),
        gradient_figures.gradients(gradients.iloc[:0]),
        gradient_figures.along(gradients),
        probes_figure(probes.iloc[:0]),
        direction_figures.directions(cosines(0, 0, 0).iloc[:0]),
        direction_figures.direction_effects(effects(), "kept"),
        flips(flipped().iloc[:0]),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text


def test_gradients_along_training(gradients):
    along = pd.concat([gradients, gradients.assign(step=50)])
    figure = gradient_figures.along(along)
    assert list(figure.data[0].x) == [50, 100]


def test_what_is_printed(updates, overlaps, gradients, probes, tmp_path):
    from cr_interp.study.study import Study

    study = Study.create(tmp_path / "shown", {"name": "shown"})
    for name, rows in (
        ("updates", updates),
        ("update_overlaps", overlaps),
        ("gradients", gradients),
        ("probes", probes),
        ("directions", cosines(0.8, 0.7, 0.2)),
        ("direction_examples", tried(40, 0.9).assign(received=0.0, given=0.0, patched=0.0, before=False)),
    ):
        study.put(name, rows)
    said = {name: "\n".join(printed(make(study), 200)) for name, make in PRINTED.items()}
    assert "0.3" in said["updates"]
    assert "opd and nca 0.30" in said["updates"].replace("\n", " ")
    assert "supported" in said["directions"]
    assert "0.95" in said["gradients"]
    assert "paraphrase / irrelevant" in said["probes"]
    assert rich_flips(study) is None
    narrow = "\n".join(printed(PRINTED["directions"](study), 80))
    assert "…" not in narrow  # no number is cut where a terminal has 80 columns
    assert "with adding" in narrow
    assert "opd 0: u has v's direction, and removing v repairs more" in " ".join(narrow.split())


def test_what_drift_tells_fits_into_eighty_columns(tmp_path):
    from test_flips_by_drift import with_classes

    from cr_interp.study.study import Study

    study = Study.create(tmp_path / "shown", {"name": "shown"})
    harmed = [i % 3 == 0 for i in range(30)]
    for name, rows in zip(
        ("token_drift", "generations"), with_classes(np.linspace(0, 1, 30), harmed, ["a", "b"] * 15), strict=True
    ):
        study.put(name, rows.assign(arm="dual_opd", token="x", split="test", prompt="p", n_tokens=1))
    said = "\n".join(printed(rich_flips(study), 80))
    assert "…" not in said
    assert "dual_opd 10 flipped, 20 kept, 1 seed" in " ".join(said.split())
