"""Suites: a small one planted so that every count is known by hand, then what always holds."""

import numpy as np
import pandas as pd
import pytest
from planted import BASE, PLANTED, N, answers, partial_suite, plant, planted_suite, printed, random_suite

from cr_interp.errors import UserError
from cr_interp.report.suite import markdown_suite, rich_suite, suite_json
from cr_interp.statistics import holm
from cr_interp.study import searching as studies
from cr_interp.study.searching import find_studies, open_study
from cr_interp.study.study import Study
from cr_interp.tables import behaviour, suite
from cr_interp.tables.drift import layer_table
from cr_interp.tables.metrics import metric_table


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> suite.Suite:
    return planted_suite(tmp_path_factory.mktemp("planted") / "mine")


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> suite.Suite:
    return random_suite(tmp_path_factory.mktemp("random") / "mine")


# -- on disk -------------------------------------------------------------------------------------------------


def test_settings_come_in_the_papers_order_and_others_after(tmp_path):
    for name in ("zeta", "alpha", "sokoban-self", "rules-llama"):
        Study.create(tmp_path / name, {})
    (tmp_path / "logs").mkdir()
    assert list(suite.open_suite(tmp_path).studies) == ["rules-llama", "sokoban-self", "alpha", "zeta"]
    assert len(suite.SETTINGS) == len(set(suite.SETTINGS)) == 12


def test_what_is_not_a_suite_is_refused_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    one = Study.create(tmp_path / "one", {})
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    assert not suite.is_suite(one.path)
    assert not suite.is_suite(tmp_path / "empty")
    assert not suite.is_suite("nowhere")
    monkeypatch.setattr(studies, "BUNDLED", tmp_path / "no-examples")
    with pytest.raises(UserError, match="one study, not a suite"):
        suite.open_suite(one.path)
    with pytest.raises(UserError, match=r"none of its folders is a study \(it holds: notes\)"):
        suite.open_suite(tmp_path / "empty")
    with pytest.raises(UserError, match=r"no suite 'nowhere', and no other in .*CR_INTERP_STUDIES"):
        suite.open_suite("nowhere")
    Study.create(tmp_path / "suite" / "rules-llama", {})
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="Did you mean 'suite'"):
        suite.open_suite("siute")
    with pytest.raises(UserError, match="one study, not a suite"):
        suite.open_suite("suite/rules-llama")


def test_a_setting_is_found_and_opened_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    made = Study.create(tmp_path / "a" / "suite" / "rules-llama", {})
    Study.create(tmp_path / "a" / "one", {})
    Study.create(tmp_path / "a" / "one" / "inside", {})  # a study's own folders are not studies
    assert find_studies()["suite/rules-llama"] == made.path
    assert "one/inside" not in find_studies()
    assert "suite" not in find_studies()
    assert open_study("suite/rules-llama").path == made.path
    assert list(suite.open_suite("suite").studies) == ["rules-llama"]
    bundled = {"suite-why": studies.BUNDLED / "suite-why"}  # of another name, so it stands beside
    assert suite.find_suites() == {"suite": tmp_path / "a" / "suite"} | bundled
    with pytest.raises(UserError, match="Did you mean 'suite/rules-llama'"):
        open_study("suite/rules-lama")


def test_a_suite_is_never_mixed_from_two_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CR_INTERP_STUDIES", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    for root, setting in (("a", "rules-llama"), ("b", "rules-llama"), ("b", "rules-qwen3")):
        Study.create(tmp_path / root / "suite" / setting, {})
    names = [name for name in find_studies() if name.startswith("suite/")]
    assert names == ["suite/rules-llama"]
    assert suite.open_suite("suite").path == tmp_path / "a" / "suite"


