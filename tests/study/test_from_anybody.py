"""Studies from anybody: nothing outside them is read, nothing in them ends the process, what is wrong is said."""

import json
import os
import shutil

import pandas as pd
import pytest
from synthetic import make_study

from cr_interp.confined import content, inside
from cr_interp.errors import UserError
from cr_interp.files import log_row
from cr_interp.study import questions
from cr_interp.study.log import StudyLogs
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table
from cr_interp.tables.stored import of_study

SECRET = "the words of another folder"


@pytest.fixture
def secret(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": SECRET, "answer": "x"}) + "\n")
    return folder


def description(folder, **changes):
    told = {
        "name": "mine",
        "train": {"dataset": "rows.jsonl"},
        "test": {"dataset": "rows.jsonl"},
        "context": {"text": "be brief"},
        "grader": {"kind": "contains"},
        **changes,
    }
    (folder / "task.yaml").write_text(json.dumps(told))
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": "mine", "answer": "x"}) + "\n")
    return folder / "task.yaml"


def named(study, **sections):
    manifest = {"schema_version": 1, **sections}
    (study.path / "manifest.json").write_text(json.dumps(manifest))
    return Study.open(study.path)


def begun(tmp_path):
    return make_study(tmp_path / "study", tables=())


def shown(study):
    return repr([questions.examples(study), questions.contexts(study), questions.token_limit(study)])


@pytest.mark.parametrize("where", ["../elsewhere/task.yaml", "{}/elsewhere/task.yaml", "link.yaml"])
def test_a_task_outside_the_study_is_not_read(where, tmp_path, secret):
    description(secret, context={"text": SECRET})
    study = begun(tmp_path)
    (study.path / "link.yaml").symlink_to(secret / "task.yaml")
    study = named(study, task=where.format(tmp_path))
    assert questions.task_of(study) is None
    assert SECRET not in shown(study)


@pytest.mark.parametrize(
    "file", ["../elsewhere/secret.txt", "{}/elsewhere/secret.txt", "link.txt", "pipe.txt", "a\0b", 300 * "x"]
)
@pytest.mark.parametrize("form", ["context", "paraphrase"])
def test_a_task_in_the_study_shows_nothing_outside_it(file, form, tmp_path, secret):
    study = begun(tmp_path)
    description(study.path, **{form: {"file": file.format(tmp_path)}})
    (study.path / "link.txt").symlink_to(secret / "secret.txt")
    os.mkfifo(study.path / "pipe.txt")
    study = named(study, task="task.yaml")
    assert SECRET not in shown(study)


@pytest.mark.parametrize("file", ["../elsewhere/rows.jsonl", "{}/elsewhere/rows.jsonl", "link.jsonl"])
def test_rows_outside_the_task_are_not_read(file, tmp_path, secret):
    study = begun(tmp_path)
    description(study.path, test={"dataset": file.format(tmp_path)})
    (study.path / "link.jsonl").symlink_to(secret / "rows.jsonl")
    assert SECRET not in shown(named(study, task="task.yaml"))


def test_a_task_in_the_study_is_read(tmp_path):
    study = begun(tmp_path)
    description(study.path)
    study = named(study, task="task.yaml")
    assert questions.examples(study)[0].prompt == "mine"


def test_links_among_tables_and_logs_lead_nowhere(tmp_path):
    other, study = make_study(tmp_path / "other", seeds=(0,)), make_study(tmp_path / "study", seeds=(0,))
    for file in ("tables/drift.parquet", "runs/nca-s0/train.jsonl", "runs/opd-s0"):
        own = study.path / file
        own.rename(tmp_path / f"aside-{own.name}")
        own.symlink_to(other.path / file)
    with pytest.raises(UserError, match="leads out of the study"):
        study.table("drift")
    assert study.runs() == []
    assert StudyLogs(study).read().empty
    (study.path / "manifest.json").unlink()
    (study.path / "manifest.json").symlink_to(other.path / "manifest.json")
    with pytest.raises(UserError, match="no file of the study's own"):
        Study.open(study.path)


def test_a_pipe_keeps_nobody_waiting(tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,))
    for file in (study.table_path("drift"), study.run_path("opd", 0) / "train.jsonl"):
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(UserError, match="no table 'drift'"):
        study.table("drift")
    assert study.train_rows("opd", 0) == []
    logs = StudyLogs(study)
    assert set(logs.read()["arm"]) == {"nca"}
    assert "own" in logs.problems()[0]
    with pytest.raises(UserError, match="pipe or a device"):
        content(study.table_path("drift"), "a file")


