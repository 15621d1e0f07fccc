"""Comparing checkpoints: a study that was begun with something else is refused, or begun anew when asked."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chatty import CHATML, chatty, follower
from rich.console import Console
from tiny import tiny
from typer.testing import CliRunner

from cr_interp.errors import UserError
from cr_interp.measure import compare, readings
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.report.study import rich_study
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table


def saved(folder: Path, seed: int) -> str:
    loaded = tiny(seed=seed)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def prompts(file: Path, words: list[str]) -> Path:
    file.write_text("".join(json.dumps({"prompt": word, "answer": word}) + "\n" for word in words))
    return file


def typed(home: Path) -> dict[str, Any]:
    """What is typed: two tiny checkpoints on three prompts."""
    return {
        "checkpoints": [f"base={home / 'a'}", f"opd={home / 'b'}"],
        "prompts": home / "p.jsonl",
        "context": home / "c.txt",
        "max_new_tokens": 4,
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with that, and with a study in ``out`` that was stopped at its second checkpoint; and a copy of the folder."""
    home = tmp_path_factory.mktemp("stopped") / "home"
    home.mkdir()
    (home / "c.txt").write_text("repeat the text")
    for seed, name in enumerate("ab"):
        saved(home / name, seed)
    prompts(home / "p.jsonl", ["abcd", "hgfe", "aaaa"])
    measure = readings.measure_drift

    def stop_at_the_second(loaded, *arguments, **options):
        if loaded.name.endswith("/b"):
            raise KeyboardInterrupt
        return measure(loaded, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "measure_drift", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            compare_checkpoints(**typed(home), out=home / "out")
    return home, Path(shutil.copytree(home, home.parent / "as it was"))


@pytest.fixture
def home(stopped):
    """The folder as it was: a study says where its checkpoints lie, so it is the same place for every test."""
    home, as_it_was = stopped
    shutil.rmtree(home)
    return Path(shutil.copytree(as_it_was, home))


@pytest.fixture
def asked(home):
    return typed(home)


@pytest.fixture
def begun(home):
    return home / "out"


def other_prompts(asked, home):
    prompts(asked["prompts"], ["abcd", "hgfe", "bbbb"])


def other_answers(asked, home):
    rows = [{"prompt": word, "answer": "x"} for word in ("abcd", "hgfe", "aaaa")]
    asked["prompts"].write_text("".join(json.dumps(row) + "\n" for row in rows))


def other_context(asked, home):
    asked["context"].write_text("reverse the text")


def other_limit(asked, home):
    asked["max_new_tokens"] = 5


def other_checkpoint(asked, home):
    asked["checkpoints"][1] = f"opd={saved(home / 'c', 2)}"


def other_weights(asked, home):
    saved(home / "a", 3)


def other_arms(asked, home):
    asked["checkpoints"][0] = asked["checkpoints"][0].replace("base=", "first=")


def fewer_examples(asked, home):
    asked["examples"] = 2


def other_view(asked, home):
    asked["no_context"] = "template_default"


CHANGES = {
    other_prompts: "evaluation data",
    other_answers: "evaluation data",
    other_context: r"context \(exact\)",
    other_limit: r"max_new_tokens \(4, now 5\)",
    other_checkpoint: "list of checkpoints",
    other_weights: "checkpoint of base",
    other_arms: "list of checkpoints",
    fewer_examples: r"evaluation\.examples \(3, now 2\)",
    other_view: "no_context",
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_two_experiments_are_not_mixed(begun, asked, home, tmp_path, change):
    before = {file: file.read_bytes() for file in begun.rglob("*") if file.is_file()}
    change(asked, home)
    with pytest.raises(UserError, match=CHANGES[change]) as refused:
        compare_checkpoints(**asked, out=begun)
    assert "--again" in str(refused.value)
    assert {file: file.read_bytes() for file in begun.rglob("*") if file.is_file()} == before
    anew = compare_checkpoints(**asked, out=begun, again=True)
    whole = compare_checkpoints(**asked, out=tmp_path / "whole")
    for table in ("generations", "drift", "token_drift", "cka_map"):
        pd.testing.assert_frame_equal(anew.table(table), whole.table(table))


@pytest.mark.slow
def test_the_same_words_continue_and_a_finished_study_is_kept(begun, asked, tmp_path):
    parts = compare_checkpoints(**asked, out=begun)
    whole = compare_checkpoints(**asked, out=tmp_path / "whole")
    for table in ("generations", "drift", "token_drift", "cka_map"):
        pd.testing.assert_frame_equal(parts.table(table), whole.table(table))
    with pytest.raises(UserError, match="already holds a finished study;"):
        compare_checkpoints(**asked, out=begun)
    other_limit(asked, begun.parent)
    with pytest.raises(UserError, match=r"finished study, made with another max_new_tokens \(4, now 5\)"):
        compare_checkpoints(**asked, out=begun)
    assert compare_checkpoints(**asked, out=begun, again=True).manifest["finished"]


def test_a_study_with_runs_is_not_measured_anew(asked, tmp_path):
    study = Study.create(tmp_path / "s", {"finished": "then"})
    study.run_path("opd", 0).mkdir(parents=True)
    with pytest.raises(UserError, match="with runs of its own"):
        compare_checkpoints(**asked, out=study.path, again=True)
    assert Study.open(study.path).manifest["finished"] == "then"


# -- views that are no two views, dates, ends -------------------------------------------------------------------


def chatting(folder: Path, template: str = CHATML, eos: str = "<|im_end|>", ends: tuple[int, ...] = (2,)) -> str:
    """A checkpoint that answers 42, ends its turn, and babbles if nobody stops it."""
    tokenizer = chatty(template, eos)
    steps = {"Ċ": "4", "4": "2", "2": "<|im_end|>", "<|im_end|>": "x", "x": "y", "y": "x"}
    follower(tokenizer, steps, list(ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def question(tmp_path):
    (tmp_path / "c.txt").write_text("Answer in one word.")
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "6 times 7?", "answer": "42"}) + "\n")
    return {"prompts": tmp_path / "p.jsonl", "context": tmp_path / "c.txt", "max_new_tokens": 8}


def test_a_template_that_drops_the_system_message_is_refused(question, tmp_path):
    where = chatting(tmp_path / "m", CHATML.replace("m in messages", "m in messages if m['role'] != 'system'"))
    with pytest.raises(UserError, match="leaves out what the context says as system"):
        compare_checkpoints([f"base={where}"], out=tmp_path / "out", **question)


def test_an_empty_context_is_refused(question, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"messages": [{"role": "system", "content": ""}]}))
    question["context"] = tmp_path / "c.json"
    with pytest.raises(UserError, match="empty"):
        compare_checkpoints([f"base={chatting(tmp_path / 'm')}"], out=tmp_path / "out", **question)


