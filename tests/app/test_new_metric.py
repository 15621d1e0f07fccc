"""A metric of answers is added in two places: its formula, and its words in the vocabulary. Everything else follows."""

import json

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from test_first_minute import MAIN
from typer.testing import CliRunner

from app.queries import summary
from cr_interp import vocabulary
from cr_interp.cli import app as command_line
from cr_interp.figures.behaviour import metric_forest
from cr_interp.report.study import format_estimate
from cr_interp.report.suite import markdown_suite
from cr_interp.study.study import Study
from cr_interp.tables import behaviour, stored
from cr_interp.tables.metrics import metric_table
from cr_interp.tables.suite import Suite


@pytest.fixture
def both_wrong(monkeypatch):
    """A metric that nobody knew: the pairs that are wrong in both views."""
    before = behaviour.formulas

    def formulas(values):
        pairs, x, xc, both = (values[..., index] for index in range(4))
        return before(values) | {"both_wrong": (pairs - x - xc + both, pairs, pairs)}

    monkeypatch.setenv(stored.VARIABLE, "")
    monkeypatch.setattr(behaviour, "formulas", formulas)
    monkeypatch.setitem(
        vocabulary.METRICS, "both_wrong", vocabulary.Metric("Both<sub>w</sub>", "wrong in both (%)")
    )
    return "both_wrong"


def share_of(study: Study, arm: str) -> float:
    """Counted from the answers themselves: the mean over seeds of each seed's share."""
    answers = study.table("generations")
    answers = answers[(answers["arm"] == arm) & (answers["split"] == "test")]
    answers = answers[answers["step"] == answers["step"].max()]
    answers = answers[(answers["view"] == "no_context") | (answers["control"] == "exact")]
    wrong = (
        answers.assign(wrong=answers["outcome"] != "right")
        .groupby(["seed", "example_id", "sample"])["wrong"]
        .all()
    )
    return float(wrong.groupby("seed").mean().mean())


def test_a_metric_that_is_added_appears(good, both_wrong):
    study = Study.open(good)
    shares = {arm: share_of(study, arm) for arm in ("base", "opd", "nca")}
    table = metric_table(study)
    found = table[(table["metric"] == both_wrong) & table["seed"].isna()].set_index("arm")["estimate"]
    assert dict(found) == pytest.approx(shares)

    shown = CliRunner().invoke(command_line, ["table", str(good)])
    line = next(line for line in shown.output.splitlines() if line.strip(" │┃").startswith(both_wrong))
    assert [f"{100 * share:.1f}" in line for share in shares.values()] == [True] * 3
    said = json.loads(CliRunner().invoke(command_line, ["table", str(good), "--json"]).output)
    assert {row["metric"] for row in said} >= {both_wrong, "harm"}

    change = behaviour.differences(study.table("generations"), "nca", "opd")
    change = change[(change["metric"] == both_wrong) & change["seed"].isna()]
    assert float(change["estimate"].iloc[0]) == pytest.approx(shares["nca"] - shares["opd"])

    titles = {note.text for note in metric_forest(table).layout.annotations}
    assert "Both<sub>w</sub>" in titles
    wide = summary.metric_table(table).set_index("arm")["Both_w (%)"]
    assert wide["opd"].startswith(f"{100 * shares['opd']:.1f} [")
    suite = markdown_suite(Suite(good.parent, {"one": study}))
    assert "| both_wrong |" in suite.partition("All metrics")[2]


def test_it_appears_on_the_first_page(good, both_wrong):
    app = AppTest.from_file(str(MAIN), default_timeout=120).switch_page("screens/overview.py").run()
    assert not app.exception
    assert not app.error
    html = "\n".join(str(each.proto.body) for each in app.get("html"))
    assert "Both_w (%)" in html
    assert "wrong in both (%)" in html  # its help, which no glossary has


def test_a_minus_is_one_everywhere():
    assert format_estimate("delta_len", -0.071, -0.1, float("nan")) == "−7.1 %"
    assert format_estimate("delta_len", -0.0001, -0.1, 0.1) == "0.0 % [−10.0, 10.0]"
    assert format_estimate("min_cosine", -0.1234, -0.2, -0.1) == "−0.123 [−0.200, −0.100]"
    row = pd.DataFrame({"arm": ["a"], "metric": ["delta_len"], "seed": pd.array([pd.NA], dtype="Int64"),
                        "estimate": [-0.071], "low": [-0.2], "high": [0.0]})  # fmt: skip
    assert list(summary.metric_table(row)["Δlen (%)"]) == ["−7.1 [−20.0, 0.0]"]