def test_a_name_cannot_leave_the_search_paths(tmp_path, monkeypatch):
    here = tmp_path / "far" / "away"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path / "open"))
    Study.create(tmp_path / "open" / "suite" / "rules-llama", {})
    Study.create(tmp_path / "secret" / "study", {})
    assert (tmp_path / "open" / "../secret/study/manifest.json").is_file()  # the names below would lead somewhere
    for name in (
        "../secret/study",
        "suite/../../secret/study",
        "suite/../suite/rules-llama",
        "suite/",
        "suite/.",
    ):
        assert name not in find_studies()
        with pytest.raises(UserError, match="There is no study"):
            open_study(name)
    for name in ("../secret", "suite/../../secret", "..", ""):
        names = suite.find_suites()
        assert name not in names
    for name in ("../secret", "suite/../../secret"):
        assert not suite.is_suite(name)
        with pytest.raises(UserError, match="There is no suite"):
            suite.open_suite(name)


# -- answers -------------------------------------------------------------------------------------------------


def test_rows_have_the_planted_numbers(planted):
    rows = suite.setting_rows(planted)
    assert list(rows["setting"].unique()) == ["rules-llama", "rules-qwen3", "codebook-llama", "sokoban-cross"]
    assert list(rows["arm"]) == ["base", "opd", "nca"] * 4
    at = rows.set_index(["setting", "arm"])
    opd = at.loc[("rules-llama", "opd")]
    expected = {"acc_x": 1, "acc_xc": 0.5, "harm": 0.5, "both_correct": 0.5, "delta_len": 0, "acc_change": -0.5}
    assert opd[[*expected]].to_dict() == pytest.approx(expected)
    assert (opd["n"], opd["harm_n"], opd["seeds"], opd["harm_floor"]) == (2 * N, 2 * N, 2, 0)
    assert opd["harm_low"] < 0.5 < opd["harm_high"]
    assert np.isnan(opd["rescue"])
    # Where nothing changed among 20 examples, a change by two points would not be seen: open, not C.
    assert list(at["regime"]) == ["B", "A", "open", "B", "A", "A", "B", "open", "A", "B", "open", "open"]
    assert list(at["interval"]) == ["within", "across", "across"] * 4, "base has one seed"
    base = at.loc[("rules-llama", "base")]
    assert (base["n"], base["seeds"], base["acc_x"], base["rescue"]) == (N, 1, 0, 1)
    assert np.isnan(base["harm"])
    assert at.loc[("sokoban-cross", "nca"), "delta_len"] == pytest.approx(0.1)


def test_rows_are_the_table_over_seeds(random):
    table, rows = suite.suite_table(random), suite.setting_rows(random)
    assert list(table.columns) == ["setting", "arm", "seed", "metric", "estimate", "low", "high", "n", "interval"]
    over = table[table["seed"].isna()].drop(columns="seed").set_index(["setting", "arm", "metric"])
    for row in rows.to_dict("records"):
        for metric in behaviour.METRICS:
            there = over.loc[(row["setting"], row["arm"], metric)]
            shown = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
            assert shown == pytest.approx(there[["estimate", "low", "high"]].tolist(), nan_ok=True)
    one = table[table["setting"] == "rules-gpt-neox"].drop(columns="setting").reset_index(drop=True)
    pd.testing.assert_frame_equal(one, metric_table(random.studies["rules-gpt-neox"]), check_dtype=False)
    assert "min_cosine" in set(one["metric"])


def test_control_and_arms_are_passed_on(random):
    exact = suite.setting_rows(random, arms=("nca", "opd", "nca", "nonesuch"))
    other = suite.setting_rows(random, arms=("nca", "opd"), control="irrelevant")
    assert list(exact["arm"]) == ["nca", "opd"] * 3
    assert exact["acc_x"].tolist() == other["acc_x"].tolist()
    assert exact["acc_xc"].tolist() != other["acc_xc"].tolist()
    missing = suite.setting_rows(random, control="paraphrase")
    assert missing[["acc_xc", "harm"]].isna().all(axis=None)
    assert missing["regime"].isna().all()
    with pytest.raises(UserError, match="control 'exat'"):
        suite.setting_rows(random, control="exat")