def test_what_is_too_large_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 101)
    assert len(content(tmp_path / "a", "a file", 101)) == 101
    with pytest.raises(UserError, match="are the most that is read"):
        content(tmp_path / "a", "a smaller file", 100)


@pytest.mark.parametrize("name", ["../a", "/etc/hostname", "b/../../a", "\0", "y" * 300, "", ".", "b", "loop"])
def test_a_name_stays_in_its_folder(name, tmp_path):
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "loop").symlink_to("loop")
    (tmp_path / "a").write_text("")
    (folder / "c").write_text("")
    with pytest.raises(UserError, match=r"^A file names the file"):
        inside(folder, name, "A file")
    assert inside(folder, "b/../c", "A file").samefile(folder / "c")


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("arms", [1]),
        ("seeds", "0,1"),
        ("seeds", [-1]),
        ("seeds", [True]),
        ("seeds", [1.5]),
        ("training", 3),
        ("task", ["a"]),
        ("evaluation", "x"),
        ("config", []),
        ("schema_version", "1"),
        ("schema_version", True),
        ("schema_version", 0),
    ],
)
def test_a_section_of_the_manifest_is_what_it_is_called_or_missing(section, value, tmp_path, capsys):
    study = begun(tmp_path)
    if section == "schema_version":
        with pytest.raises(UserError, match=r"damaged|schema version"):
            named(study, **{section: value})
    else:
        assert section not in named(study, **{section: value}).manifest
        assert f"read without {section}" in capsys.readouterr().err


def test_a_section_without_a_value_is_missing_where_it_needs_one(tmp_path, capsys):
    """Whoever reads ``manifest.get("seeds", [0])`` gets seeds; a study that is not finished may say so with ``null``."""
    found = named(begun(tmp_path), seeds=None, arms=None, finished=None, teacher=None).manifest
    assert {"seeds", "arms"}.isdisjoint(found)
    assert (found["finished"], found["teacher"]) == (None, None)
    assert capsys.readouterr() == ("", "")


def test_a_manifest_that_nests_is_refused(tmp_path):
    study = begun(tmp_path)
    (study.path / "manifest.json").write_text('{"schema_version": 1, "x": ' + "[" * 500 + "]" * 500 + "}")
    with pytest.raises(UserError, match="nests too deep"):
        Study.open(study.path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("seed", "a"),
        ("seed", 0.5),
        ("step", True),
        ("arm", 3),
        ("n_tokens", "7"),
        ("n_tokens", -5),
        ("step", -1),
        ("response", 1.5),
        ("outcome", "perhaps"),
        ("view", "exact"),
        ("seed", 2**63 - 1),
        ("sample", 10.0**19),
        ("obeys_new", "yes"),
    ],
)
def test_a_column_holds_what_it_is_called(column, values, tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,))
    frame = study.table("generations")
    pd.DataFrame(frame.assign(**{column: values})).to_parquet(study.table_path("generations"))
    with pytest.raises(UserError, match=r"damaged|(outcome|view)s that are not known"):
        study.table("generations")


@pytest.mark.parametrize("column", ["arm", "seed", "split", "example_id", "view", "control", "outcome"])
def test_an_answer_without_an_outcome_is_no_wrong_answer(column, tmp_path):
    """Nor one of nobody: some counts would leave it out, others call it wrong."""
    study = make_study(tmp_path / "study", seeds=(0,))
    frame = study.table("generations")
    frame[column] = frame[column].astype(object).where(frame.index != 3, None)
    frame.to_parquet(study.table_path("generations"))
    with pytest.raises(UserError, match=rf"1 (answers|rows are) without '?{column}"):
        study.table("generations")


@pytest.mark.parametrize("value", [None, float("inf"), 1.5])
@pytest.mark.parametrize(
    ("table", "column"), [("drift", "seed"), ("drift", "layer"), ("token_drift", "layer"), ("cka_map", "layer_x")]
)
def test_a_row_of_no_place_is_in_no_table(table, column, value, tmp_path):
    study = make_study(
        tmp_path / "study", seeds=(0,), examples=4, tables=("generations", "drift", "token_drift", "cka_map")
    )
    frame = study.table(table)
    frame[column] = frame[column].astype(float).where(frame.index != 3, value)
    frame.to_parquet(study.table_path(table))
    with pytest.raises(UserError, match=rf"was damaged.*'{column}'"):
        study.table(table)


def test_a_table_of_no_answers_says_so(tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,))
    study.table("generations").head(0).to_parquet(study.table_path("generations"))
    with pytest.raises(UserError, match="holds no answers"):
        metric_table(study)


