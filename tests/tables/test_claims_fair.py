"""Counting fairly: of the settings where there was something to repair, what became of them."""

import pandas as pd

from cr_interp.figures.suite import by_effect, difference_forest
from cr_interp.tables.claims import count_fairly, said_fairly, said_price


def compared(*rows: tuple) -> pd.DataFrame:
    """Setting, difference with its interval, lower end of the baseline's Harm."""
    return pd.DataFrame(
        {
            "setting": setting,
            "metric": "harm",
            "estimate": estimate,
            "low": low,
            "high": high,
            "baseline_low": base,
            "baseline_floor": 0.0,
            "interval": "across",
            "n": 10,
            "seeds": 3,
        }
        for setting, estimate, low, high, base in rows
    )


TABLE = compared(
    ("repaired", -0.3, -0.4, -0.2, 0.1),
    ("open", -0.1, -0.3, 0.1, 0.05),
    ("worsened", 0.2, 0.1, 0.3, 0.02),
    ("added", 0.1, 0.05, 0.2, 0.0),
    ("fine", 0.0, -0.1, 0.1, 0.0),
    ("undefined", float("nan"), float("nan"), float("nan"), float("nan")),
)


def test_harmed_ones_add_up_and_the_undefined_is_not_asked():
    fair = count_fairly(TABLE)
    assert fair.asked == ("repaired", "open", "worsened", "added", "fine")
    assert fair.harmed == ("repaired", "open", "worsened")
    assert (fair.repaired, fair.left_open, fair.worsened) == (("repaired",), ("open",), ("worsened",))
    assert fair.newly_harmed == ("added",)
    assert said_fairly(fair, "nca", "opd") == (
        "opd is harmed in 3 of 5 settings; nca repairs 1, leaves 1 open and worsens 1. In the others it adds Harm in 1."
    )


def test_a_floor_of_sampled_decoding_is_no_harm():
    fair = count_fairly(TABLE.assign(baseline_floor=0.07))
    assert fair.harmed == ("repaired",)


def test_nothing_to_repair_is_said():
    fair = count_fairly(TABLE.assign(baseline_low=0.0))
    assert "nothing to repair" in said_fairly(fair, "nca", "opd")
    assert fair.newly_harmed == ("worsened", "added")


def test_the_forest_is_sorted_by_effect_and_coloured_where_it_is_sure():
    assert list(by_effect(TABLE)["setting"]) == ["repaired", "open", "fine", "added", "worsened"]
    figure = difference_forest(TABLE)
    assert list(figure.layout.yaxis.ticktext) == list(by_effect(TABLE)["setting"])
    by_name = {trace.name: list(trace.y) for trace in figure.data}
    assert by_name == {"less under nca": [0], "more under nca": [3, 4], "open": [1, 2]}
    assert "n = 10 pairs" in figure.layout.meta["caption"]


def test_what_is_paid_is_counted_by_the_intervals():
    rows = compared(
        ("a", -0.3, -0.4, -0.2, 0.0), ("b", 0.0, -0.02, 0.1, 0.0), ("c", -0.1, -0.3, 0.1, 0.0)
    ).assign(metric="acc_x")
    assert said_price(rows) == "Acc_x is lower in 1 of 3 (a), not lower by 2 points in 1, and open in 1."
    assert said_price(TABLE) == "No accuracy can be compared."