def test_comparisons_are_paired_and_say_what_they_compare(planted):
    compared = suite.comparisons(planted).set_index(["setting", "metric"])
    assert len(compared) == 4 * 6
    row = compared.loc[("rules-llama", "harm")]
    assert (row["estimate"], row["baseline_estimate"], row["arm_estimate"]) == (-0.5, 0.5, 0)
    assert row["excludes_zero"]
    assert row["high"] < 0
    assert (row["baseline_floor"], row["seeds"]) == (0, 2)
    tie = compared.loc[("rules-qwen3", "harm")]
    assert tie["estimate"] == 0
    assert tie["low"] < 0 < tie["high"], "two runs that agree say nothing certain about the next"
    assert not tie["excludes_zero"]
    common = compared.loc[("sokoban-cross", "harm_common")]
    # Of the 8 that nca solves, opd is wrong in 2 with the context and nca in none.
    assert (common["estimate"], common["n"]) == (-2 / 8, 2 * 8)
    assert compared.loc[("sokoban-cross", "acc_x"), "estimate"] == pytest.approx(-0.6)
    same = behaviour.differences(planted.studies["rules-llama"].table("generations"), "nca", "opd")
    same = same[same["seed"].isna()].set_index("metric")
    for metric in suite.COMPARED:
        mine = compared.loc[("rules-llama", metric)]
        assert (
            mine[["estimate", "low", "high"]].tolist() == same.loc[metric, ["estimate", "low", "high"]].tolist()
        )


def test_counts_by_hand(planted):
    counts = suite.counts(planted)
    assert list(counts.columns) == ["claim", "k", "of", "settings"]
    found = {row.claim: (row.k, row.of, set(row.settings)) for row in counts.itertuples()}
    assert found == {
        "harm lower under nca, across interval excludes 0": (1, 4, {"rules-llama"}),
        "harm lower under nca, after Holm": (0, 4, set()),
        "harm the same under nca and opd within 2 points": (0, 4, set()),
        "harm higher under nca, across interval excludes 0": (1, 4, {"codebook-llama"}),
        "harm higher under nca, after Holm": (0, 4, set()),
        "harm open: none of these": (2, 4, {"rules-qwen3", "sokoban-cross"}),
        "harm on common prompts lower under nca, across interval excludes 0": (1, 4, {"rules-llama"}),
        "harm on common prompts higher under nca, across interval excludes 0": (1, 4, {"codebook-llama"}),
        "harm of opd above its floor, across interval excludes the floor": (2, 4, {"rules-llama", "rules-qwen3"}),
        "among these, harm lower under nca, across interval excludes 0": (1, 2, {"rules-llama"}),
        "acc_x not lower under nca by 2 points": (0, 4, set()),
        "acc_x lower under nca, across interval excludes 0": (1, 4, {"sokoban-cross"}),
        "acc_xc higher under nca, across interval excludes 0": (1, 4, {"rules-llama"}),
        "acc_xc lower under nca, across interval excludes 0": (2, 4, {"codebook-llama", "sokoban-cross"}),
        "|delta_len| at most 3 % under nca": (3, 4, {"rules-llama", "rules-qwen3", "codebook-llama"}),
    }
    assert (counts["k"] == counts["settings"].map(len)).all()


def test_settings_with_one_seed_are_not_counted_as_if_they_had_others(tmp_path):
    plant(tmp_path / "rules-llama", PLANTED["rules-llama"], seeds=(0,))
    mine = suite.open_suite(tmp_path)
    counts = suite.counts(mine).set_index("claim")
    assert counts.loc["harm lower under nca, across interval excludes 0", ["k", "of"]].tolist() == [0, 0]
    within = suite.counts(mine, interval="within").set_index("claim")
    assert within.loc["harm lower under nca, within interval excludes 0", ["k", "of"]].tolist() == [1, 1]
    assert not [claim for claim in within.index if "Holm" in claim]
    assert "one seed" in "\n".join(printed(rich_suite(mine), 100))