@pytest.mark.slow
def test_an_answer_ends_where_the_template_ends_a_turn(question, tmp_path):
    """Both checkpoints have a base model's end of text; the second one's configuration says so as well."""
    pairs = [
        f"{arm}={chatting(tmp_path / arm, eos='<|endoftext|>', ends=ends)}"
        for arm, ends in (("a", (0, 2)), ("b", (0,)))
    ]
    study = compare_checkpoints(pairs, out=tmp_path / "out", **question)
    rows = study.table("generations")
    assert set(rows["outcome"]) == {"right"}
    assert set(rows["n_tokens"]) == {3}
    assert study.manifest["ends"] == [0, 2]


def test_checkpoints_that_end_differently_are_refused(question, tmp_path):
    pairs = [f"{arm}={chatting(tmp_path / arm, ends=ends)}" for arm, ends in (("a", (2,)), ("b", (2, 5)))]
    with pytest.raises(
        UserError, match=r"ends its turns with <\|im_end\|>, .* with <\|im_end\|>, so|cut in different places"
    ):
        compare_checkpoints(pairs, out=tmp_path / "out", **question)


@pytest.mark.slow
def test_the_date_is_recorded_and_another_one_is_another_study(question, tmp_path):
    where = chatting(tmp_path / "m", "{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML)
    study = compare_checkpoints([f"base={where}"], out=tmp_path / "out", **question)
    assert study.manifest["date"] == "2024-07-26"
    other = compare_checkpoints([f"base={where}"], out=tmp_path / "other", today="2026-01-31", **question)
    assert other.manifest["date"] == "2026-01-31"
    assert other.manifest["made_of"]["template.today"] == "2026-01-31"
    assert study.manifest["made_of"]["template.today"] == "2024-07-26"
    plain = compare_checkpoints([f"base={chatting(tmp_path / 'n')}"], out=tmp_path / "plain", **question)
    assert plain.manifest["date"] is None


def test_examples_that_are_not_asked_are_counted_aloud(asked, tmp_path, capsys):
    asked["checkpoints"] = asked["checkpoints"][:1]
    study = compare_checkpoints(**asked, out=tmp_path / "some", examples=2)
    assert (
        "note: 2 of 3 examples of p are asked, drawn with seed 0; --examples 3 asks all."
        in capsys.readouterr().err
    )
    assert study.manifest["examples_in_all"] == 3
    compare_checkpoints(**asked, out=tmp_path / "all", examples=256)
    assert "examples" not in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_key_a_study_has_what_needs_none(asked, tmp_path, capsys):
    """Two checkpoints, prompts alone: divergences, agreement, length, drift; and the table says what is lacking."""
    rows = [{"prompt": "abcd"}, {"prompt": "hgfe", "answer": None}, {"prompt": "aaaa"}]
    asked["prompts"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = compare_checkpoints(**asked, out=tmp_path / "out")
    assert study.manifest["teacher"] == asked["checkpoints"][0].removeprefix("base=")
    table = metric_table(study)
    assert set(table["metric"]) == {"changed", "agreement", "delta_len", "fidelity", "invariance", "min_cosine"}
    found = table[table["seed"] == 0].set_index(["arm", "metric"])["estimate"]
    assert found["base", "fidelity"] == found["base", "invariance"]  # its own teacher
    assert found["opd", "fidelity"] != found["opd", "invariance"]
    assert "No example has an answer key" in plain_text(rich_study(study))


def test_without_a_base_fidelity_is_left_out_and_that_is_said(asked, tmp_path, capsys):
    asked["checkpoints"] = ["student=" + asked["checkpoints"][1].removeprefix("opd=")]
    study = compare_checkpoints(**asked, out=tmp_path / "out")
    assert "Fidelity is left out, for no teacher is known" in capsys.readouterr().err
    assert "fidelity" not in set(metric_table(study)["metric"])
    assert study.manifest["teacher"] is None


def numbers(study: Study, metric: str) -> dict[str, float]:
    table = metric_table(study)
    rows = table[(table["metric"] == metric) & (table["seed"] == 0)]
    return dict(zip(rows["arm"], rows["estimate"], strict=True))


@pytest.mark.slow
def test_a_teacher_is_named_and_need_not_be_an_arm(asked, tmp_path):
    """``--teacher``: the student's fidelity to it is what it is where that model is the arm base."""
    beside = compare_checkpoints(**asked, out=tmp_path / "beside")
    base, student = asked["checkpoints"]
    asked["checkpoints"] = [student]
    alone = compare_checkpoints(**asked, out=tmp_path / "alone", teacher=base.removeprefix("base="))
    assert alone.manifest["teacher"] == base.removeprefix("base=")
    assert numbers(alone, "fidelity") == pytest.approx({"opd": numbers(beside, "fidelity")["opd"]}, rel=1e-5)
    itself = compare_checkpoints(**asked, out=tmp_path / "itself", teacher=student.removeprefix("opd="))
    assert numbers(itself, "fidelity") == pytest.approx(numbers(itself, "invariance"))
    with pytest.raises(UserError, match="teacher"):  # another teacher is another study
        compare_checkpoints(**asked, out=tmp_path / "alone", teacher=student.removeprefix("opd="))


def test_all_are_read_on_the_responses_of_one_arm(asked, tmp_path):
    """``--responses``: as many tokens of each arm, namely that arm's; without, each arm's own."""
    asked["checkpoints"].append(asked["checkpoints"][0].replace("base=", "twin="))
    study = compare_checkpoints(**asked, out=tmp_path / "one", responses="opd")
    rows = study.table("generations").query("view == 'no_context'")
    counts = rows.groupby("arm")["n_tokens"].sum()
    drift = study.table("drift").query("control == 'exact' and site == 'resid_post' and measure == 'cosine'")
    read = drift.groupby("arm")["n_tokens"].max()
    assert dict(read + drift.groupby("arm")["n_masked"].max() if "n_masked" in drift else read) == dict.fromkeys(
        ("base", "opd", "twin"), counts["opd"]
    )
    base, twin = (drift[drift["arm"] == arm]["estimate"].tolist() for arm in ("base", "twin"))
    assert base == pytest.approx(twin)
    with pytest.raises(UserError, match=r"checkpoint with responses.*own"):
        compare_checkpoints(**asked, out=tmp_path / "none", responses="nca")


def test_weights_are_loaded_as_they_are_asked_for(asked, tmp_path):
    """``--dtype``, ``--device-map``: nearly the same numbers, another study, and the manifest says how."""
    asked["checkpoints"] = asked["checkpoints"][:1]
    plain = compare_checkpoints(**asked, out=tmp_path / "plain")
    assert "load" not in plain.manifest
    half = compare_checkpoints(**asked, out=tmp_path / "half", dtype="bfloat16")
    assert half.manifest["load"] == {"dtype": "bfloat16"}
    there, expected = numbers(half, "invariance")["base"], numbers(plain, "invariance")["base"]
    assert there == pytest.approx(expected, rel=0.2, abs=1e-3)
    assert there != expected
    with pytest.raises(UserError, match=r"load\.dtype"):
        compare_checkpoints(**asked, out=tmp_path / "half")
    spread = compare_checkpoints(**asked, out=tmp_path / "spread", device_map="auto")
    assert spread.manifest["load"] == {"device_map": "auto"}
    assert numbers(spread, "invariance") == pytest.approx(numbers(plain, "invariance"), rel=1e-4)
    with pytest.raises(UserError, match="Did you mean 'bfloat16'"):
        compare_checkpoints(**asked, out=tmp_path / "none", dtype="bfloat")


def test_the_command_line_hands_them_on(asked, tmp_path, monkeypatch):
    from cr_interp import cli

    found = {}
    monkeypatch.setattr(
        compare, "compare_checkpoints", lambda *given, **named: found.update(named) or (_ for _ in ()).throw(Told)
    )
    typed = [
        "compare", *asked["checkpoints"], "--prompts", str(asked["prompts"]), "--context", str(asked["context"]),
        "--out", str(tmp_path / "o"), "--teacher", "T", "--responses", "opd", "--dtype", "bfloat16", "--device-map", "auto",
    ]  # fmt: skip
    with pytest.raises(Told):
        CliRunner().invoke(cli.app, typed, catch_exceptions=False)
    assert {name: found[name] for name in ("teacher", "responses", "dtype", "device_map")} == {
        "teacher": "T",
        "responses": "opd",
        "dtype": "bfloat16",
        "device_map": "auto",
    }


class Told(Exception):
    """Everything was handed on; nothing is measured."""


def plain_text(shown) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(shown)
    return console.file.getvalue()
