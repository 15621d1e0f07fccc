"""What intervals are called is read off the table that is shown."""

import pandas as pd

from cr_interp.tables.interval_words import ACROSS, WITHIN, said_intervals


def kinds(**arms: str) -> pd.DataFrame:
    """``opd="aw"``: an across and a within row."""
    names = {"a": "across", "w": "within"}
    rows = [{"arm": arm, "interval": names[letter]} for arm, letters in arms.items() for letter in letters]
    return pd.DataFrame(rows)


def test_one_kind_is_named_and_one_seed_is_said():
    assert said_intervals(kinds(opd="aa", nca="a")) == ACROSS
    assert said_intervals(kinds(opd="w", base="w")) == f"{WITHIN}, one seed"
    assert said_intervals(kinds(opd="w", base="w"), wanted="within") == WITHIN


def test_paired_differences_have_no_arm():
    table = kinds(nca="aw").drop(columns="arm")
    assert said_intervals(table) == said_intervals(kinds(nca="aw"))
    assert said_intervals(table[table["interval"] == "across"]) == ACROSS


def test_arms_with_one_seed_are_named():
    assert said_intervals(kinds(nca="a", base="w", mine="w")) == f"{ACROSS}; of base, mine, one seed: {WITHIN}"


def test_a_number_that_one_seed_alone_has_is_not_passed_over():
    assert said_intervals(kinds(nca="aw")) == f"{ACROSS}; what one seed alone has a value of: {WITHIN}"
    assert said_intervals(kinds(nca="aw", base="w")).endswith(
        f"{WITHIN}; what one seed alone has a value of likewise"
    )
