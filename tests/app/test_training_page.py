"""The page Training without a browser: what it says of logs that are short, long, damaged, missing or still growing.

The figures are looked at in ``test_browser_training.py``; the reader of the logs has its own tests in ``test_train_log.py``.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from streamlit.testing.v1 import AppTest
from synthetic import make_study

from cr_interp.files import append_jsonl
from cr_interp.study.study import Study

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
PAGE = "screens/training.py"
ARMS = ("opd", "nca")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made") / "one", examples=24).path


@pytest.fixture
def good(root: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, root / "one"))


def at_more_steps(study: Study, *steps: int) -> None:
    """Rows of answers and states as if earlier checkpoints had been measured, too."""
    rng = np.random.default_rng(1)
    for step in steps:
        study.put("generations", synthetic.generations(rng, ARMS, (0, 1, 2), 24, ("exact",), step))
        study.put("drift", synthetic.drift(rng, ARMS, (0, 1, 2), 4, 24, ("exact",), step))


def open_page(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in address.items():
        app.query_params[key] = value
    return app.switch_page(PAGE).run()


def said(app: AppTest) -> str:
    parts = [app.markdown, app.caption, app.info, app.warning, app.error, app.subheader, app.code]
    return "\n".join(str(element.value) for part in parts for element in part).replace("\\", "")


def logs(path: Path) -> list[Path]:
    return sorted(path.glob("runs/*/train.jsonl"))


def test_it_opens_and_explains_itself(good):
    app = open_page()
    assert not app.exception
    assert not app.error
    assert app.markdown[0].value.count(". ") + 1 <= 2
    text = said(app)
    assert "6 runs, all at step 100" in text
    assert "mean over 3 seeds (0, 1, 2)" in text
    assert "on n = 24 examples, without intervals" in text
    assert "Step 100. Cosine between" in text


def test_a_study_that_was_measured_once_says_so_and_how_to_get_more(good):
    text = said(open_page())
    assert "States were captured at step 100 only" in text
    assert "training.keep_checkpoints" in text
    assert "The answers of the other pages are of step 100 only" in text


@pytest.mark.slow
def test_several_steps_have_a_slider_and_a_second_source(good):
    at_more_steps(Study.open(good), 25, 50)
    app = open_page()
    assert not app.exception
    assert not app.error
    assert app.select_slider(key="step").options == ["0", "25", "50", "100"]
    assert app.select_slider(key="step").value == 100
    assert "captured at step" not in said(app)
    assert "The layer that drifts most" in said(app)
    app.select_slider(key="step").set_value(25).run()
    assert "Step 25. Cosine" in said(app)
    assert app.query_params["step"] == "25"
    app.button_group(key="evaluated").set_value("checkpoints").run()
    assert "across (other seeds; Student" in said(app)
    assert app.query_params["evaluated"] == "checkpoints"


@pytest.mark.slow
def test_the_address_chooses_and_nonsense_in_it_is_ignored(good):
    at_more_steps(Study.open(good), 25)
    app = open_page(step="25", curves_of="speed", log_loss="False", follow="True", measure="cka")
    assert app.select_slider(key="step").value == 25
    assert app.button_group(key="curves_of").value == "speed"
    assert not app.toggle(key="log_loss").value
    assert app.toggle(key="follow").value
    assert app.selectbox(key="measure").value == "cka"
    app = open_page(step="26", curves_of="<b>", log_loss="1", measure="../x")
    assert not app.exception
    assert app.select_slider(key="step").value == 100
    assert app.button_group(key="curves_of").value == "loss"
    assert set(app.query_params) == {"study"}


@pytest.mark.slow
def test_arms_and_seeds_of_the_sidebar_count(good):
    app = open_page()
    app.multiselect(key="arms").set_value(["opd"])
    app.multiselect(key="seeds").set_value([1]).run()
    assert "1 run, at step 100" in said(app)


@pytest.mark.slow
def test_an_arm_that_the_tables_do_not_know_yet_is_shown(good):
    for step in range(1, 4):
        append_jsonl(good / "runs" / "mine-s0" / "train.jsonl", {"kind": "train", "step": step, "loss": 1.0})
    text = said(open_page())
    assert "7 runs, 1 of them not yet at step 100: mine seed 0 at step 3." in text
    assert "Last row written" in text


@pytest.mark.slow
def test_rows_that_came_since_are_read(good):
    app = open_page()
    for log in logs(good):
        append_jsonl(log, {"kind": "train", "step": 140, "loss": 1e-3, "terms": {"KL(q_x || f)": 1e-3}})
    manifest = json.loads((good / "manifest.json").read_text())
    manifest["training"]["steps"] = 200
    (good / "manifest.json").write_text(json.dumps(manifest))
    app.run()
    assert "6 runs, 6 of them not yet at step 200: opd seed 0 at step 140" in said(app)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "empty", "noise", "torn", "types", "binary", "unreadable"])
def test_damaged_logs_cost_no_more_than_themselves(good, damage):
    for log in logs(good):
        text = log.read_text()
        if damage == "gone":
            log.unlink()
        elif damage == "empty":
            log.write_text("")
        elif damage == "noise":
            log.write_text("this is no log\n[1, 2]\nnull\n{}\n")
        elif damage == "torn":
            log.write_text(text[:700] + "\n" + text[700:] + '{"kind": "train", "st')
        elif damage == "types":
            log.write_text(
                '{"step": "x"}\n{"step": 1, "loss": [1], "terms": "t"}\n{"step": 2, "loss": {"a": {"b": 1}}}\n'
            )
        elif damage == "binary":
            log.write_bytes(os.urandom(5000))
        else:
            log.unlink()
            log.mkdir()
    app = open_page()
    assert not app.exception
    assert not app.error
    text = said(app)
    assert "Step 100. Cosine" in text  # the rest of the page
    if damage == "torn":
        assert "2 lines of nca seed 0 could not be read" in text
        assert "mean over 3 seeds" in text
    elif damage == "unreadable":
        assert "The log of nca seed 0 cannot be read" in text
    elif damage != "types":
        assert "There is no training log" in text


def test_a_study_with_nothing_but_a_log(root):
    study = make_study(root / "running", arms=ARMS, seeds=(0,), tables=("training",))
    app = open_page()
    assert not app.exception
    assert not app.error
    assert "2 runs, all at step 100" in said(app)
    assert "This study has no measured states" in said(app)
    assert not study.has_table("drift")


def test_checkpoints_that_were_compared_have_no_steps(root):
    study = make_study(root / "compared", tables=("generations", "drift"), examples=10)
    for name in ("generations", "drift"):
        study.table(name).assign(step=0).to_parquet(study.table_path(name))
    app = open_page()
    assert not app.exception
    assert not app.error
    assert "not at steps of a training" in said(app)
    assert "There is no training log" in said(app)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["x", None, {"steps": "many", "batch_size": 0}, {"steps": -1}])
def test_a_manifest_of_another_shape(good, training):
    Study.open(good).update_manifest(training=training, arms=["opd"], task=None, model={"a": 1})
    app = open_page()
    assert not app.exception
    assert not app.error
    assert "6 runs, up to step 100." in said(app)


def test_a_damaged_table_leaves_the_log(good):
    (good / "tables" / "drift.parquet").write_bytes(b"PAR1 no PAR1")
    app = open_page()
    assert not app.exception
    assert "is not readable as Parquet" in said(app)
    assert "6 runs, all at step 100" in said(app)


@pytest.mark.slow
def test_a_long_log_says_that_it_was_thinned(root):
    study = make_study(root / "long", arms=ARMS, seeds=(0, 1), tables=("drift",))
    row = '{{"kind": "train", "step": {0}, "loss": {1:.6f}, "terms": {{"KL(q_x || f)": {1:.6f}}}}}\n'
    text = "".join(row.format(step, 1 / step) for step in range(1, 20_001))
    for arm in ARMS:
        for seed in (0, 1):
            log = study.run_path(arm, seed) / "train.jsonl"
            log.parent.mkdir(parents=True)
            log.write_text(text)
    app = open_page()
    assert not app.exception
    assert not app.error
    assert "A point is the mean of up to 50 logged steps" in said(app)


def test_hostile_names_are_text(root):
    study = make_study(root / "hostile", arms=("opd",), seeds=(0,), tables=("drift",))
    append_jsonl(
        study.path / "runs" / "<b>:red[x]-s0" / "train.jsonl",
        {"kind": "train", "step": 1, "loss": 1, "terms": {"<img src=x onerror=alert(1)>": 1}},
    )
    app = open_page()
    assert not app.exception
    assert not app.error
    assert any(r"\<b\>\:red\[x\] seed 0" in str(element.value) for element in app.caption)


def test_metrics_by_step_are_those_of_each_step(good):
    from cr_interp.tables import behaviour

    study = Study.open(good)
    at_more_steps(study, 25)
    answers = study.table("generations")
    table = behaviour.metrics_by_step(answers, resamples=50)
    assert sorted(table["step"].unique()) == [0, 25, 100]
    alone = behaviour.metrics(answers[answers["step"] == 25], resamples=50)
    pd.testing.assert_frame_equal(
        table[table["step"] == 25].drop(columns="step").reset_index(drop=True), alone, check_dtype=False
    )
    assert behaviour.metrics_by_step(answers.iloc[:0]).empty


@pytest.mark.slow
def test_the_saved_lines_make_the_figures_of_several_steps(good, monkeypatch):
    from test_recipes import drawing, made_by

    from app import parts

    at_more_steps(Study.open(good), 25)
    found = {}
    monkeypatch.setattr(
        parts, "show_figure", lambda figure, name, *_, code, **__: found.update({name: (figure(), code)})
    )
    open_page(step="25", evaluated="checkpoints", measure="relative_l2", step_log="True", curves_of="speed")
    several = {"behaviour-checkpoints", "drift-steps-relative_l2", "drift-over-relative_l2", "training-speed"}
    assert several <= set(found)  # and those of the page that was open before
    for name, (figure, code) in found.items():
        assert drawing(made_by(code)) == drawing(figure), name