def test_one_flip_is_no_count(tmp_path):
    """One answer in 2 × 200 differs: neither lower nor higher, and within the margin."""
    all_right, one_flip = "r" * 200, "w" + "r" * 199
    study = plant(
        tmp_path / "rules-llama", {"opd": (all_right, all_right), "nca": (all_right, all_right)}, seeds=(0, 1, 2)
    )
    study.put("generations", answers("opd", 0, (all_right, one_flip)))
    counts = suite.counts(suite.open_suite(tmp_path)).set_index("claim")["k"]
    assert counts["harm the same under nca and opd within 2 points"] == 1
    assert (
        counts[[claim for claim in counts.index if claim.startswith("harm") and "excludes 0" in claim]].sum() == 0
    )


def test_twelve_settings_are_twelve_tests(tmp_path):
    """A p of 0.03 in one of twelve settings is what chance gives: the interval excludes 0, Holm does not."""
    compared = pd.DataFrame(
        {"setting": [f"s{i}" for i in range(12)], "metric": "harm", "estimate": -0.1, "low": -0.15, "high": -0.05}
    )
    compared = compared.assign(interval="across", excludes_zero=True, p_holm=holm([0.03] * 11 + [0.001]))
    compared = compared.assign(baseline_interval="across", baseline_low=0.1, baseline_floor=0.0, arm_estimate=0.0)
    counts = suite.count_claims(compared).set_index("claim")["k"]
    assert counts["harm lower under nca, across interval excludes 0"] == 12
    assert counts["harm lower under nca, after Holm"] == 1


def test_only_the_last_step_of_a_run_counts(tmp_path):
    study = plant(tmp_path / "rules-llama", PLANTED["rules-llama"])
    before = suite.setting_rows(suite.open_suite(tmp_path)), suite.comparisons(suite.open_suite(tmp_path))
    study.put("generations", answers("opd", 0, ("w" * N, "w" * N)).assign(step=50))
    study.put("generations", answers("opd", 0, ("w" * N, "w" * N)).assign(step=200, split="validation"))
    again = suite.open_suite(tmp_path)
    pd.testing.assert_frame_equal(suite.setting_rows(again), before[0])
    pd.testing.assert_frame_equal(suite.comparisons(again), before[1])


def test_a_damaged_table_is_refused_not_skipped(tmp_path):
    study = plant(tmp_path / "rules-llama", PLANTED["rules-llama"])
    rows = study.table("generations")
    study.table_path("generations").unlink()
    study.put("generations", rows.assign(seed=rows["seed"].where(rows["arm"] != "opd")))
    with pytest.raises(UserError, match="without 'seed'"):
        suite.setting_rows(suite.open_suite(tmp_path))
    study.table_path("generations").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="not readable as Parquet"):
        suite.setting_rows(suite.open_suite(tmp_path))


def test_an_undefined_harm_is_not_counted(tmp_path):
    """An arm that is never right without the context has no Harm, which is neither lower nor equal."""
    plant(tmp_path / "rules-llama", {"opd": BASE, "nca": ("r" * N, "r" * N)})
    counts = suite.counts(suite.open_suite(tmp_path)).set_index("claim")
    harm = counts[counts.index.str.contains("harm")]
    assert (harm["of"] == 0).all()
    assert counts.loc["acc_x not lower under nca by 2 points", ["k", "of"]].tolist() == [1, 1]


