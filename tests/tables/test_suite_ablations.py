"""Ablations of a suite: every arm of the settings that have more than the paper's, each beside the baseline."""

import pandas as pd
import pytest
from planted import N, plant, planted_suite, printed

from cr_interp.figures.suite import harm_forest
from cr_interp.report.suite import markdown_suite, rich_suite
from cr_interp.tables import suite
from cr_interp.tables.ablations import ablated, ablation_arms, ablation_rows

RIGHT, HALF = "r" * N, "w" * 10 + "r" * 10


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> suite.Suite:
    root = tmp_path_factory.mktemp("ablations")
    plant(root / "rules-llama", {"opd": (RIGHT, HALF), "nca": (RIGHT, RIGHT)})
    arms = {"opd": (RIGHT, HALF), "nca": (RIGHT, RIGHT), "sym_kl": (HALF, HALF), "dual_opd": (RIGHT, "w" * N)}
    plant(root / "rules-qwen3", arms)
    return suite.open_suite(root)


def test_only_settings_with_other_arms_and_all_of_theirs(mine):
    assert list(ablated(mine).studies) == ["rules-qwen3"]
    assert ablation_arms(mine)[:3] == ["base", "opd", "nca"]
    assert set(ablation_arms(mine)) == {"base", "opd", "nca", "sym_kl", "dual_opd"}
    rows = ablation_rows(mine)
    assert list(rows["arm"]) == ablation_arms(mine)
    assert set(rows["setting"]) == {"rules-qwen3"}


def test_each_is_compared_with_the_baseline_on_common_examples(mine):
    rows = ablation_rows(mine).set_index("arm")
    assert rows.loc["nca", "harm_minus"] == pytest.approx(-0.5)
    assert rows.loc["nca", "harm_minus_high"] < 0
    assert rows.loc["dual_opd", "harm_minus"] == pytest.approx(0.5)
    assert rows.loc["dual_opd", "acc_xc_minus"] == pytest.approx(-0.5)
    assert rows.loc["sym_kl", "acc_x_minus"] == pytest.approx(-0.5)
    assert rows.loc[["base", "opd"], ["harm_minus", "acc_x_minus", "acc_xc_minus"]].isna().all(axis=None)


def test_how_often_a_new_instruction_is_obeyed_stands_beside(mine, tmp_path):
    assert ablation_rows(mine)["new_instruction"].isna().all()  # it was not asked
    study = plant(tmp_path / "rules-qwen3", {"opd": (RIGHT, HALF), "sym_kl": (HALF, HALF)})
    rows = study.table("generations")
    told = rows[rows["view"] == "with_context"].assign(control="mismatched")
    told["obeys_new"] = (told["arm"] == "sym_kl") & (told["example_id"] == told["example_id"].iloc[0])
    study.put("generations", pd.concat([rows.assign(obeys_new=None), told]))
    found = ablation_rows(suite.open_suite(tmp_path)).set_index("arm")
    assert found.loc["opd", "new_instruction"] == 0
    assert found.loc["sym_kl", "new_instruction"] == pytest.approx(1 / N)
    assert 0 == found.loc["sym_kl", "new_instruction_low"] < 1 / N < found.loc["sym_kl", "new_instruction_high"]


@pytest.mark.slow
def test_they_stand_below_the_counts_in_text_and_in_the_forest(mine):
    text = markdown_suite(mine)
    assert "| `rules-qwen3` | `dual_opd` | 100.0 | 0.0 | 0.0 | 100.0 [85.0, 100.0] | +50.0 [" in text
    lines = printed(rich_suite(mine), 100)
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("Ablations") for line in lines)
    assert any("dual_opd" in line and "*+50.0" in line for line in lines)
    drawn = harm_forest(ablation_rows(mine), ablation_arms(mine))
    assert {trace.name for trace in drawn.data} >= {"opd", "nca", "sym_kl", "dual_opd"}


@pytest.mark.slow
def test_a_suite_without_ablations_says_nothing_of_them(tmp_path):
    plain = planted_suite(tmp_path / "mine")
    assert ablation_rows(plain).empty
    assert "Ablations" not in "\n".join(printed(rich_suite(plain), 100))
    assert markdown_suite(plain).count("`opd` − ") == 0
