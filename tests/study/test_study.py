import json
import os

import pandas as pd
import pytest
from synthetic import make_study

from cr_interp.errors import UserError
from cr_interp.files import append_jsonl, read_jsonl, write_json
from cr_interp.study.exporting import export
from cr_interp.study.schema import COLUMNS, TEXTS
from cr_interp.study.searching import find_studies, open_study
from cr_interp.study.study import Study


def rows(name, **changes):
    row = (
        {column: "x" if column in TEXTS else 0 for column in COLUMNS[name]}
        | {"arm": "opd", "seed": 0, "step": 1}
        | changes
    )
    return pd.DataFrame([row])


def test_rows_with_the_same_key_are_replaced(tmp_path):
    study = Study.create(tmp_path / "s", {})
    study.put("drift", rows("drift", estimate=1.0))
    study.put("drift", rows("drift", estimate=2.0))
    study.put("drift", rows("drift", estimate=3.0, seed=1))
    assert sorted(study.table("drift")["estimate"]) == [2.0, 3.0]


def test_answers_that_are_all_made_anew_leave_no_table_without_any(tmp_path):
    """Whoever reads one is told that it was damaged."""
    study = make_study(tmp_path / "s", examples=4, seeds=(0,))
    study.keep("generations", lambda old: old["arm"] == "base")
    assert set(study.table("generations")["arm"]) == {"base"}
    study.keep("generations", lambda old: old["arm"] == "opd")
    assert not study.has_table("generations")


def test_a_newer_or_damaged_study_is_refused_clearly(tmp_path):
    study = Study.create(tmp_path / "s", {})
    write_json(study.path / "manifest.json", {"schema_version": 99})
    with pytest.raises(UserError, match="schema version 99"):
        Study.open(study.path)
    (study.path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Study.open(study.path)
    with pytest.raises(UserError, match=r"no manifest\.json"):
        Study.open(tmp_path)


def test_a_damaged_table_is_refused_and_a_missing_one_lists_the_others(tmp_path):
    study = Study.create(tmp_path / "s", {})
    study.put("drift", rows("drift"))
    with pytest.raises(UserError, match="has: drift"):
        study.table("generations")
    study.table_path("drift").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="not readable as Parquet"):
        study.table("drift")
    pd.DataFrame({"arm": ["a"]}).to_parquet(study.table_path("drift"))
    with pytest.raises(UserError, match="lacks the columns"):
        study.table("drift")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    study = Study.create(tmp_path / "s", {"name": "old"})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(UserError, match="No space left"):
        study.update_manifest(name="new")
    monkeypatch.undo()
    assert json.loads((study.path / "manifest.json").read_text())["name"] == "old"
    assert [p.name for p in study.path.iterdir()] == ["manifest.json"]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=10)
    for file in (study.path / "manifest.json", study.table_path("generations")):
        assert file.stat().st_mode == plain.stat().st_mode
    assert not [file.name for file in study.path.rglob(".*")]


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Could not write"):
        Study.create(tmp_path / "file" / "s", {})
    with pytest.raises(UserError, match="Could not append"):
        append_jsonl(tmp_path / "file" / "train.jsonl", {})


def test_a_resumed_log_keeps_the_last_row_of_a_step_and_skips_torn_lines(tmp_path):
    log = tmp_path / "train.jsonl"
    for step in (1, 2, 3):
        append_jsonl(log, {"kind": "train", "step": step, "loss": step})
    with open(log, "a") as file:
        file.write('{"kind": "train", "step": 4, "lo')  # killed here
    append_jsonl(log, {"kind": "train", "step": 3, "loss": 30})
    append_jsonl(log, {"kind": "eval", "step": 3, "acc_x": 1})
    found = read_jsonl(log)
    assert [(r["step"], r["kind"]) for r in found] == [(1, "train"), (2, "train"), (3, "eval"), (3, "train")]
    assert found[-1]["loss"] == 30


def test_studies_are_found_by_name_in_the_environment_folder(tmp_path, monkeypatch):
    make_study(tmp_path / "mine" / "one")
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path / "mine"))
    assert find_studies()["one"] == tmp_path / "mine" / "one"
    assert open_study("one").name == "one"
    with pytest.raises(UserError, match="Did you mean 'one'"):
        open_study("onee")
    assert open_study("one").runs()


def test_an_export_has_tables_and_logs_but_no_checkpoints(tmp_path):
    study = make_study(tmp_path / "one")
    checkpoint = study.run_path("opd", 0) / "checkpoint-9"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"x")
    copied = export(study, tmp_path / "copy")
    assert copied.table("drift").equals(study.table("drift"))
    assert copied.train_rows("opd", 0) == study.train_rows("opd", 0)
    assert not list(copied.path.rglob("*.safetensors"))


def test_drift_with_sinks_takes_the_place_of_the_rows_that_left_some_out(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=10)
    masked = study.table("drift")
    assert study.drift(sinks=True).equals(masked)  # no table: there were none
    at = (masked["arm"] == "opd") & (masked["layer"] == 1) & (masked["control"] == "exact")
    study.put("drift_with_sinks", masked[at].assign(estimate=0.5))
    found = study.drift(sinks=True)
    assert len(found) == len(masked)
    assert (found["estimate"] == 0.5).sum() == at.sum()
    assert study.drift().equals(masked)


def test_a_light_export_keeps_every_evaluation_and_every_tenth_step(tmp_path):
    study = make_study(
        tmp_path / "s",
        arms=("base", "opd"),
        seeds=(0,),
        examples=10,
        tables=("generations", "drift", "training", "token_drift"),
    )
    log = study.run_path("opd", 0) / "train.jsonl"
    for step in range(101, 121):
        append_jsonl(log, {"kind": "train", "step": step, "loss": 1.0})
    copied = export(study, tmp_path / "copy", light=True)
    assert not copied.has_table("token_drift")
    assert copied.table("drift").equals(study.table("drift"))
    old, new = (each.train_rows("opd", 0) for each in (study, copied))
    assert new == [row for row in old if row["kind"] == "eval" or row["step"] % 10 == 0]
    assert len(new) < len(old)