@pytest.mark.parametrize("table", ["generations", "token_drift", "cka_map"])
def test_rows_that_stand_there_twice_would_count_twice(table, tmp_path):
    study = make_study(
        tmp_path / "study", seeds=(0,), examples=4, tables=("generations", "drift", "token_drift", "cka_map")
    )
    frame = study.table(table)
    pd.concat([frame, frame.head(3)]).to_parquet(study.table_path(table))
    with pytest.raises(UserError, match="3 values twice"):
        study.table(table)


def test_a_second_answer_to_the_same_is_one_too_many(tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,), examples=4)
    frame = study.table("generations")
    pd.concat([frame, frame.head(1).assign(response="another")]).to_parquet(study.table_path("generations"))
    with pytest.raises(UserError, match="1 values twice"):
        study.table("generations")


def test_a_section_that_is_needed_and_missing_is_the_manifest_s_fault(tmp_path):
    make_study(tmp_path / "study", seeds=(0,), examples=4)
    file = tmp_path / "study" / "manifest.json"
    told = json.loads(file.read_text())
    del told["model"]
    file.write_text(json.dumps(told))
    study = Study.open(tmp_path / "study")
    assert study.manifest.get("model") is None
    with pytest.raises(UserError, match="does not say 'model'"):
        study.manifest["model"]
    assert json.loads(json.dumps(study.manifest)) == told


def test_a_run_whose_folder_has_no_name_is_passed_over(tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,))
    before = study.runs()
    assert len(before) > 0
    arm, seed = before[0]
    odd = os.fsencode(study.path / "runs") + b"/\xff-s1"
    shutil.copytree(os.fsencode(study.run_path(arm, seed)), odd)
    assert study.runs() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda drift: pd.concat([drift, drift]), "values twice"),
        (lambda drift: pd.concat([drift, drift.head(1).assign(estimate=0.1)]), "1 values twice"),
        (lambda drift: drift.assign(estimate=5.0), "a cosine of 5"),
        (lambda drift: drift.assign(estimate=-1.5), "a cosine of 1.5"),
    ],
)
def test_a_value_of_drift_is_there_once_and_can_be(change, said, tmp_path):
    """A figure would take one of the two; the lowest over layers the wrong one, beside another one's interval."""
    study = make_study(tmp_path / "study", seeds=(0,), examples=4)
    study.replace("drift", change(study.table("drift")))
    with pytest.raises(UserError, match=said):
        study.table("drift")


def test_a_file_of_holes_is_refused_and_not_read_to_its_end(tmp_path):
    """A terabyte that takes no room: neither its digest nor its lines come to an end."""
    study = make_study(tmp_path / "study", seeds=(0,), examples=4)
    for file in (study.table_path("generations"), study.run_path("opd", 0) / "train.jsonl"):
        with open(file, "wb") as hole:
            hole.truncate(1 << 40)
    with pytest.raises(UserError):
        of_study("x", study, ["generations"], [], lambda: study.table("generations"))
    with pytest.raises(UserError, match="the most that a log has"):
        study.train_rows("opd", 0)
    logs = StudyLogs(study)
    logs.read()
    assert "larger than a log can be" in " ".join(logs.problems())


@pytest.mark.parametrize("line", [b"[" * 40_000, b'{"a":' * 40_000, b'{"step": 1, "x": ' + b"[" * 40_000])
def test_a_nested_line_of_a_log_ends_nothing(line, tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,), steps=20)
    expected = len(study.training())
    with open(study.run_path("opd", 0) / "train.jsonl", "ab") as file:
        file.write(line + b"\n")
    logs = StudyLogs(study)
    assert len(logs.read()) == expected == len(study.training())
    assert logs.problems() == ["1 line of opd seed 0 could not be read and were left out."]


def test_a_line_of_a_log_with_half_a_surrogate_pair_is_no_row():
    assert log_row(b'{"step": 1, "loss\\ud800": 2}') is None
    assert log_row(b'{"step": 1, "kind": "\\ud800"}') is None
    assert log_row(b'{"step": 1, "\\ud83d\\ude00": 2}') == {"step": 1, "\U0001f600": 2}


def test_a_log_of_ever_new_names_stays_small(tmp_path):
    study = make_study(tmp_path / "study", seeds=(0,), steps=20)
    with open(study.run_path("opd", 0) / "train.jsonl", "a") as file:
        file.writelines(
            json.dumps({"step": step, "kind": "train", f"k{step}": 1}) + "\n" for step in range(1000, 3000)
        )
    assert StudyLogs(study).read().shape[1] < 300
