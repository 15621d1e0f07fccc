"""A case study: several checkpoints on the same responses, in one figure; stopped and continued."""

import html

import pandas as pd
import pytest
import yaml
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.measure import readings
from cr_interp.measure.case_study import case_study, read_case_study
from cr_interp.report.case_study import summary, write_page
from cr_interp.study.study import Study


@pytest.fixture
def config(tmp_path):
    """Three tiny random checkpoints; the task's contexts are long, so its short one is taken."""
    for seed, arm in enumerate(("base", "opd", "nca")):
        loaded = tiny(seed=seed)
        loaded.model.save_pretrained(tmp_path / arm)
        loaded.tokenizer.save_pretrained(tmp_path / arm)
    path = tmp_path / "case.yaml"
    told = {
        "name": "tiny",
        "task": "codebook:A",
        "evaluation": {"examples": 6},
        "checkpoints": {arm: str(tmp_path / arm) for arm in ("base", "opd", "nca")},
    }
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    return path


def tokens_of(study: Study) -> dict[str, list[tuple]]:
    rows = study.table("token_drift")
    rows = rows[(rows["site"] == "resid_post") & (rows["layer"] == 0)]
    return {
        arm: sorted(zip(mine["example_id"], mine["position"], mine["token"], strict=True))
        for arm, mine in rows.groupby("arm")
    }


@pytest.mark.slow
def test_all_are_read_on_the_first_ones_responses(config, tmp_path):
    study = case_study(read_case_study(config), tmp_path / "out")
    found = tokens_of(study)
    assert found["base"] == found["opd"] == found["nca"]
    answers = study.table("generations")
    answers = answers[answers["view"] == "no_context"].set_index("example_id")
    for arm in ("opd", "nca"):  # whose own answers are others
        assert list(answers[answers["arm"] == arm]["response_ids"].map(list)) != list(
            answers[answers["arm"] == "base"]["response_ids"].map(list)
        )
    drift = study.table("drift")
    assert set(drift["control"]) == {"exact", "paraphrase", "mismatched", "irrelevant", "floor", "repeat"}
    write_page(study)
    curves = pd.read_csv(tmp_path / "out" / "case-study.csv")
    assert set(curves["arm"]) == {"base", "opd", "nca"}
    assert (
        len(curves[(curves["measure"] == "cosine") & (curves["control"] == "exact")]) == 3 * 3
    )  # emb and two blocks
    page = html.unescape((tmp_path / "out" / "case-study.html").read_text())
    assert "Cosine between a response token's state" in page
    assert "Read on base's responses." in page
    assert page.count("<figcaption") == 5  # the four contexts and the floor
    table = summary(study).set_index("arm")
    assert list(table.index) == ["base", "opd", "nca"]
    assert (table["lowest cosine"] < 1).all()
    assert table["floor"].notna().all()


@pytest.mark.slow
def test_stopped_and_continued_it_ends_in_the_same_tables(config, tmp_path, monkeypatch):
    chosen = read_case_study(config)
    whole = case_study(chosen, tmp_path / "whole")
    measured = []

    def stop_at_the_third(*arguments, **options):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(arguments[0].name)
        return compare_drift(*arguments, **options)

    compare_drift = readings.measure_drift
    monkeypatch.setattr(readings, "measure_drift", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        case_study(chosen, tmp_path / "parts")
    monkeypatch.setattr(readings, "measure_drift", compare_drift)
    with pytest.raises(UserError, match="begun with another evaluation"):
        case_study(read_case_study(config, ["examples=5"]), tmp_path / "parts")
    parts = case_study(chosen, tmp_path / "parts")
    for name in ("generations", "drift", "token_drift", "cka_map"):
        pd.testing.assert_frame_equal(parts.table(name), whole.table(name))


@pytest.mark.slow
def test_each_on_its_own_and_a_model_spread_out(config, tmp_path):
    chosen = read_case_study(config, ["responses=own", "load.device_map=auto", "across=false", "examples=4"])
    study = case_study(chosen, tmp_path / "own")
    found = tokens_of(study)
    assert found["base"] != found["opd"]
    assert set(study.table("cka_map")["map"]) == {"no_context", "with_context", "views"}
    with pytest.raises(UserError, match="finished study"):
        case_study(chosen, tmp_path / "own")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("responses=opdd", r"no checkpoint with responses 'opdd'. Did you mean 'opd'"),
        ("evaluation.exampels=3", r"Unknown key 'evaluation.exampels'. Did you mean 'examples'"),
        ("load.dtype=int8", r"'load.dtype'"),
        ("checkpoints={}", r"'checkpoints'"),
        ("task=codebok:A", r"no task 'codebok:A'"),
    ],
)
def test_what_cannot_be_is_refused(config, tmp_path, override, said):
    with pytest.raises(UserError, match=said):
        case_study(read_case_study(config, [override]), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
