"""The verdict's rows against counting by hand, and how they read."""

import pandas as pd
import pytest

from cr_interp.tables.verdict_rows import (
    chips,
    common_open,
    is_deafer,
    is_keyless,
    keyless_verdict,
    price,
    verdict_rows,
)


def answers(arm: str, seed: int, x: str, xc: str, irrelevant: str = "", obeys: str = "", truncated: bool = False):
    """A letter an example: ``r`` right, anything else wrong; ``obeys``: ``y`` or not."""
    rows = []
    bad = "truncated" if truncated else "wrong"
    views = [("no_context", "none", x, ""), ("with_context", "exact", xc, "")]
    views += [("with_context", "irrelevant", irrelevant, "")] if irrelevant else []
    views += [("with_context", "mismatched", obeys, obeys)] if obeys else []
    for view, control, letters, heard in views:
        for i, letter in enumerate(letters):
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "step": 1,
                    "split": "test",
                    "example_id": f"e{i:02d}",
                    "view": view,
                    "control": control,
                    "sample": 0,
                    "prompt": f"p{i}",
                    "response": letter,
                    "n_tokens": 3,
                    "outcome": "right" if letter == "r" else bad,
                    "obeys_new": heard[i] == "y" if heard else None,
                }
            )
    return pd.DataFrame(rows)


