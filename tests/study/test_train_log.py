"""Logs that grow: whole lines only, read on from where reading stopped, anew if the file is another, thinned if long."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_study

from cr_interp.files import append_jsonl
from cr_interp.study import log as train_log
from cr_interp.study.log import RunLog, StudyLogs, bin_widths, parse, thin


def row(step: int, loss: float = 1.0, **more: object) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": loss, "terms": {"KL(q_x || f)": loss / 2}, **more}


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "train.jsonl", row(1), row(2))


def test_it_is_the_table_of_the_study(tmp_path):
    study = make_study(tmp_path / "one", examples=10)
    found, expected = StudyLogs(study).read(), study.training()
    assert set(found["averaged"]) == {1}
    pd.testing.assert_frame_equal(
        found[list(expected)].astype({"kind": object}), expected.astype({"kind": object}), check_dtype=False
    )


def test_only_new_rows_are_read(log, monkeypatch):
    read: list[int] = []
    monkeypatch.setattr(train_log, "parse", lambda block: (read.append(len(block)), parse(block))[1])
    run = RunLog(log)
    assert run.read()
    size = log.stat().st_size
    assert read == [size]
    first = run.rows
    assert not run.read()
    assert run.rows is first
    append_jsonl(log, row(3))
    assert run.read()
    assert read == [size, log.stat().st_size - size]
    assert list(run.rows["step"]) == [1, 2, 3]
    assert list(first["step"]) == [1, 2]


def test_a_half_written_line_is_left_for_the_next_time(log):
    run = RunLog(log)
    text = json.dumps(row(3, 7.0)) + "\n"
    for end in (20, len(text) - 1):
        with open(log, "a") as file:
            file.write(text[:20] if end == 20 else text[20:-1])
        run.read()
        assert list(run.rows["step"]) == [1, 2]
    with open(log, "a") as file:
        file.write("\n")
    assert run.read()
    assert list(run.rows["loss"]) == [1, 1, 7]
    assert run.unreadable == 0


def test_a_line_that_a_kill_left_torn_is_counted_and_left_out(log):
    run = RunLog(log)
    run.read()
    with open(log, "a") as file:
        file.write('{"kind": "train", "st')
    run.read()
    assert run.unreadable == 0
    append_jsonl(log, row(3))  # closes the torn line first
    run.read()
    assert list(run.rows["step"]) == [1, 2, 3]
    assert run.unreadable == 1


def test_a_file_that_shrank_is_read_anew(log):
    run = RunLog(log)
    run.read()
    write(log, row(1, 5.0))
    assert run.read()
    assert list(run.rows["loss"]) == [5]
    log.write_text("")
    assert run.read()
    assert run.rows.empty


def test_another_file_in_its_place_is_read_anew_even_if_it_is_longer(log, tmp_path):
    run = RunLog(log)
    run.read()
    os.replace(write(tmp_path / "new", *(row(step, 9.0) for step in range(1, 30))), log)
    assert run.read()
    assert len(run.rows) == 29
    assert set(run.rows["loss"]) == {9}


def test_a_file_that_is_gone_or_not_a_file(tmp_path, log):
    run = RunLog(log)
    run.read()
    log.unlink()
    assert run.read()
    assert run.rows.empty
    assert run.problem
    log.mkdir()
    assert not run.read()
    log.rmdir()
    write(log, row(1))
    assert run.read()
    assert run.problem is None


def test_of_a_step_that_was_repeated_the_last_row_counts(log):
    run = RunLog(log)
    run.read()
    append_jsonl(log, row(2, 8.0))
    append_jsonl(log, {"kind": "eval", "step": 2, "acc_x": 0.5})
    run.read()
    assert list(zip(run.rows["step"], run.rows["kind"], strict=True)) == [(1, "train"), (2, "eval"), (2, "train")]
    assert list(run.rows["loss"].dropna()) == [1, 8]


def test_a_long_file_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(train_log, "BLOCK", 300)
    log = write(tmp_path / "train.jsonl", *(row(step) for step in range(1, 50)))
    run = RunLog(log)
    run.read()
    assert list(run.rows["step"]) == list(range(1, 50))
    with open(log, "a") as file:
        file.write("x" * 1000 + "\n" + json.dumps(row(50)) + "\n")
    run.read()
    assert run.rows["step"].iloc[-1] == 50
    assert run.unreadable >= 1


@pytest.mark.parametrize(
    ("text", "steps", "unreadable"),
    [
        ("", [], 0),
        ("\n \n", [], 0),
        ('3\n[]\nnull\n"x"\n{}\n', [], 5),
        ('{"step": "7"}\n{"step": null}\n{"step": -1}\n{"step": 1e400}\n{"step": true}\n{"step": 4}\n', [4], 5),
        ('{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n', [1, 2], 0),
        ('{"step": 1, "loss": "low"}\n{"step": 2, "loss": 3}\n', [1, 2], 0),
        ('{"step": 1, "x": [1]}\n{"step": 2, "x": {"y": 1}}\n', [1, 2], 0),
        ('{"step": 1, "arm": "z", "seed": 9, "averaged": 4}\n', [1], 0),
        ('{"step": 1, "a": {"b": 1}, "a.b": 2}\n', [1], 0),
        ('{"step": 1, "when": "2026-01-01"}\n', [1], 0),
        ('{"a": ' * 5000 + "1" + "}" * 5000 + "\n" + '{"step": 1}\n', [1], 1),
        ('{"step": 1, "a": ' + "[" * 5 + "]" * 5 + '}\n{"step": 2}\n', [1, 2], 0),
        ('{"step": 1, "a": ' + "[" * 5000 + "]" * 5000 + '}\n{"step": 2}\n', [2], 1),
        ("[" * 40_000 + "\n" + '{"step": 1}\n', [1], 1),
        ('{"step": 1, "a": ' + '{"a":' * 40_000 + "\n" + '{"step": 2}\n', [2], 1),
        ("\x00\ufffd{\n" + '{"step": 5}\n', [5], 1),
    ],
)
def test_lines_that_are_no_rows(text, steps, unreadable):
    rows, found = parse(text.encode())
    assert list(rows["step"]) == steps
    assert found == unreadable
    assert list(rows)[:2] == ["kind", "step"]
    assert not {"arm", "seed", "averaged", "when"} & set(rows) or rows[[*{"when"} & set(rows)]].isna().all(
        axis=None
    )
    for name in rows.columns.drop("kind"):
        assert pd.api.types.is_numeric_dtype(rows[name])
        assert np.isfinite(rows[name].dropna()).all()


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_any_bytes_in_any_pieces_give_the_same_rows(tmp_path_factory, noise, cuts):
    good = "".join(json.dumps(row(step)) + "\n" for step in (1, 2, 3)).encode()
    content = good + noise + b"\n" + json.dumps(row(4)).encode() + b"\n"
    folder = tmp_path_factory.mktemp("pieces")
    whole, pieces = RunLog(folder / "whole"), RunLog(folder / "pieces")
    whole.path.write_bytes(content)
    whole.read()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        with open(pieces.path, "ab") as file:
            file.write(content[start:end])
        pieces.read()
    assert {1, 2, 3, 4} <= set(whole.rows["step"])
    assert pieces.unreadable == whole.unreadable
    pd.testing.assert_frame_equal(pieces.rows, whole.rows, check_like=True)


# -- a study's logs ----------------------------------------------------------------------------------------------


def test_the_same_frame_until_a_log_grows(tmp_path):
    study = make_study(tmp_path / "one", examples=10)
    logs = StudyLogs(study)
    first = logs.read()
    assert logs.read() is first
    append_jsonl(study.run_path("opd", 1) / "train.jsonl", row(101))
    grown = logs.read()
    assert len(grown) == len(first) + 1
    append_jsonl(study.run_path("new", 0) / "train.jsonl", row(1))
    assert ("new", 0) in set(zip(logs.read()["arm"], logs.read()["seed"], strict=True))
    assert logs.written() is not None
    assert logs.problems() == []


def test_problems_are_named(tmp_path):
    study = make_study(tmp_path / "one", seeds=(0,), examples=10)
    with open(study.run_path("opd", 0) / "train.jsonl", "a") as file:
        file.write("x\ny\n")
    broken = study.run_path("nca", 0) / "train.jsonl"
    broken.unlink()
    broken.mkdir()
    logs = StudyLogs(study)
    assert set(logs.read()["arm"]) == {"opd"}
    assert logs.problems()[0].startswith("The log of nca seed 0 cannot be read")
    assert logs.problems()[1] == "2 lines of opd seed 0 could not be read and were left out."


def test_no_runs(tmp_path):
    study = make_study(tmp_path / "one", tables=())
    table = StudyLogs(study).read()
    assert table.empty
    assert list(table) == ["arm", "seed", "kind", "step", "averaged"]
    assert StudyLogs(study).written() is None


def test_threads_share_it(tmp_path):
    study = make_study(tmp_path / "one", seeds=(0,), examples=10)
    logs, found = StudyLogs(study), []

    def look() -> None:
        for _ in range(20):
            found.append(len(logs.read()))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for each in threads:
        each.start()
    for step in range(101, 121):
        append_jsonl(study.run_path("opd", 0) / "train.jsonl", row(step))
    for each in threads:
        each.join()
    assert len(logs.read()) == len(study.training())
    assert max(found) <= len(study.training())


# -- thinning ------------------------------------------------------------------------------------------------------


def test_short_logs_are_not_thinned():
    rows, _ = parse("".join(json.dumps(row(step, step)) + "\n" for step in range(1, 501)).encode())
    thinned = thin(rows, bin_widths([rows]))
    assert len(thinned) == 500
    assert list(thinned["loss"]) == list(range(1, 501))


def test_long_logs_become_means_over_equally_many_steps():
    text = "".join(json.dumps(row(step, step)) + "\n" for step in range(1, 1001))
    evals = "".join(json.dumps({"kind": "eval", "step": step, "acc_x": 0.5}) + "\n" for step in (0, 500, 1000))
    rows, _ = parse((text + evals).encode())
    widths = bin_widths([rows], points=100)
    assert widths == {"train": 10, "eval": 1}
    thinned = thin(rows, widths)
    trained = thinned[thinned["kind"] == "train"]
    assert list(trained["step"]) == list(range(10, 1001, 10))
    assert list(trained["loss"]) == [step - 4.5 for step in trained["step"]]
    assert set(trained["averaged"]) == {10}
    assert list(thinned.loc[thinned["kind"] == "eval", "step"]) == [0, 500, 1000]
    assert thinned.loc[thinned["kind"] == "eval", "acc_x"].tolist() == [0.5] * 3


@given(st.integers(1, 10**7), st.integers(10, 600))
def test_no_line_has_more_points_than_that(last, points):
    width = train_log.round_up(-(-last // points))
    assert -(-last // width) <= points


def test_bins_are_the_same_for_all_runs(tmp_path):
    study = make_study(tmp_path / "one", tables=())
    for seed, last in ((0, 300), (1, 120)):
        path = study.run_path("opd", seed) / "train.jsonl"
        path.parent.mkdir(parents=True)
        write(path, *(row(step) for step in range(1, last + 1)))
    table = StudyLogs(study, points=50).read()
    assert set(table.loc[table["seed"] == 1, "step"]) <= set(table.loc[table["seed"] == 0, "step"])
    assert len(table[table["seed"] == 0]) == 30
