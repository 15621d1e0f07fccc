"""The Home page without a browser: the shelf of studies, the tour, and the command for one's own checkpoints."""

import json
import shlex
import shutil

import pytest
from synthetic import make_study
from test_pages import open_app, queries, said

from app.queries.shelf import UNSEEN, shelf
from cr_interp.models.known import ORGANISMS
from cr_interp.study.searching import find_studies

HOME = "screens/home.py"


def test_every_study_is_a_row_with_what_it_lacks(good, root):
    make_study(root / "alone", arms=("mine",), seeds=(0,), examples=10, tables=("generations",))
    (root / "broken").mkdir()
    (root / "broken" / "manifest.json").write_text("{ not json")
    app = open_app(HOME)
    assert not app.exception
    assert not app.error
    table = app.dataframe[0].value.set_index("study")
    assert set(table.index) == {"organism-shift", "alone", "broken"}
    assert table.loc["organism-shift", ["task", "arms", "seeds"]].tolist() == ["rules:shift", "base, opd, nca", 3]
    assert "drift" in table.loc["alone", "lacks"]
    assert "checkpoints" in table.loc["alone", "lacks"]
    assert "drift," not in table.loc["organism-shift", "lacks"]
    assert "damaged" in table.loc["broken", "lacks"]
    assert table.loc["alone", "verdict"] == "–"


def test_a_verdict_is_there_once_it_was_computed_and_nothing_is_compared_for_the_shelf(
    good, monkeypatch, tmp_path
):
    monkeypatch.setenv("CR_INTERP_STORED", str(tmp_path / "kept"))
    from cr_interp.tables import behaviour

    with monkeypatch.context() as patch:
        patch.setattr(behaviour, "differences", lambda *_, **__: pytest.fail("compared"))
        assert shelf(find_studies()).set_index("study").loc["organism-shift", "verdict"] == UNSEEN
    app = open_app("screens/overview.py")
    badge = next(str(each.proto.body) for each in app.get("html") if "<strong>" in str(each.proto.body))
    word = badge.split("<strong>")[1].split("</strong>")[0]
    assert shelf(find_studies()).set_index("study").loc["organism-shift", "verdict"] == f"nca with opd: {word}"


def test_the_tour_has_four_steps_and_can_be_put_away(good):
    app = open_app(HOME)
    links = [each.proto.label for each in app.main.get("page_link")]
    assert links == ["1. Overview", "2. Examples", "3. Layers", "4. Mechanism"]
    app.button(key="no-tour").click().run()
    assert not app.main.get("page_link")
    assert queries(app)["tour"] == ["False"]
    app.button(key="show-tour").click().run()
    assert len(app.main.get("page_link")) == 4


def test_the_form_writes_the_command(good, tmp_path):
    app = open_app(HOME)
    assert app.code[0].value == "cr-interp compare base=PATH opd=PATH nca=PATH --task NAME --out studies/mine"
    shutil.copytree(ORGANISMS / "rules", tmp_path / "my base")
    app.text_input(key="path_base").set_value(str(tmp_path / "my base"))
    app.text_input(key="path_opd").set_value("someone/model")
    app.text_input(key="asked_what").set_value("sentiment").run()
    assert not app.warning
    assert shlex.split(app.code[0].value) == [
        "cr-interp",
        "compare",
        f"base={tmp_path / 'my base'}",
        "opd=someone/model",
        "--task",
        "sentiment",
        "--out",
        "studies/mine",
    ]
    app.text_input(key="path_nca").set_value(str(tmp_path / "nowhere")).run()
    assert "There is no folder" in app.warning[0].value
    app.button_group(key="asked_on").set_value("prompts").run()
    assert "--prompts sentiment --context CONTEXT.txt" in app.code[0].value


def test_a_study_that_cannot_be_read_costs_its_own_row(good):
    (good / "manifest.json").write_text(json.dumps({"schema_version": 99}))
    app = open_app(HOME)
    assert not app.exception
    assert "schema version 99" in app.dataframe[0].value["lacks"].iloc[0]
    assert "Studies" in [each.value for each in app.subheader]
    assert "No study was found" not in said(app)
