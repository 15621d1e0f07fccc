"""The drift beside its controls."""

import math

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tables.controls import control_table, markdown_controls, times_as_far, worst
from cr_interp.tables.drift import layer_table


def drift(measure: str = "cosine") -> pd.DataFrame:
    values = {"exact": (0.9, 0.8), "repeat": (1.0, 1.0), "floor": (0.6, 0.75)}
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "step": 9,
                "site": "resid_post",
                "layer": layer,
                "measure": measure,
                "control": control,
                "estimate": values[control][layer] + (0.02 if seed else -0.02) * (control == "exact"),
            }
            for arm in ("opd", "base")
            for seed in (0, 1)
            for layer in (0, 1)
            for control in values
        ]
    )


def test_the_movement_is_relative_to_that_between_unrelated_tokens():
    table = control_table(drift())
    assert list(table["arm"]) == ["base", "base", "opd", "opd"]
    assert table["exact"].tolist() == pytest.approx([0.9, 0.8] * 2)
    # Half squared distances of 0.1 and 0.4: one is √(0.1/0.4) = half as far as the other.
    assert table["relative"].tolist() == pytest.approx([0.5, 0.8**0.5] * 2)
    assert worst(table)["layer"].tolist() == [1, 1]
    assert "| base | 1 | 0.800 | 1.000 | 0.750 | 0.894 |" in markdown_controls(table)


def test_times_as_far_is_said_of_distances():
    """Two unit vectors at 60° and at 120°: cosines ½ and −½, their tips 1 and √3 apart, which is √3 times as far."""
    tips = {60: 1.0, 120: 3**0.5}
    apart = {angle: 2 * math.sin(math.radians(angle / 2)) for angle in tips}
    assert apart == pytest.approx(tips)
    found = times_as_far(pd.Series([-0.5]), pd.Series([0.5]), "cosine")
    assert found.tolist() == pytest.approx([3**0.5])
    assert times_as_far(pd.Series([tips[120]]), pd.Series([tips[60]]), "relative_l2").tolist() == pytest.approx(
        [3**0.5]
    )
    assert times_as_far(pd.Series([0.7]), pd.Series([0.4]), "knn_overlap").tolist() == pytest.approx([0.5])
    assert times_as_far(pd.Series([0.7]), pd.Series([1.0]), "cosine").isna().all(), "from no distance at all"


def test_relative_l2_stands_beside():
    table = control_table(pd.concat([drift(), drift("relative_l2")]))
    assert table["relative_l2"].tolist() == pytest.approx([0.9 / 0.6, 0.8 / 0.75] * 2)
    assert "relative_l2" not in control_table(drift())


def test_the_embedding_is_what_the_figures_say_it_is():
    """Only what the first block reads: the inputs of later blocks are the outputs before them."""
    outputs = drift()
    first = outputs[outputs["layer"] == 0].assign(site="resid_pre", estimate=0.99)
    later = outputs[outputs["layer"] == 1].assign(site="resid_pre", estimate=0.1)
    table = control_table(pd.concat([outputs, first, later]))
    assert table.loc[table["layer"] == -1, "exact"].tolist() == pytest.approx([0.99, 0.99])
    drawn = layer_table(
        pd.concat([outputs, first, later]).assign(low=0, high=1, n_tokens=1, n_examples=1), "cosine"
    )
    assert drawn.loc[drawn["layer"] == "emb", "estimate"].tolist() == pytest.approx([0.99, 0.99])


def test_a_movement_is_ideal_at_zero():
    table = control_table(drift("relative_l2"), "relative_l2")
    assert table["relative"].tolist() == pytest.approx([0.9 / 0.6, 0.8 / 0.75] * 2)


def test_only_the_last_step_counts():
    early = drift().assign(step=1, estimate=0.0)
    assert control_table(pd.concat([early, drift()])).equals(control_table(drift()))


def test_what_is_not_there_is_said():
    with pytest.raises(UserError, match="measure"):
        control_table(drift(), "cosin")
    with pytest.raises(UserError, match="--again"):
        worst(control_table(drift().query("control != 'floor'")))


def test_relative_rows_are_multiples_of_the_floor_at_the_same_place():
    from cr_interp.tables.controls import relative_rows

    given = pd.DataFrame(
        {
            "arm": "opd",
            "seed": 0,
            "step": 1,
            "site": "resid_post",
            "layer": [0, 0, 0, 1, 1],
            "measure": "cosine",
            "control": ["exact", "floor", "mismatched", "exact", "repeat"],
            "estimate": [0.91, 0.64, 0.64, 0.9, 1.0],
            "low": [0.84, 0.6, 0.6, 0.8, 1.0],
            "high": [0.96, 0.7, 0.7, 0.95, 1.0],
            "n_tokens": 9,
            "n_examples": 3,
        }
    )
    rows = relative_rows(given).set_index("control")
    assert set(rows["layer"]) == {0}  # no floor, no multiple
    assert rows.loc["exact", "estimate"] == pytest.approx((0.09 / 0.36) ** 0.5)
    assert rows.loc["exact", "low"] == pytest.approx((0.04 / 0.36) ** 0.5)
    assert rows.loc["exact", "high"] == pytest.approx((0.16 / 0.36) ** 0.5)
    assert rows.loc["floor", "estimate"] == rows.loc["mismatched", "estimate"] == 1
    assert pd.isna(rows.loc["floor", "low"])
    assert set(rows["measure"]) == {"relative"}
