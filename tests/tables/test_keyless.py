"""Answers without a key: what is counted of them, what is not, and that a page's tables know them. Against counting by hand."""

import pandas as pd
import pytest

from cr_interp.mechanism.answers import answers_of
from cr_interp.report.study import keyless_sentences
from cr_interp.study.study import Study
from cr_interp.tables.behaviour import differences, metrics, outcome_shares, regimes
from cr_interp.tables.example_pairs import case_counts, paired
from cr_interp.tables.unread import instead, sentences, unread


def table(outcomes: list[str], changed: list[bool], arm: str = "opd") -> pd.DataFrame:
    """One pair an example: ``right`` stays right, ``ungraded`` has no key; the answer with the context is longer by a token."""
    rows = []
    for i, (outcome, other) in enumerate(zip(outcomes, changed, strict=True)):
        for view, control in (("no_context", "none"), ("with_context", "exact")):
            said = "a" if view == "no_context" or not other else "b"
            rows.append(
                {
                    "arm": arm,
                    "seed": 0,
                    "step": 1,
                    "split": "test",
                    "example_id": f"e{i}",
                    "cluster": f"e{i}",
                    "view": view,
                    "control": control,
                    "sample": 0,
                    "prompt": "p",
                    "response": said,
                    "response_ids": [5 if said == "a" else 6, 1],
                    "n_tokens": 3 if view == "with_context" else 2,
                    "outcome": outcome,
                    "obeys_new": None,
                }
            )
    return pd.DataFrame(rows)


NONE = table(["ungraded"] * 4, [True, False, True, True])
SOME = table(["ungraded"] * 3 + ["right"], [True, False, True, False])


def of(frame: pd.DataFrame) -> dict[str, float]:
    return frame[frame["seed"].notna()].set_index("metric")["estimate"].to_dict()


def test_without_any_key_there_are_no_accuracies():
    assert of(metrics(NONE)) == {"delta_len": 0.5, "changed": 0.75, "agreement": 0.25}
    change = differences(pd.concat([NONE, table(["ungraded"] * 4, [False] * 4, "nca")]), "nca", "opd")
    assert of(change) == {"delta_len": 0.0, "changed": -0.75, "agreement": 0.75}
    assert regimes(NONE)["regime"].isna().all()


def test_a_key_of_some_examples_counts_for_these():
    found = of(metrics(SOME))
    assert (found["acc_x"], found["harm"], found["both_correct"]) == (1, 0, 1)
    assert found["changed"] == 0.5
    n = metrics(SOME).query("seed == 0").set_index("metric")["n"]
    assert (n["acc_x"], n["harm"], n["changed"], n["delta_len"]) == (1, 1, 4, 4)


def test_a_study_with_all_keys_has_the_metrics_it_had():
    assert set(of(metrics(table(["right"] * 4, [False] * 4)))) == {
        "acc_x",
        "acc_xc",
        "both_correct",
        "harm",
        "rescue",
        "delta_len",
    }


def test_outcomes_are_shares_of_what_has_a_key():
    assert outcome_shares(NONE).empty
    shares = outcome_shares(SOME)
    assert shares.query("outcome == 'right'")["share"].tolist() == [1, 1]
    assert set(shares["n"]) == {1}
    for frame in (NONE, SOME):
        rows = unread(frame)
        assert instead(rows) == {}
        assert sentences(rows, ["opd"]) == []


def test_pairs_without_a_key_are_changed_or_the_same():
    assert paired(NONE)["case"].tolist() == ["changed", "same", "changed", "changed"]
    counts = case_counts(paired(SOME)).set_index("case")
    assert counts["count"].to_dict() == {
        "kept": 1,
        "harmed": 0,
        "rescued": 0,
        "both wrong": 0,
        "changed": 2,
        "same": 1,
    }
    assert counts.loc["changed", "share"] == pytest.approx(2 / 3)
    assert set(case_counts(paired(NONE))["case"]) == {"changed", "same"}
    assert [each.group for each in answers_of(NONE)] == ["changed"] * 3


def test_a_study_says_that_it_has_no_key(tmp_path):
    for frame, words in ((NONE, "No example has an answer key"), (SOME, "1 of 4 examples have an answer key")):
        study = Study.create(tmp_path / words[:4], {"name": "s"})
        study.put("generations", frame)
        assert words in " ".join(keyless_sentences(study))
    study.replace("generations", table(["right"], [False]))
    assert keyless_sentences(study) == []
