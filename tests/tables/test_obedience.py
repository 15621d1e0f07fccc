"""The new-instruction check against counting by hand."""

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tables.obedience import new_instruction, new_instruction_difference


def rows(
    arm: str,
    seed: int,
    obeyed: list[bool],
    view: str = "with_context",
    control: str = "mismatched",
    step: int = 5,
):
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "example_id": [f"e{i}" for i in range(len(obeyed))],
            "view": view,
            "control": control,
            "sample": 0,
            "obeys_new": obeyed,
        }
    )


def test_shares_per_arm_and_seed():
    table = new_instruction(
        pd.concat(
            [
                rows("opd", 0, [True, False, False, False]),
                rows("opd", 1, [True, True, False, False]),
                rows("opd", 1, [True, True, True, True], step=1),  # an earlier step does not count
                rows("opd", 0, [False] * 4, "no_context", "none"),
                rows("opd", 0, [True] * 4, control="exact"),
            ]
        )
    ).set_index(["metric", "seed"])
    assert table.loc[("new_instruction", 0), "estimate"] == 0.25
    assert table.loc[("new_instruction", 1), "estimate"] == 0.5
    overall = table.loc["new_instruction"]
    overall = overall[overall.index.isna()].iloc[0]
    assert overall["estimate"] == 0.375
    assert overall["low"] <= 0.375 <= overall["high"]
    assert overall["n"] == 8
    assert table.loc[("new_instruction_x", 0), "estimate"] == 0.0


def test_a_study_without_the_check_has_no_rows():
    frame = rows("opd", 0, [True])
    assert new_instruction(frame.drop(columns="obeys_new")).empty
    assert new_instruction(frame.assign(control="exact")).empty
    assert new_instruction(frame.assign(obeys_new=None)).empty


def test_one_split_is_counted():
    """Answers to validation examples that were evaluated on the way are no answers to the test."""
    both = pd.concat(
        [
            rows("opd", 0, [True, False]).assign(split="test"),
            rows("opd", 0, [True] * 8).assign(split="validation"),
        ]
    )
    both["example_id"] = both["split"] + both["example_id"]
    assert new_instruction(both).query("seed == 0")["estimate"].tolist() == [0.5]
    assert new_instruction(both, split="validation").query("seed == 0")["n"].tolist() == [8]
    only = both[both["split"] == "validation"]
    assert new_instruction(only).query("seed == 0")["estimate"].tolist() == [1.0], (
        "somebody's own prompts have no test split"
    )
    with pytest.raises(UserError, match="split 'tset'"):
        new_instruction(both, split="tset")


def test_examples_of_a_cluster_are_not_independent():
    answers = [i % 4 < 2 for i in range(80)]
    alone = new_instruction(rows("opd", 0, answers))
    # The same answers, eight examples a cluster, all of a cluster alike:
    together = rows("opd", 0, sorted(answers)).assign(cluster=[f"c{i // 8}" for i in range(80)])
    wide, narrow = ((t["high"] - t["low"]).iloc[0] for t in (new_instruction(together), alone))
    assert wide > 2 * narrow


def test_nothing_obeyed_is_not_known_exactly():
    found = new_instruction(pd.concat([rows("opd", seed, [False] * 40) for seed in (0, 1, 2)]))
    assert (found["estimate"] == 0).all()
    assert (found["high"] > 0).all()
    assert found["interval"].tolist() == ["within"] * 3 + ["across"]


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_of_an_example_are_averaged(samples):
    frame = pd.concat([rows("nca", 0, [i == 0, True]).assign(sample=i) for i in range(samples)])
    found = new_instruction(frame)
    first = found[found["seed"] == 0].iloc[0]
    assert first["estimate"] == pytest.approx((1 / samples + 1) / 2)
    assert first["n"] == 2


def test_a_difference_is_paired_over_what_both_have():
    both = pd.concat(
        [
            rows("opd", 0, [True, True, False, False]),
            rows("opd", 1, [True, True, True, False]),
            rows("nca", 0, [True, False, False, False, True]),
            rows("nca", 1, [False, False, True, False, True]),
            rows("nca", 2, [True] * 5),
        ]
    )
    table = new_instruction_difference(both, "nca", "opd")
    by_seed = table.dropna(subset="seed").set_index("seed")["estimate"]
    assert by_seed.to_dict() == {0: -0.25, 1: -0.5}
    over = table[table["seed"].isna()].iloc[0]
    assert over["estimate"] == -0.375
    assert over["interval"] == "across"
    assert over["n"] == 8


def test_no_difference_where_one_arm_was_not_asked():
    assert new_instruction_difference(rows("opd", 0, [True]), "nca", "opd").empty
    assert new_instruction_difference(rows("opd", 0, [True]).drop(columns="obeys_new"), "nca", "opd").empty


def test_a_trained_arm_with_one_seed_meets_that_seed_only():
    both = pd.concat(
        [rows("opd", 1, [True, False]), rows("nca", 1, [True, True]), rows("nca", 2, [False, False])]
    )
    for pair, sign in ((("nca", "opd"), 1), (("opd", "nca"), -1)):
        table = new_instruction_difference(both, *pair)
        assert table.dropna(subset="seed").set_index("seed")["estimate"].to_dict() == {1: sign * 0.5}
        assert set(table["interval"]) == {"within"}


def test_an_arm_with_one_seed_meets_every_seed():
    both = pd.concat(
        [rows("base", 0, [True, False]), rows("nca", 1, [True, True]), rows("nca", 2, [False, False])]
    )
    table = new_instruction_difference(both, "nca", "base")
    assert table.dropna(subset="seed").set_index("seed")["estimate"].to_dict() == {1: 0.5, 2: -0.5}
