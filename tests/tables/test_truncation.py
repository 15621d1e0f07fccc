"""An accuracy says how many of its answers were cut at the length limit, in the terminal, in Markdown and as JSON."""

import pandas as pd
import pytest
from planted import printed
from synthetic import make_study

from cr_interp.report.study import markdown_table, metric_table, rich_table
from cr_interp.study.study import Study
from cr_interp.tables.behaviour import metrics_json
from cr_interp.tables.truncation import truncation, truncation_notes


@pytest.fixture
def study(tmp_path) -> Study:
    """Of `opd`'s two seeds all answers without the context are cut, of `nca`'s a quarter with it."""
    study = make_study(tmp_path / "s", arms=("base", "opd", "nca"), seeds=(0, 1), examples=8)
    rows = study.table("generations").assign(outcome="wrong")
    rows.loc[(rows["arm"] == "opd") & (rows["view"] == "no_context"), "outcome"] = "truncated"
    some = rows["example_id"].isin(sorted(rows["example_id"].unique())[:2])
    rows.loc[(rows["arm"] == "nca") & (rows["control"] == "exact") & some, "outcome"] = "truncated"
    study.replace("generations", rows)
    return study


def test_counts_are_those_of_the_answers(study):
    rows = study.table("generations")
    answers = rows[(rows["arm"] == "nca") & (rows["control"] == "exact") & (rows["split"] == "test")]
    table = truncation(rows).set_index(["arm", "metric"])
    over = table[table["seed"].isna()]
    assert set(over.index) == {("opd", "truncated_x"), ("nca", "truncated_xc")}
    assert over.loc[("opd", "truncated_x"), "estimate"] == 1
    assert over.loc[("nca", "truncated_xc"), "estimate"] == (answers["outcome"] == "truncated").mean()
    assert over.loc[("nca", "truncated_xc"), "n"] == len(answers)
    assert len(table.loc[[("opd", "truncated_x")]]) == 3  # two seeds, and both


def test_all_cut_is_not_a_zero_and_some_cut_stands_beside_it(study):
    table = metric_table(study)
    shown = "\n".join(printed(rich_table(table, "s", seeds=True), 120))
    written = markdown_table(table)
    for text in (shown, written):
        assert "16 of 16 truncated" in text
        assert "4 of 16" in text
    assert "8 of 8 truncated" in shown
    opd = next(line for line in written.splitlines() if line.startswith("| `opd`"))
    assert opd.split("|")[2].strip() == "16 of 16 truncated"
    cells = {line.count("|") for line in written.splitlines()}
    assert len(cells) == 1
    found = {(row["arm"], row["seed"], row["metric"]): row for row in metrics_json(table)}
    assert found["opd", None, "truncated_x"] == {
        "arm": "opd", "seed": None, "metric": "truncated_x", "estimate": 1.0, "low": None, "high": None, "n": 16,
    }  # fmt: skip
    assert ("nca", 1, "truncated_xc") in found


def test_nothing_is_said_where_nothing_was_cut(study):
    rows = study.table("generations").assign(outcome="wrong")
    assert truncation(rows).empty
    assert truncation_notes(truncation(rows)) == []
    study.replace("generations", rows)
    assert "truncated" not in markdown_table(metric_table(study))


def test_a_suites_note_names_setting_arm_and_view(study):
    table = truncation(study.table("generations"))
    table.insert(0, "setting", "rules-llama")
    assert truncation_notes(pd.DataFrame(table)) == [
        "Truncated at the length limit, and so not right: rules-llama opd without context 16 of 16, rules-llama nca with it "
        "4 of 16 answers."
    ]
