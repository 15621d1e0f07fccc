"""How often a pattern stands in the answers: counted by hand, with the intervals that every metric has."""

import numpy as np
import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tables.marks import marks


def answers(told: dict[int, list[tuple[str, str]]]) -> pd.DataFrame:
    """``seed → [(answer without, answer with the context), …]``; as many tokens as words."""
    rows = [
        {
            "arm": "opd",
            "seed": seed,
            "step": 3,
            "split": "test",
            "example_id": f"e{i}",
            "cluster": f"c{i}",
            "sample": 0,
            "view": view,
            "control": control,
            "response": text,
            "n_tokens": len(text.split()),
            "outcome": "right",
        }
        for seed, pairs in told.items()
        for i, pair in enumerate(pairs)
        for (view, control), text in zip((("no_context", "none"), ("with_context", "exact")), pair, strict=True)
    ]
    return pd.DataFrame(rows)


def values(table: pd.DataFrame, seed: int | None) -> dict[str, float]:
    rows = table[table["seed"].isna() if seed is None else table["seed"] == seed]
    return dict(zip(rows["metric"], rows["estimate"], strict=True))


def test_counted_by_hand():
    told = {
        0: [("a Answer: b", "a Answer: b Answer: c"), ("Answer: b", "Answer: b and more of it")],
        1: [("none", "Answer: x"), ("Answer: y", "Answer: y")],
    }
    table = marks(answers(told), "Answer:")
    assert values(table, 0) == {
        "marks_x": 1,
        "marks_xc": 1.5,
        "marks_times": 1.5,
        "len_x": 2.5,
        "len_xc": 5.5,
        "len_times": 11 / 5,
    }
    assert values(table, 1) == pytest.approx(
        {"marks_x": 0.5, "marks_xc": 1, "marks_times": 2, "len_x": 1.5, "len_xc": 2, "len_times": 4 / 3}
    )
    over = table[table["seed"].isna()].set_index("metric")
    assert values(table, None)["marks_times"] == pytest.approx((1.5 + 2) / 2)  # each run counts once
    assert set(over["interval"]) == {"across"}
    assert (over["n"] == 4).all()
    half = 12.7062 * np.std([1.5, 2], ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
    assert over.loc["marks_times", "high"] == pytest.approx(1.75 + half, rel=1e-4)
    assert over.loc["marks_times", "low"] == 0  # what is counted is never below 0


def test_over_clusters_of_one_run_and_where_nothing_is_counted():
    told = {0: [("Answer: b", "Answer: b Answer: c")] * 3 + [("Answer: b", "b")] * 5}
    table = marks(answers(told), "Answer:", interval="within").set_index("metric")
    assert set(table["interval"]) == {"within"}
    assert values(marks(answers(told), "Answer:"), 0)["marks_times"] == 6 / 8
    never = marks(answers(told), "Nowhere")
    assert values(never, 0)["marks_x"] == 0
    assert np.isnan(values(never, 0)["marks_times"])


def test_only_the_last_step_and_the_control_that_is_asked_for():
    rows = answers({0: [("Answer: b", "Answer: c")]})
    other = rows[rows["view"] == "with_context"].assign(control="mismatched", response="x")
    early = rows.assign(step=1, response="Answer: Answer: Answer:")
    table = marks(pd.concat([rows, other, early]), "Answer:")
    assert values(table, 0)["marks_xc"] == 1
    assert values(marks(pd.concat([rows, other, early]), "Answer:", control="mismatched"), 0)["marks_xc"] == 0


@pytest.mark.slow
def test_what_is_no_pattern_and_one_that_never_ends():
    rows = answers({0: [("a" * 60 + "b", "c")]})
    with pytest.raises(UserError, match="no regular expression"):
        marks(rows, "(")
    with pytest.raises(UserError, match="backtracks"):
        marks(rows, "^(a|aa)+$")