def study(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


HALF = "r" * 10 + "w" * 10


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Of 20 right answers opd loses 10 and nca none, in each of three seeds; nca hears half of what opd hears."""
    parts = []
    for seed in range(3):
        parts.append(answers("opd", seed, "r" * 20, HALF, "r" * 20, "y" * 20))
        parts.append(answers("nca", seed, "r" * 20, "r" * 20, "r" * 19 + "w", "y" * 10 + "n" * 10))
    return verdict_rows(study(*parts), "nca", "opd").set_index("metric", drop=False)


def test_values_differences_and_readings(rows):
    assert rows.loc["harm", ["baseline", "arm", "estimate"]].tolist() == [0.5, 0.0, -0.5]
    assert rows.loc["acc_xc", ["baseline", "arm", "estimate"]].tolist() == [0.5, 1.0, 0.5]
    assert rows.loc["new_instruction", ["baseline", "arm", "estimate"]].tolist() == [1.0, 0.5, -0.5]
    assert rows.loc["harm_irrelevant", "arm"] == pytest.approx(0.05)
    assert rows["reading"].to_dict() == {
        "harm": "better",
        "harm_common": "better",
        "acc_x": "open",
        "acc_xc": "better",
        "fidelity": "not measured",
        "invariance": "not measured",
        "new_instruction": "worse",
        "harm_irrelevant": "open",
    }
    assert is_deafer(rows)


def test_the_irrelevant_context_is_not_said_twice():
    table = study(answers("opd", 0, "rr", "rw", "rw"), answers("nca", 0, "rr", "rr", "rr"))
    assert "harm_irrelevant" in set(verdict_rows(table, "nca", "opd")["metric"])
    assert "harm_irrelevant" not in set(verdict_rows(table, "nca", "opd", "irrelevant")["metric"])


def test_divergences_are_means_over_examples_and_paired():
    table = study(answers("opd", 0, "rr" * 6, "rw" * 6), answers("nca", 0, "rr" * 6, "rr" * 6))
    found = [
        {
            "arm": arm,
            "seed": 0,
            "step": 1,
            "example_id": f"e{i:02d}",
            "cluster": f"c{i}",
            "control": control,
            "fidelity": level if control == "exact" else float("nan"),
            "invariance": level * (1 + i),
        }
        for arm, level in (("opd", 0.4), ("nca", 0.1))
        for control in ("exact", "irrelevant")
        for i in range(12)
    ]
    rows = verdict_rows(table, "nca", "opd", divergence=pd.DataFrame(found)).set_index("metric")
    assert rows.loc["fidelity", ["baseline", "arm", "estimate"]].tolist() == pytest.approx([0.4, 0.1, -0.3])
    assert rows.loc["invariance", "estimate"] == pytest.approx(-0.3 * 6.5)
    assert rows.loc["invariance", "unit"] == "nats"
    assert rows.loc["fidelity", "reading"] == rows.loc["invariance", "reading"] == "better"


def test_an_arm_that_is_never_right_has_no_harm():
    table = study(answers("opd", 0, "ww", "ww"), answers("nca", 0, "rr", "rr"))
    rows = verdict_rows(table, "nca", "opd").set_index("metric")
    assert rows.loc["harm", "reading"] == "undefined"
    assert not is_deafer(rows.reset_index())


def test_chips_say_what_everything_stands_on():
    table = study(answers("opd", 0, "r" * 20, "r" * 19 + "w"), answers("nca", 0, "r" * 20, "r" * 20))
    assert chips(table, "nca", "opd") == ["1 seed", "1 flip in all"]
    many = study(
        *(answers("opd", seed, "r" * 20, HALF, truncated=True) for seed in (0, 1)),
        *(answers("nca", seed, "r" * 20, "r" * 20) for seed in (0, 1)),
    )
    assert chips(many, "nca", "opd") == ["2 seeds", "50 % truncated (opd, with the context)"]


def test_the_base_model_alone_is_no_seed_of_a_training():
    table = study(answers("base", 0, "rr", "rw"), *(answers("nca", seed, "rr", "rr") for seed in (0, 1)))
    assert chips(table, "nca", "base")[0] == "2 seeds"


def test_without_a_key_answers_are_only_the_same_or_not():
    parts = [answers("opd", seed, "r" * 20, HALF) for seed in range(3)] + [
        answers("nca", seed, "r" * 20, "r" * 20) for seed in range(3)
    ]
    table = study(*parts).assign(outcome="ungraded")
    rows = verdict_rows(table, "nca", "opd").set_index("metric", drop=False)
    assert list(rows["metric"]) == ["changed", "fidelity", "invariance", "new_instruction"]
    assert rows.loc["changed", ["baseline", "arm", "estimate"]].tolist() == [0.5, 0.0, -0.5]
    assert is_keyless(rows)
    word, said = keyless_verdict(rows, "nca", "opd")
    assert word == "yes"
    assert "not Harm" in said
    assert chips(table, "nca", "opd") == ["3 seeds"]


def test_with_a_key_nothing_is_said_of_mere_change(rows):
    assert "changed" not in set(rows["metric"])
    assert not is_keyless(rows)


def paid(**ends: tuple[str, float, float, str]) -> pd.DataFrame:
    """metric → which end is better, the interval, the reading."""
    return pd.DataFrame(
        {"metric": name, "unit": "%", "better": better, "low": low, "high": high, "reading": reading}
        for name, (better, low, high, reading) in ends.items()
    )


def test_the_price_says_what_is_worse_what_is_not_excluded_and_what_is_not_lost():
    rows = paid(
        harm=("less", -0.4, -0.2, "better"),
        acc_x=("more", -0.01, 0.2, "open"),
        acc_xc=("more", -0.3, -0.1, "worse"),
        harm_irrelevant=("less", -0.1, 0.05, "open"),
    )
    assert price(rows, "nca") == (
        "nca is worse in Acc_xc. A loss of 2 points or more is not excluded in Harm behind an irrelevant context. "
        "It is excluded in Acc_x."
    )
    assert price(rows.query("metric == 'acc_x'"), "nca") == "No loss of 2 points or more in Acc_x."
    assert price(rows.query("metric == 'harm_irrelevant'"), "nca").startswith(
        "No loss is shown, but one of 2 points or more"
    )
    assert "Nothing else was measured" in price(rows.query("metric == 'harm'"), "nca")


def test_less_harm_that_may_be_a_matter_of_other_prompts_is_told():
    rows = paid(harm=("less", -0.4, -0.2, "better"), harm_common=("less", -0.4, 0.1, "open"))
    assert common_open(rows)
    assert not common_open(rows.assign(reading="better"))
    assert not common_open(rows.query("metric == 'harm'"))
