"""The drift beside its controls."""

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tables.controls import control_table, markdown_controls, worst


def drift(measure: str = "cosine") -> pd.DataFrame:
    values = {"exact": (0.9, 0.8), "repeat": (1.0, 1.0), "floor": (0.6, 0.75)}
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "step": 9, "site": "resid_post", "layer": layer, "measure": measure,
             "control": control, "estimate": values[control][layer] + (0.02 if seed else -0.02) * (control == "exact")}
            for arm in ("opd", "base") for seed in (0, 1) for layer in (0, 1) for control in values
        ]
    )  # fmt: skip


def test_the_movement_is_relative_to_that_between_unrelated_tokens():
    table = control_table(drift())
    assert list(table["arm"]) == ["base", "base", "opd", "opd"]
    assert table["exact"].tolist() == pytest.approx([0.9, 0.8] * 2)
    assert table["relative"].tolist() == pytest.approx([0.1 / 0.4, 0.2 / 0.25] * 2)
    assert worst(table)["layer"].tolist() == [1, 1]
    assert "| base | 1 | 0.800 | 1.000 | 0.750 | 0.800 |" in markdown_controls(table)


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