def test_the_floor_of_sampled_decoding_by_hand(tmp_path):
    samples = [answers("opd", 0, (letters,) * 2, sample=k) for k, letters in enumerate(("rrwr", "rwwr"))]
    two = pd.concat(samples, ignore_index=True)
    # p = 1, ½, 0, 1: E[p] = 2.5/4; both right in 1, 0, 0, 1 of the pairs of samples: E[p²] = 2/4.
    assert suite.harm_floor(two) == pytest.approx(1 - 2 / 2.5)
    assert suite.harm_floor(samples[0]) == 0
    assert np.isnan(suite.harm_floor(samples[0], greedy=False))
    assert suite.harm_floor(pd.concat([samples[0], samples[0].assign(sample=1)])) == 0  # greedy, asked twice

    # Views that are alike, sampled independently: Harm is about its floor, and not counted as above it.
    rng = np.random.default_rng(0)
    p = rng.uniform(0.3, 1, N)
    letters = [["".join("r" if hit else "w" for hit in rng.random(N) < p) for _ in range(2)] for _ in range(40)]
    study = plant(tmp_path / "rules-llama", {"nca": ("r" * N,) * 2}, evaluation={"temperature": 0.7})
    sampled = [
        answers("opd", seed, tuple(letters[20 * seed + k]), sample=k) for seed in (0, 1) for k in range(20)
    ]
    study.put("generations", pd.concat(sampled))
    row = suite.setting_rows(suite.open_suite(tmp_path)).set_index("arm").loc["opd"]
    assert row["harm_floor"] == pytest.approx(1 - (p**2).mean() / p.mean(), abs=0.03)
    assert row["harm"] == pytest.approx(row["harm_floor"], abs=0.03)
    counts = suite.counts(suite.open_suite(tmp_path)).set_index("claim")
    assert counts.loc[
        "harm of opd above its floor, across interval excludes the floor", ["k", "of"]
    ].tolist() == [0, 1]


# -- half done -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def partial(tmp_path_factory) -> suite.Suite:
    return partial_suite(tmp_path_factory.mktemp("partial") / "mine")


def test_what_is_missing_is_said(partial, planted):
    found = suite.unfinished(partial)
    assert found["rules-qwen3"] == "not evaluated: nca (seed 0)"
    assert found["codebook-llama"] == "not evaluated yet"
    assert found["sokoban-cross"] == "no study yet"
    assert "rules-llama" not in found
    assert "rules-gemma2" not in found, "it has all arms that its manifest names"
    assert len(found) == 12 - 2
    assert set(suite.unfinished(planted).values()) == {"no study yet"}
    assert len(suite.unfinished(planted)) == 8


def test_a_suite_of_other_names_lacks_none_of_the_papers(tmp_path):
    plant(tmp_path / "my-own", PLANTED["rules-llama"])
    assert suite.unfinished(suite.open_suite(tmp_path)) == {}


@pytest.mark.slow
def test_everything_works_on_a_suite_that_is_half_done(partial):
    assert set(suite.suite_table(partial)["setting"]) == {"rules-llama", "rules-qwen3", "rules-gemma2"}
    assert len(suite.setting_rows(partial)) == 3 + 3 + 2
    compared = suite.comparisons(partial)
    assert list(compared["setting"].unique()) == ["rules-llama", "rules-qwen3"]
    harm = compared[compared["metric"] == "harm"].set_index("setting")
    assert harm["seeds"].tolist() == [2, 1], "only the seeds that both arms have"
    assert harm["n"].tolist() == [2 * N, N]
    assert suite.counts(partial)["of"].max() == 2
    assert suite.suite_drift(partial).empty
    training = suite.suite_training(partial)
    assert training[["setting", "step", "acc_x"]].values.tolist() == [["codebook-llama", 0, 0.1]]
    assert suite.early_gap(training).empty
    text = "\n".join(printed(rich_suite(partial), 100))
    assert "codebook-llama (not evaluated yet)" in " ".join(text.split())
    assert "rules-gpt-neox, codebook-qwen3, codebook-gemma2" in " ".join(text.split())
    assert "Unfinished of the 12 settings" in text
    assert "seeds" in text
    assert "no study yet" in markdown_suite(partial)
    assert {row["setting"] for row in suite_json(suite.suite_table(partial))} == set(compared["setting"]) | {
        "rules-gemma2"
    }


def test_a_suite_without_any_answers(tmp_path):
    Study.create(tmp_path / "rules-llama", {})
    empty = suite.open_suite(tmp_path)
    assert suite.suite_table(empty).empty
    assert suite.setting_rows(empty).empty
    assert suite.comparisons(empty).empty
    assert (suite.counts(empty)[["k", "of"]] == 0).all(axis=None)
    assert suite_json(suite.suite_table(empty)) == []
    assert "not evaluated yet" in " ".join(printed(rich_suite(empty), 100))
    assert "rules-llama (not evaluated yet)" in markdown_suite(empty)


