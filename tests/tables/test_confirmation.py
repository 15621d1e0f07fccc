"""The verdict on comparisons that were written by hand."""

import pandas as pd
import pytest

from cr_interp.tables.confirmation import FAILURE, INCONCLUSIVE, SUCCESS, criteria, scaled, verdict

RULE = {"lower": 10, "holm": 8, "not_lower": 10, "common": 10, "of": 12, "failure": 6, "margin": 0.02}


def compared(harm, p_holm, acc_low, common):
    """A row per setting and metric."""
    rows = []
    for i, (h, p, a, c) in enumerate(zip(harm, p_holm, acc_low, common, strict=True)):
        rows += [
            {"setting": f"s{i}", "metric": "harm", "estimate": h, "low": h - 0.1, "p_holm": p},
            {"setting": f"s{i}", "metric": "harm_common", "estimate": c, "low": c - 0.1, "p_holm": 1.0},
            {"setting": f"s{i}", "metric": "acc_x", "estimate": 0.0, "low": a, "p_holm": 1.0},
        ]
    return pd.DataFrame(rows)


def test_all_four_make_a_success():
    found = criteria(
        compared(
            [-0.1] * 10 + [0.0, 0.1], [0.01] * 8 + [0.2] * 4, [-0.01] * 10 + [-0.05] * 2, [-0.1] * 10 + [0.1] * 2
        ),
        RULE,
    )
    assert found["k"].tolist() == [10, 8, 10, 10]
    assert found["holds"].all()
    assert verdict(found, RULE) == SUCCESS


@pytest.mark.parametrize("broken", range(4))
def test_one_that_fails_leaves_it_open(broken):
    given = [[-0.1] * 12, [0.01] * 12, [-0.01] * 12, [-0.1] * 12]
    bad = [0.1, 0.9, -0.5, 0.1][broken]
    given[broken] = [bad] * 5 + given[broken][5:]
    found = criteria(compared(*given), RULE)
    assert not found["holds"].iloc[broken]
    assert verdict(found, RULE) == INCONCLUSIVE


def test_half_or_fewer_is_a_failure_and_equal_is_not_lower():
    found = criteria(compared([-0.1] * 6 + [0.0] * 6, [0.01] * 12, [0.0] * 12, [-0.1] * 12), RULE)
    assert verdict(found, RULE) == FAILURE
    seven = criteria(compared([-0.1] * 7 + [0.0] * 5, [0.01] * 12, [0.0] * 12, [-0.1] * 12), RULE)
    assert verdict(seven, RULE) == INCONCLUSIVE


def test_fewer_settings_scale_the_criteria_and_none_shows_nothing():
    assert [scaled(10, 12, k, up=True) for k in (1, 5, 7, 12)] == [1, 5, 6, 10]
    assert [scaled(6, 12, k, up=False) for k in (1, 5, 7, 12)] == [0, 2, 3, 6]
    assert scaled(10, 12, 6, up=True) == 5  # exact, whatever 10 / 12 is in binary
    found = criteria(compared([-0.1] * 6, [0.01] * 6, [0.0] * 6, [-0.1] * 6), RULE)
    assert verdict(found, RULE) == SUCCESS
    nothing = criteria(
        compared([], [], [], []).reindex(columns=["setting", "metric", "estimate", "low", "p_holm"]), RULE
    )
    assert verdict(nothing, RULE) == INCONCLUSIVE


def test_a_setting_without_an_answer_does_not_count():
    table = compared([-0.1] * 12, [0.01] * 12, [0.0] * 12, [float("nan")] * 12)
    found = criteria(table, RULE)
    assert found["k"].tolist() == [12, 12, 12, 0]
    assert verdict(found, RULE) == INCONCLUSIVE
