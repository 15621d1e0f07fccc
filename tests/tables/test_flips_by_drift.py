"""Does drift tell flips: against Mann and Whitney's U, and on states planted so that the answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cr_interp.tables.flips_by_drift import auroc, flips_by_drift


def tables(moved, harmed, clusters=None):
    names = [f"e{i}" for i in range(len(moved))]
    run = {"arm": "opd", "seed": 0, "step": 100}
    answers = []
    for i, name in enumerate(names):
        common = {**run, "example_id": name, "sample": 0, "cluster": clusters[i] if clusters else name}
        answers.append({**common, "view": "no_context", "control": "none", "outcome": "right"})
        outcome = "wrong" if harmed[i] else "right"
        answers.append({**common, "view": "with_context", "control": "exact", "outcome": outcome})
    answers.append({**answers[0], "example_id": "never", "outcome": "wrong"})
    tokens = [
        {
            **run,
            "example_id": name,
            "position": p,
            "site": "resid_post",
            "layer": layer,
            "cosine": 1 - value + (0.01, -0.01)[p],
            "relative_l2": 0.0,
            "kl": np.nan,
        }
        for layer in (0, 1)
        for name, value in zip(names, moved if layer else np.zeros(len(moved)), strict=True)
        for p in (0, 1)
    ]
    return pd.DataFrame(tokens), pd.DataFrame(answers)


def test_the_area_is_mann_and_whitneys():
    rng = np.random.default_rng(0)
    values, flipped = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.3
    u = stats.mannwhitneyu(values[flipped], values[~flipped]).statistic
    assert auroc(values, flipped) == pytest.approx(u / (flipped.sum() * (~flipped).sum()))


def test_a_layer_that_tells_and_one_that_does_not():
    harmed = [i % 3 == 0 for i in range(30)]
    found = flips_by_drift(*tables([0.5 if h else 0.1 for h in harmed], harmed)).set_index("layer")
    assert found.loc[1, "estimate"] == 1.0
    assert found.loc[0, "estimate"] == pytest.approx(0.5, abs=0.01)
    assert (found.loc[1, "n_flipped"], found.loc[1, "n_kept"]) == (10, 20)


def test_below_a_half_the_harmed_move_less():
    harmed = [i < 5 for i in range(20)]
    found = flips_by_drift(*tables([0.1 + 0.01 * i for i in range(20)], harmed)).set_index("layer")
    assert found.loc[1, "estimate"] == 0.0


def test_the_interval_draws_clusters():
    rng = np.random.default_rng(1)
    values, harmed = rng.normal(0.5, 0.2, 30), list(rng.random(30) < 0.4)
    one = flips_by_drift(*tables(values, harmed)).set_index("layer").loc[1]
    twice = tables(np.repeat(values, 4), np.repeat(harmed, 4), [f"c{i}" for i in range(30) for _ in range(4)])
    many = flips_by_drift(*twice).set_index("layer").loc[1]
    assert many["low"] == pytest.approx(one["low"])
    assert many["high"] == pytest.approx(one["high"])
    assert one["low"] < one["estimate"] < one["high"]


def test_a_run_without_flips_has_no_rows():
    assert flips_by_drift(*tables([0.1, 0.2], [False, False])).empty


def with_classes(moved, harmed, classes):
    tokens, answers = tables(moved, harmed)
    of = dict(zip([f"e{i}" for i in range(len(moved))], classes, strict=True))
    return tokens, answers.assign(response=answers["example_id"].map(of).fillna("?"))


def test_drift_that_only_tells_the_class_tells_nothing_within_it():
    """All of class "b" move far and most flip: over all, drift tells flips; within a class it cannot."""
    classes = ["a"] * 20 + ["b"] * 20
    moved = [0.1] * 20 + [0.5] * 20
    harmed = [i % 10 == 0 for i in range(20)] + [i % 10 != 0 for i in range(20)]
    row = flips_by_drift(*with_classes(moved, harmed, classes)).set_index("layer").loc[1]
    assert row["estimate"] == pytest.approx((18 * 18 + 0.5 * (2 * 18 + 18 * 2)) / (20 * 20))
    assert row["within_class"] == pytest.approx(0.5, abs=1e-6)
    assert row["within_low"] <= 0.5 <= row["within_high"]


def test_within_classes_it_is_the_pairs_of_one_class():
    rng = np.random.default_rng(3)
    classes, harmed = list(rng.choice(["yes", "no"], 40)), list(rng.random(40) < 0.4)
    moved = rng.normal(0.5, 0.1, 40)
    row = flips_by_drift(*with_classes(moved, harmed, classes)).set_index("layer").loc[1]
    wins = pairs = 0
    for i in range(40):
        for j in range(40):
            if harmed[i] and not harmed[j] and classes[i] == classes[j]:
                pairs += 1
                wins += moved[i] > moved[j]
    assert row["within_class"] == pytest.approx(wins / pairs)


def test_a_task_whose_answers_all_differ_has_no_classes():
    harmed = [i % 3 == 0 for i in range(30)]
    found = flips_by_drift(*with_classes(np.linspace(0, 1, 30), harmed, [f"w{i}" for i in range(30)]))
    assert found["within_class"].isna().all()


def test_all_told_apart_has_an_interval_all_the_same():
    harmed = [i % 3 == 0 for i in range(30)]
    row = flips_by_drift(*tables([0.5 if h else 0.1 for h in harmed], harmed)).set_index("layer").loc[1]
    assert row["high"] == 1.0
    assert row["low"] == pytest.approx(0.025 ** (1 / 30))  # Clopper and Pearson's, all of 30
