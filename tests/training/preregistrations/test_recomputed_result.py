"""The script that recomputes a preregistered result, beside the project's own tables, on the suite that is bundled."""

import ast
import runpy
from pathlib import Path

import pytest
import yaml

import training
from cr_interp.study.searching import BUNDLED
from cr_interp.tables.confirmation import criteria, verdict
from cr_interp.tables.suite import comparisons, open_suite

SCRIPT = Path(training.__file__).parent / "preregistrations" / "recompute.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def found(script):
    return script["results"](BUNDLED / "suite")


@pytest.fixture(scope="module")
def compared():
    rows = comparisons(open_suite("suite"))
    return {metric: of.set_index("setting") for metric, of in rows.groupby("metric")}


def test_it_shares_no_code():
    names = [
        name
        for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
        )
    ]
    assert {"pandas", "scipy.stats"} <= set(names)
    assert not [name for name in names if str(name).split(".")[0] in ("cr_interp", "training", "app")]


@pytest.mark.parametrize(
    ("column", "metric", "of"),
    [
        ("harm", "harm", "estimate"),
        ("p", "harm", "p"),
        ("p_holm", "harm", "p_holm"),
        ("common", "harm_common", "estimate"),
        ("acc_x", "acc_x", "estimate"),
    ],
)
def test_every_number_comes_out_again(found, compared, column, metric, of):
    beside = compared[metric][of].astype(float)
    assert set(found.index) == set(beside.index)
    assert found[column].to_dict() == pytest.approx(beside.to_dict(), abs=1e-12)


def test_intervals_come_out_again_where_seeds_differ(found, compared):
    """Where they do not, the tables give the width that a single answer has; here that is no width."""
    beside = compared["acc_x"]["low"].astype(float)
    spread = found["acc_x_low"] != found["acc_x"]
    assert spread.sum() >= 3
    assert found.loc[spread, "acc_x_low"].to_dict() == pytest.approx(beside[spread].to_dict(), abs=1e-12)


def test_it_counts_and_judges_alike(script, found):
    rule = yaml.safe_load(script["PLAN"].read_text(encoding="utf-8"))["success"]
    mine, theirs = script["counts"](found, rule), criteria(comparisons(open_suite("suite")), rule)
    assert mine["holds in"].tolist() == theirs["k"].tolist()
    assert mine["needed"].tolist() == theirs["needed"].tolist()
    assert script["verdict"](mine, rule) == verdict(theirs, rule) == "failure"


def test_a_verdict_is_scaled_to_the_settings_there_are(script):
    """Of five settings, all four of ten, and three of six count."""
    import pandas as pd

    rule = {"lower": 10, "holm": 8, "not_lower": 10, "common": 10, "of": 12, "failure": 6, "margin": 0.02}
    rows = {"harm": [-0.1] * 5, "p_holm": [0.01] * 4 + [0.9], "acc_x_low": [-0.01] * 5, "common": [-0.1] * 5}
    found = script["counts"](pd.DataFrame(rows), rule)
    assert found["needed"].tolist() == [5, 4, 5, 5]
    assert script["verdict"](found, rule) == "success"
    rows["harm"] = [-0.1, -0.1, 0.1, 0.1, 0.1]
    assert script["verdict"](script["counts"](pd.DataFrame(rows), rule), rule) == "failure"
    rows["harm"] = [-0.1, -0.1, -0.1, 0.1, 0.1]
    assert script["verdict"](script["counts"](pd.DataFrame(rows), rule), rule) == "inconclusive"
