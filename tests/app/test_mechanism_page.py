"""The Mechanism page without a browser: what it says of a study with and without its tables, and the examples behind a cell."""

import re

import pandas as pd
import pytest
from synthetic import patching_examples, patching_rows
from test_pages import open_app, queries, said

from app.mechanism_tabs import TABS, there
from cr_interp.study.analyses import ANALYSES
from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study
from cr_interp.tables.patching import cell_examples, strongest

PAGE = "screens/mechanism.py"


@pytest.fixture
def patched(good):
    study = Study.open(good)
    study.put("patching", patching_rows(("opd", "nca")))
    study.put("patching_examples", patching_examples(("opd", "nca")))
    return good


@pytest.mark.parametrize("tab", [name for name in there() if name != "flips"])
def test_a_table_that_is_missing_says_what_it_would_answer_and_its_command(good, tab):
    app = open_app(PAGE, tab=tab)
    assert not app.exception
    assert not app.error
    assert TABS[tab].asks in said(app)
    assert app.code[0].value.startswith("cr-interp explain organism-shift")
    assert not app.get("plotly_chart")


def test_every_analysis_of_answers_and_weights_has_a_tab():
    tables = {analysis.table for analysis in ANALYSES if analysis.command == "explain"}
    assert tables <= {table for tab in TABS.values() for table in (tab.table, *tab.beside.values())}
    assert "decided" in there()


def test_the_strongest_cell_is_shown_first_with_its_controls_and_examples(patched):
    app = open_app(PAGE)
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="cell").value in ("opd/resid_post/2", "nca/resid_post/2")
    text = said(app)
    assert "**1.00** [0.90, 1.10]" in text
    assert "a random direction of the same norm: 0.10" in text
    assert "another example's state: 0.05" in text
    assert "Patching, repair" in text
    assert "n = 12 harmed examples" in text
    assert "12 examples a seed. Controls: " in text
    assert "No harmed answers of base were patched." in text


def test_the_first_cell_is_of_the_arm_that_has_most_to_repair(patched):
    """Of a single example any share may come, so it is no summary of where answers are decided."""
    study = Study.open(patched)
    rows = study.table("patching")
    rows = rows[rows["arm"] == "opd"]
    one = rows.assign(arm="nca", n_examples=1, estimate=rows["estimate"] + 3)
    study.put("patching", pd.concat([rows, one], ignore_index=True))
    app = open_app(PAGE)
    assert app.selectbox(key="cell").value == "opd/resid_post/2"
    text = said(open_app(PAGE, cell="nca/resid_post/1"))
    assert "1 example a seed. Controls: " in text


def test_the_first_cell_is_the_place_that_the_first_page_names():
    """By whole answers one place returns most, by the share of the logit difference another does: the two pages say one."""
    app = open_app("screens/overview.py", study="smollm2-sentiment-why")
    arm, site, layer = re.search(
        r"In (\w+), putting back the ([^.]*?) of layer (\d+) alone returns 100\.0 %", said(app)
    ).groups()
    cell = open_app(PAGE, study="smollm2-sentiment-why").selectbox(key="cell").value
    named = {"residual stream": "resid_post", "attention's output": "attn_out", "MLP's output": "mlp_out"}
    assert cell == f"{arm}/{named[site]}/{layer}"
    patching = Study.open(BUNDLED / "smollm2-sentiment-why").table("patching")
    best = strongest(patching[patching["arm"] == arm], "share")
    most = best[(best["group"] == "harmed") & (best["direction"] == "repair")].nlargest(1, "estimate").iloc[0]
    assert cell != f"{arm}/{most['site']}/{most['place']}"


def test_whether_a_place_may_be_named_stands_at_its_cell(patched):
    assert "one permutation" not in said(
        open_app(PAGE, cell="opd/resid_post/3")
    )  # no other example's state was tried
    study = Study.open(patched)
    rows = study.table("patching_examples")
    other = rows[rows["control"] == "none"].assign(control="other", answer=False)
    study.put("patching_examples", pd.concat([rows[rows["control"] != "other"], other], ignore_index=True))
    text = said(open_app(PAGE, cell="opd/resid_post/3"))
    # Four clusters, three of which differ: of their eight signs only one is as far.
    assert re.search(
        r"either control, in every seed: p = 0\.\d{3} at most, by one permutation for all places", text
    )


