"""Answers that were cut off or could not be read are said where an accuracy is."""

import io
import json

import pandas as pd
import pytest
from planted import run
from rich.console import Console
from synthetic import make_study

from cr_interp.report.study import markdown_study, rich_study
from cr_interp.study.study import Study
from cr_interp.tables.unread import instead, sentences, unread


def rows(arm: str, x: str, xc: str, seed: int = 0) -> pd.DataFrame:
    outcomes = {"r": "right", "w": "wrong", "u": "unparsable", "t": "truncated"}
    made = [
        {
            "arm": arm,
            "seed": seed,
            "step": 1,
            "split": "test",
            "example_id": f"e{i}",
            "view": view,
            "control": "none" if view == "no_context" else "exact",
            "sample": 0,
            "prompt": "p",
            "response": "r",
            "n_tokens": 3,
            "outcome": outcomes[letter],
        }
        for view, letters in (("no_context", x), ("with_context", xc))
        for i, letter in enumerate(letters)
    ]
    return pd.DataFrame(made)


TABLE = pd.concat(
    [
        rows("opd", "tttt", "rrwt"),
        rows("opd", "tttt", "rrrr", seed=1),
        rows("nca", "ttuu", "rwrw"),
        rows("base", "rr", "ww"),
    ]
)


def test_counts_are_over_seeds_and_in_each_view():
    found = unread(TABLE).set_index(["arm", "metric", "outcome"])[["k", "n"]].apply(tuple, axis=1).to_dict()
    assert found["opd", "acc_x", "truncated"] == (8, 8)
    assert found["opd", "acc_xc", "truncated"] == (1, 8)
    assert found["nca", "acc_x", "unparsable"] == (2, 4)
    assert found["base", "acc_xc", "truncated"] == (0, 2)


def test_all_unread_is_shown_instead_of_a_number():
    assert instead(unread(TABLE)) == {
        ("opd", "acc_x"): "8 of 8 truncated",
        ("nca", "acc_x"): "2 truncated and 2 unparsable of 4",
    }


def test_sentences_name_what_there_is_and_nothing_else():
    assert sentences(unread(TABLE), ["base", "opd", "nca"]) == [
        "Not false but cut off before an answer (truncated): opd 8 of 8 without the context and 1 of 8 with it; nca 2 of 4 "
        "without the context.",
        "Not false but no answer to be read (unparsable): nca 2 of 4 without the context.",
    ]
    assert sentences(unread(TABLE), ["opd"], least=0.5) == [
        "Not false but cut off before an answer (truncated): opd 8 of 8 without the context."
    ]
    assert sentences(unread(rows("base", "rw", "wr")), ["base"]) == []


@pytest.fixture
def cut(tmp_path) -> Study:
    study = make_study(tmp_path / "s")
    answers = study.table("generations")
    cut_off = (answers["arm"] == "opd") & (answers["view"] == "no_context")
    study.put("generations", answers.assign(outcome=answers["outcome"].mask(cut_off, "truncated")))
    return study


def test_every_print_of_an_accuracy_says_it(cut):
    n = int(((table := cut.table("generations"))["arm"].eq("opd") & table["view"].eq("no_context")).sum())
    console = Console(file=io.StringIO(), width=200)
    console.print(rich_study(cut))
    text = console.file.getvalue()
    assert f"{n} of {n} truncated" in text
    assert f"opd {n} of {n} without the context" in text
    assert f"opd {n} of {n} without the context" in markdown_study(cut)
    assert f"{n} of {n} truncated" in run("table", cut.path).stdout
    accuracies = {(row["arm"], row["metric"]): row for row in json.loads(run("table", cut.path, "--json").stdout)}
    assert accuracies["opd", "acc_x"]["estimate"] == 0  # only what is right counts
