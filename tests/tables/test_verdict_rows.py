"""The verdict's rows against counting by hand, and how they read."""

import pandas as pd
import pytest

from cr_interp.tables.divergence import divergence_metrics
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


def test_divergences_are_means_over_tokens_and_paired():
    table = study(answers("opd", 0, "rr" * 6, "rw" * 6), answers("nca", 0, "rr" * 6, "rr" * 6))
    found = [
        {
            "arm": arm,
            "seed": 0,
            "step": 1,
            "example_id": f"e{i:02d}",
            "cluster": f"c{i}",
            "n_tokens": 3,
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


def nats(arm: str, seed: int, values: list[float], lengths: list[int]) -> list[dict]:
    """Rows of ``divergence``: of each answer its mean and its length; invariance is ten times fidelity."""
    return [
        {"arm": arm, "seed": seed, "step": 1, "example_id": f"e{i:02d}", "cluster": f"c{i}", "n_tokens": length}
        | {"control": "exact", "fidelity": each, "invariance": 10 * each}
        for i, (each, length) in enumerate(zip(values, lengths, strict=True))
    ]


def test_a_long_answer_counts_by_its_length_on_the_card_as_in_the_table():
    """Lengths differ between answers, arms and seeds: a mean over answers, and one over the tokens of all seeds, are others."""
    opd = {0: ([0.1, 0.5, 0.9], [1, 2, 7]), 1: ([0.2, 0.4, 0.3], [9, 1, 2])}
    nca = {0: ([0.3, 0.1, 0.0], [4, 4, 1]), 1: ([0.1, 0.1, 0.7], [1, 1, 8])}
    table = study(*(answers(arm, seed, "rrr", "rrr") for arm in ("opd", "nca") for seed in (0, 1)))
    rows = [
        row
        for arm, runs in (("opd", opd), ("nca", nca))
        for seed, run in runs.items()
        for row in nats(arm, seed, *run)
    ]
    divergence = pd.DataFrame(rows)
    card = verdict_rows(table, "nca", "opd", divergence=divergence).set_index("metric")
    printed = divergence_metrics(divergence)
    printed = printed[printed["seed"].isna()].set_index(["arm", "metric"])["estimate"]
    # Tokens · mean, summed by hand; a run counts once.
    by_hand = {
        "opd": ((0.1 + 1.0 + 6.3) / 10 + (1.8 + 0.4 + 0.6) / 12) / 2,
        "nca": ((1.2 + 0.4) / 9 + 5.8 / 10) / 2,
    }
    for metric, factor in (("fidelity", 1), ("invariance", 10)):
        for column, arm in (("baseline", "opd"), ("arm", "nca")):
            assert card.loc[metric, column] == pytest.approx(factor * by_hand[arm])
            assert printed[arm, metric] == pytest.approx(factor * by_hand[arm])
        assert card.loc[metric, "estimate"] == pytest.approx(factor * (by_hand["nca"] - by_hand["opd"]))
    # Student's t over two seeds' differences: mean ± 12.706 · SD / √2, and SD / √2 is half the distance of two numbers.
    ends = [1.6 / 9 - 7.4 / 10, 5.8 / 10 - 2.8 / 12]
    reach = 12.7062 * abs(ends[0] - ends[1]) / 2
    assert card.loc["fidelity", "interval"] == "across"
    assert card.loc["fidelity", "high"] == pytest.approx(sum(ends) / 2 + reach, rel=1e-4)
    assert card.loc["fidelity", "n"] == 6


def test_of_an_example_that_one_arm_lacks_nothing_is_paired():
    table = study(answers("opd", 0, "rrr", "rrr"), answers("nca", 0, "rrr", "rrr"))
    divergence = pd.DataFrame(nats("opd", 0, [1.0, 2.0, 9.0], [1, 3, 5]) + nats("nca", 0, [0.5, 0.5], [2, 2]))
    row = verdict_rows(table, "nca", "opd", divergence=divergence).set_index("metric").loc["fidelity"]
    assert row["baseline"] == pytest.approx((1 + 6 + 45) / 9), (
        "each arm's own value is that of all its answers, as in the table"
    )
    assert row["estimate"] == pytest.approx(0.5 - 7 / 4)
    assert row["n"] == 2


def test_a_trained_arm_that_was_run_once_meets_its_own_seed_only():
    """Its other runs are not known, so no interval over seeds may treat it as if it had them; only ``base`` has none."""
    parts = [answers("opd", 0, "r" * 20, HALF, obeys="y" * 20)]
    parts += [answers("nca", seed, "r" * 20, "r" * 20, obeys="y" * 10 + "n" * 10) for seed in range(3)]
    divergence = pd.DataFrame(
        nats("opd", 0, [0.5] * 12, [2] * 12)
        + [row for seed in range(3) for row in nats("nca", seed, [0.1 * (1 + seed)] * 12, [2] * 12)]
    )
    rows = verdict_rows(study(*parts), "nca", "opd", divergence=divergence).set_index("metric")
    for metric in ("harm", "harm_common", "acc_xc", "new_instruction", "fidelity", "invariance"):
        assert rows.loc[metric, "interval"] == "within", metric
    assert rows.loc["harm", "n"] == 20
    assert rows.loc["fidelity", "estimate"] == pytest.approx(0.1 - 0.5)
    assert chips(study(*parts), "nca", "opd")[0] == "1 seed in common"
    as_base = study(*(part.replace({"arm": {"opd": "base"}}) for part in parts))
    assert verdict_rows(as_base, "nca", "base").set_index("metric").loc["harm", "interval"] == "across"
    assert chips(as_base, "nca", "base")[0] == "3 seeds"


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