def test_a_cell_lists_the_examples_that_it_repairs(patched):
    app = open_app(PAGE, cell="opd/resid_post/3")
    assert "6 of 8 whole answers follow" in said(app)  # three of four, two seeds
    shown = app.dataframe[0].value
    assert list(shown["follows"]) == ["✓"] * 6 + ["✗"] * 2
    assert shown["share"].tolist() == [1.0] * 6 + [0.5] * 2
    answers = (
        Study.open(patched).table("generations").drop_duplicates("example_id").set_index("example_id")["prompt"]
    )
    assert list(shown["prompt"]) == [answers[name] for name in shown["example_id"]]
    app.selectbox(key="cell").set_value("opd/attn_out/1").run()
    assert queries(app)["cell"] == ["opd/attn_out/1"]
    assert "No single examples are kept of this cell" in said(app)


def test_choices_are_in_the_address_and_what_was_not_patched_is_said(patched):
    app = open_app(PAGE, readout="answer")
    assert app.button_group(key="readout").value == "answer"
    assert "share of whole answers that follow" in said(app)
    app.multiselect(key="arms").set_value(["base"]).run()
    assert not app.exception
    assert "were not patched" in said(app)


def test_examples_of_a_cell_by_hand():
    table = cell_examples(patching_examples(), "opd", "resid_post", 1)
    assert list(table["example_id"]) == ["test-0000"] * 2 + ["test-0001", "test-0002", "test-0003"] * 2
    assert table["share"].tolist() == [1.0, 1.0] + [0.5] * 6
    assert cell_examples(patching_examples(), "opd", "mlp_out", 1).empty


def test_the_embeddings_cell_is_the_first_blocks_input():
    rows = patching_examples().query("layer == 0").assign(site="resid_pre")
    assert len(cell_examples(rows, "opd", "resid_post", -1)) == 8


def test_a_table_that_nothing_draws_yet_is_shown_as_it_is(good, monkeypatch):
    from app import mechanism_tabs

    Study.open(good).put("patching", patching_rows())
    tab = mechanism_tabs.Tab(
        "New", "patching", "What is new?", {"Rows": "cr_interp.figures.nothing:here"}, ("group", "readout")
    )
    monkeypatch.setitem(mechanism_tabs.TABS, "new", tab)
    app = open_app(PAGE, tab="new", patching_readout="answer")
    assert not app.exception
    assert not app.error
    assert len(app.dataframe[0].value) == len(patching_rows())
    assert app.button_group(key="patching_readout").value == "answer"


def test_a_table_is_drawn_with_the_values_that_are_chosen(good, monkeypatch):
    from app import mechanism_tabs

    Study.open(good).put("patching", patching_rows())
    tab = mechanism_tabs.Tab(
        "New", "patching", "What is new?", {"Cells": "cr_interp.figures.mechanism:decided"}, ("readout",)
    )
    monkeypatch.setitem(mechanism_tabs.TABS, "new", tab)
    app = open_app(PAGE, tab="new", patching_readout="answer")
    assert "share of whole answers" in said(app)
    assert "decided(table, readout='answer')" in app.code[0].value


def test_whether_drift_tells_flips_needs_nothing_but_what_every_study_has(good):
    from cr_interp.tables.flips_by_drift import flips_by_drift

    app = open_app(PAGE, tab="flips")
    assert not app.exception
    assert not app.error
    study = Study.open(good)
    table = flips_by_drift(study.table("token_drift"), study.table("generations"))
    assert set(table["arm"]) >= {"opd"}
    assert len(app.get("plotly_chart")) == 1
    assert "½ says nothing" in said(app)
    app.multiselect(key="arms").set_value(["nca"]).run()
    assert "drift has nothing to tell" in said(app) or "nca" in set(table["arm"])
