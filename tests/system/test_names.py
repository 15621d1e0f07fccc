"""One rule for names, checked before anything runs; and what has another name all the same is found and shown."""

import json
import os
import sys

import pytest

from cr_interp.cli import main
from cr_interp.errors import UserError
from cr_interp.measure.pairs import parse_pairs
from cr_interp.study.searching import find_studies
from cr_interp.study.study import Study
from cr_interp.system.names import LONGEST, check_folder, check_name, fault
from cr_interp.system.visible import visible
from cr_interp.tables.suite import open_suite
from cr_interp.tasks.yours.new import new_task
from training.commands import _chosen
from training.settings import load_config

GOOD = ["opd", "nca_beta0.1", "no", "1", "α β", "opd[a]", "学生", "a" * LONGEST, "x-s1", "run (2)"]
BAD = [
    "", " ", "x/y", "../../esc", "..", ".", ".hidden", "-rf", "a,b", "a=b", "a\\b", "a\x1b[31m", "a\nb", "a\u202eb", "a\udcff",
    " a", "a ", "é" * (LONGEST // 2 + 1), "n" * 300, "\x00",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_name_is_a_name_everywhere(name, tmp_path):
    assert check_name("an arm", name) == name
    assert load_config("organism-shift", [f"name={json.dumps(name)}"]).name == name
    own = {name: ["KL(q_x || f)"]}
    chosen = load_config("organism-shift", [f"own_arms={json.dumps(own)}", *_chosen(name, None, None)])
    assert chosen.arms == (name,)
    assert list(parse_pairs([f"{name}=somewhere"])) == [name]
    study = Study.create(tmp_path / name, {})
    study.run_path(name, 4294967295).mkdir(parents=True)
    (study.run_path(name, 4294967295) / "train.jsonl").touch()
    assert study.runs() == [(name, 4294967295)]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused_before_anything_is_made(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fault(name)
    with pytest.raises(UserError):
        check_name("an arm", name)
    if "=" not in name:  # which is where a pair is cut
        with pytest.raises(UserError):
            parse_pairs([f"{name}=somewhere"])
    with pytest.raises(UserError):
        new_task(name, tmp_path / "task")
    text = json.dumps(name)
    for override in (f"name={text}", f"arms=[{text}]", f'own_arms={{{text}: ["KL(q_x || f)"]}}'):
        with pytest.raises(UserError) as refused:
            load_config("organism-shift", [override])
        assert not any(character in visible(str(refused.value)) for character in "\x1b\x00\u202e\udcff")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("arms=[no]", "reads this as bool; put it in quotes"),
        ("arms=[1]", "reads this as int; put it in quotes"),
        ("arms=[]", "'arms'"),
        ("arms=[opd,opd]", "each may be given once"),
        ("seeds=[]", "'seeds'"),
        ("seeds=[-1]", "'seeds.0'"),
        ("seeds=[0,0]", "each may be given once"),
        ("seeds=[4294967296]", "'seeds.0'"),
        ("seeds=[0.5]", "'seeds.0'"),
        ("name=no", "put it in quotes"),
        ("own_arms={base: [KL(q_x || f)]}", "stands for the model before training"),
        ("own_arms={own: [KL(q_x || f)]}", "stands for responses"),
    ],
)
def test_what_yaml_or_the_study_takes_for_something_else_is_said(override, said):
    with pytest.raises(UserError, match=said):
        load_config("organism-shift", [override])


@pytest.mark.parametrize("name", ["no", "1", "on"])
def test_a_new_task_of_any_name_can_be_read(name, tmp_path):
    new_task(name, tmp_path / "task")
    assert load_config(str(tmp_path / "task" / "study.yaml")).name.startswith(name)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    assert check_folder(tmp_path / "mine, too") == tmp_path / "mine, too"
    for name in ("a\x1b", "n" * 256):
        with pytest.raises(UserError):
            check_folder(tmp_path / name)


def test_one_odd_folder_or_broken_manifest_does_not_take_the_others_away(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    Study.create(tmp_path / "suite" / "good", {})
    Study.create(tmp_path / "suite" / "bad", {})
    (tmp_path / "suite" / "bad" / "manifest.json").write_text("{")
    Study.create(tmp_path / "red\x1b[31m", {})
    if sys.platform == "linux":
        os.makedirs(os.fsencode(tmp_path) + b"/odd\xff")
        Study.create(tmp_path / os.fsdecode(b"odd\xff"), {})
    found = find_studies()
    assert {"suite/good", "suite/bad", "red\x1b[31m"} <= set(found)
    suite = open_suite(tmp_path / "suite")
    assert list(suite.studies) == ["good"]
    assert "damaged" in suite.broken["bad"]
    assert "bad is left out" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["cr-interp", "studies"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "suite/good" in shown
    assert "\x1b" not in shown
    assert "odd\\udcff" in shown


def test_a_folder_that_may_not_be_looked_into_is_passed_over(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    Study.create(tmp_path / "good", {})
    (tmp_path / "closed").mkdir()
    is_file, iterdir = Path.is_file, Path.iterdir

    def closed(path: Path, look):
        if "closed" in path.parts:
            raise PermissionError(13, "closed")
        return look(path)

    monkeypatch.setattr(Path, "is_file", lambda path: closed(path, is_file))
    monkeypatch.setattr(Path, "iterdir", lambda path: closed(path, iterdir))
    assert "good" in find_studies()
