"""Numbers of earlier tables are called what they are; newer ones bring more."""

import pandas as pd

from cr_interp.tables.methods import formerly, with_minimum


def test_an_earlier_table_says_so_and_a_new_one_does_not():
    old = pd.DataFrame({"measure": ["shift_share", "cosine"], "estimate": [0.1, 0.9]})
    assert "not debiased" in str(formerly(old, "shift_share"))
    assert formerly(old, "cosine") is None
    assert formerly(old, "cka_examples") is None, "no such rows"
    new = old.assign(method=["debiased, pairs of distinct units", "mean over tokens"])
    assert formerly(new, "shift_share") is None
    examples = old.assign(measure="cka_examples")
    assert "shortest response" in str(formerly(examples, "cka_examples"))
    both = pd.concat([old, new])
    assert "earlier way" in str(formerly(both, "shift_share"))


def test_the_interval_of_a_minimum_where_it_was_measured():
    rows = pd.DataFrame(
        {"low": [0.1, 0.2], "high": [0.3, 0.4], "min_low": [0.05, None], "min_high": [0.35, None]}
    )
    found = with_minimum(rows)
    assert found["low"].tolist() == [0.05, 0.2]
    assert found["high"].tolist() == [0.35, 0.4]
    before = rows[["low", "high"]]
    assert with_minimum(before).equals(before)
