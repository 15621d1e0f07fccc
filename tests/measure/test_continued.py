"""A comparison that grows, moves, and runs out of memory: later arms, checkpoints that are gone, batches that fit."""

import json
import shutil

import pandas as pd
import pytest
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.measure.asked import task_parts
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.measure.fitting import fitting
from cr_interp.measure.pairs import Question, choose_task, parse_columns, parse_grader, parse_pairs
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject
from cr_interp.mechanism.whereabouts import model_of_arm, models_of
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table


def save(folder, seed):
    loaded = tiny(seed=seed)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    for seed, name in enumerate(("base", "opd", "nca")):
        save(folder / name, seed)
    rows = [{"prompt": word, "answer": word} for word in ("abcd", "hgfe", "aaaa")]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "c.txt").write_text("repeat the text")
    return folder


def compare(home, *names, **more):
    chosen = {"prompts": home / "p.jsonl", "context": home / "c.txt", "max_new_tokens": 4, **more}
    return compare_checkpoints([f"{name}={home / name}" for name in names], home / "study", **chosen)


@pytest.mark.slow
def test_a_finished_study_takes_a_later_arm_whose_elders_are_gone(home, capsys):
    first = compare(home, "base", "opd")
    before = {name: first.table(name) for name in ("generations", "divergence", "drift")}
    shutil.rmtree(home / "base")
    study = compare(home, "nca")
    said = capsys.readouterr().err
    assert "nca: added to the finished study study" in said
    assert "Maps against base are left out" in said
    assert "Fidelity is left out, for the teacher is not here" in said
    for name, table in before.items():
        rows = study.table(name)
        pd.testing.assert_frame_equal(rows[rows["arm"] != "nca"].reset_index(drop=True), table)
        assert len(rows[rows["arm"] == "nca"])
    assert study.manifest["finished"]
    assert set(metric_table(study)["arm"]) == {"base", "nca", "opd"}
    with pytest.raises(UserError, match=r"another max_new_tokens \(4, now 5\)"):
        compare(home, "nca", max_new_tokens=5)
    save(home / "opd", 5)
    with pytest.raises(UserError, match="another checkpoint of opd"):
        compare(home, "opd")


@pytest.mark.slow
def test_a_study_that_moved_finds_what_moved_with_it(home, tmp_path, capsys):
    compare(home, "base", "opd")
    there = tmp_path / "elsewhere"
    shutil.move(home, there)
    study = Study.open(there / "study")
    assert model_of_arm(study, "opd") == str(there / "opd")
    shutil.rmtree(there / "opd")
    assert model_of_arm(study, "opd") is None
    with pytest.raises(UserError, match="the checkpoints of opd are not here"):
        models_of(study, [("base", 0, 0), ("opd", 0, 0)])


@pytest.fixture(scope="module")
def subject():
    from cr_interp.tasks import get_task

    loaded = tiny()
    return Subject.of(
        get_task("rules:shift"), loaded.tokenizer, "empty_system", Evaluation(examples=2, batch_size=16)
    )


def test_what_does_not_fit_is_done_fewer_at_a_time(subject, capsys):
    asked = []

    def make(some):
        asked.append(some.evaluation.batch_size)
        if asked[-1] > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
        return "made"

    assert fitting(subject, make) == "made"
    assert asked == [16, 8, 4]
    assert "going on with 4 examples at a time" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), UserError("no"), MemoryError()])
def test_other_faults_and_single_examples_are_told(subject, error):
    def make(some):
        raise error

    with pytest.raises(type(error)):
        fitting(subject, make)


# -- what is typed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["opd@x=a"], "a seed is a whole number"),
        (["opd@0=a", "opd=b"], "names seed 0 of opd a second time"),
        (["opd@1=a", "opd@01=b"], "a second time"),
    ],
)
def test_seeds_that_are_typed_wrongly(pairs, said):
    with pytest.raises(UserError, match=said):
        parse_pairs(pairs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boxes", "'boxes' is no grader"),
        ("boxed:x", "takes no setting"),
        ("regex", "needs 'pattern'"),
        ("judge", "needs 'judge'"),
        ("python:g.py", None),
    ],
)
def test_graders_that_are_typed_wrongly(text, said):
    if said is None:
        assert parse_grader(text)[0].function == "g.py"
        return
    with pytest.raises(UserError, match=said):
        parse_grader(text)


def test_a_grader_in_a_folder_of_its_own(tmp_path):
    grading, folder = parse_grader(f"python:{tmp_path / 'g.py'}:grade")
    assert (grading.function, folder) == ("g.py:grade", tmp_path)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"task": "rules:shift", "each": "x"}, "not both"),
        ({"prompts": "p.jsonl", "each": "{a}", "context": "c.txt"}, "give one of them"),
        ({"prompts": "p.jsonl"}, "brings no contexts"),
        ({"prompts": "p.txt"}, "no JSONL, JSON, CSV or Parquet file"),
        ({"prompts": "p.jsonl", "context": "c.txt", "new_instruction": "json"}, "Name it in --controls"),
        ({"prompts": "p.jsonl", "context": "c.txt", "controls": "o.yaml"}, "control 'mismatch'"),
        (
            {"prompts": "p.jsonl", "context": "c.txt", "columns": {"paraphrase": "b"}},
            "--column paraphrase=… one of each row",
        ),
        (
            {"prompts": "p.jsonl", "context": "c.txt", "columns": {"context": "b"}},
            "--column context=… one of each row",
        ),
        ({"prompts": "p.jsonl", "context": "c.txt", "controls": "each.yaml"}, "filled from each row"),
        ({"prompts": "p.jsonl", "context": "c.txt", "controls": "no.yaml"}, "is out of reach"),
        ({"prompts": "nobody/nothing"}, "unset HF_HUB_OFFLINE|extra 'hub'|neither on this machine"),
    ],
)
def test_questions_that_do_not_fit_together(question, said, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text('{"prompt": "a"}\n')
    Path("p.txt").write_text("a")
    Path("c.txt").write_text("c")
    Path("o.yaml").write_text("mismatch: {text: x}\n")
    Path("each.yaml").write_text("mismatched: {each: 'x {a}'}\n")
    Path("no.yaml").write_text(f"mismatched: {{url: 'https://a b', sha256: '{'0' * 64}'}}\n")
    typed = {name: Path(each) if name in ("context", "controls") else each for name, each in question.items()}
    with pytest.raises(UserError, match=said):
        choose_task(Question(**typed))


def test_columns_that_are_typed_wrongly():
    for text, said in (("prompt", "is not NAME=COLUMN"), ("promt=x", "column 'promt'")):
        with pytest.raises(UserError, match=said):
            parse_columns([text])


def test_another_grader_is_another_question(tmp_path):
    """Of the usual one nothing is noted, as in older studies; a file counts by its content."""
    rows = tmp_path / "p.jsonl"
    rows.write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "c.txt").write_text("c")
    grader = tmp_path / "g.py"
    grader.write_text("def grade(prompt, response, answer):\n    return True\n")

    def parts(text):
        task = choose_task(Question(prompts=str(rows), context=tmp_path / "c.txt", grader=text))
        return task_parts(task, "p")

    assert "grader" not in parts(None)
    one, two = parts("regex:x"), parts("regex:y")
    assert one["grader"] != two["grader"]
    before = parts(f"python:{grader}:grade")
    grader.write_text("def grade(prompt, response, answer):\n    return False\n")
    assert parts(f"python:{grader}:grade") != before