# -- drift and training --------------------------------------------------------------------------------------


def test_drift_is_each_settings_layer_table(random):
    drift = suite.suite_drift(random)
    assert list(drift["setting"].unique()) == ["rules-gpt-neox", "codebook-gpt-neox", "frozenlake-self"]
    assert set(drift["layer"]) == {0, 1, 2, 3}, "the embedding is left out"
    for setting, study in random.studies.items():
        expected = layer_table(study.table("drift"), "cosine")
        expected = expected[expected["layer"] != "emb"]["estimate"].tolist()
        assert drift.loc[drift["setting"] == setting, "estimate"].tolist() == pytest.approx(expected)
    assert not suite.suite_drift(random, "relative_l2", "irrelevant").empty
    assert suite.suite_drift(random, "nonesuch").empty


def logged(setting: str, arm: str, seed: int, values: dict[int, tuple[float | None, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "setting": setting,
                "arm": arm,
                "seed": seed,
                "step": step,
                "harm": harm,
                "acc_x": acc,
                "acc_xc": acc,
            }
            for step, (harm, acc) in values.items()
        ]
    )


def test_the_early_gap_by_hand():
    training = pd.concat(
        [
            logged("one", "opd", 0, {0: (None, 0.0), 10: (0.2, 0.8), 20: (0.2, 0.8)}),
            logged("one", "opd", 1, {0: (None, 0.0), 10: (0.4, 0.6), 20: (0.2, 0.8)}),
            logged("two", "opd", 0, {0: (0.0, 0.2), 10: (0.5, 0.5)}),  # still running: step 20 does not count
            logged("one", "nca", 0, {0: (None, 0.0), 5: (0.9, 0.9), 10: (0.1, 0.9), 20: (0.0, 1.0)}),
            logged("two", "nca", 0, {0: (0.0, 0.2), 10: (0.0, 0.7)}),
            logged("three", "opd", 0, {0: (1.0, 0.0), 10: (1.0, 0.0)}),  # has no nca: neither arm's mean has it
        ],
        ignore_index=True,
    )
    early = suite.early_gap(training).set_index(["arm", "metric", "step"])
    assert set(early.index.get_level_values("step")) == {0, 10}
    opd = early.loc[("opd", "harm", 10)]
    assert opd["estimate"] == pytest.approx((0.3 + 0.5) / 2), "seeds first, then settings"
    assert (opd["lowest"], opd["highest"], opd["n"]) == (pytest.approx(0.3), 0.5, 2)
    assert opd["lowest"] <= opd["low"] <= opd["estimate"] <= opd["high"] <= opd["highest"]
    first = early.loc[("opd", "harm", 0)]
    assert (first["estimate"], first["n"]) == (0, 1), "undefined in one setting"
    assert np.isnan(first["low"])
    assert early.loc[("nca", "acc_xc", 10), "estimate"] == pytest.approx(0.8)


def test_training_rows_are_the_evaluations(random):
    training = suite.suite_training(random)
    one = random.studies["frozenlake-self"].training()
    one = one[one["kind"] == "eval"]
    mine = training[training["setting"] == "frozenlake-self"]
    assert mine[["arm", "seed", "step"]].values.tolist() == one[["arm", "seed", "step"]].values.tolist()
    assert mine["harm"].tolist() == one["harm"].tolist()
    early = suite.early_gap(training)
    assert set(early["n"]) == {3}
    last = early[(early["arm"] == "opd") & (early["metric"] == "acc_xc")].iloc[-1]
    at_end = training[(training["arm"] == "opd") & (training["step"] == last["step"])]
    assert last["estimate"] == pytest.approx(at_end.groupby("setting")["acc_xc"].mean().mean())
