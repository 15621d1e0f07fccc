"""Tasks in Python files: run when named by a person, refused when a study names them, and mistakes told with their line."""

import pytest

from cr_interp.errors import UserError
from cr_interp.study import questions
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from cr_interp.tasks.yours.new import new_task
from training.settings import load_config
from training.studies.pipeline import config_of
from training.task_of import study_task


@pytest.fixture
def folder(tmp_path):
    new_task("mine", tmp_path / "mine", python=True)
    return tmp_path / "mine"


def test_the_template_is_a_task(folder):
    task = get_task(str(folder / "task.py"), run_code=True)
    splits = [{e.prompt for e in task.examples(split, 50)} for split in ("train", "validation", "test")]
    assert not splits[0] & splits[1]
    assert not splits[2] & (splits[0] | splits[1])
    example = task.examples("test", 1)[0]
    assert task.grade(example, example.answer, False) == "right"
    assert task.grade(example, example.answer, True) == "truncated"


def test_what_a_study_names_is_not_run(folder, tmp_path):
    trap = folder / "task.py"
    trap.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + trap.read_text())
    with pytest.raises(UserError, match="never runs code"):
        get_task(str(trap))
    config = load_config(str(folder / "study.yaml"))
    study = Study.create(
        tmp_path / "s",
        {"task": str(trap), "model": config.model, "config": config.model_dump(mode="json")},
    )
    assert questions.task_of(study) is None
    with pytest.raises(UserError, match="--task"):
        config_of(str(study.path))
    assert not (tmp_path / "ran").exists()
    _, named = config_of(str(study.path), task_file=str(trap))
    assert study_task(named).name == "mine"
    assert (tmp_path / "ran").exists()


def test_a_configuration_finds_the_task_beside_it(folder):
    assert study_task(load_config(str(folder / "study.yaml"))).name == "mine"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ny = x +\n", "SyntaxError"),
        ("x = 1\n\nraise ValueError('no rows')\n", r"task\.py, line 3: ValueError: no rows"),
        ("def task():\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("import sys\ndef task():\n    sys.exit()\n", "line 3: SystemExit"),
        ("x = 1\n", r"no function task\(\)"),
        ("def task():\n    return 3\n", "returned a int, which lacks name, max_new_tokens"),
    ],
)
def test_mistakes_are_told_with_their_line(code, said, tmp_path):
    (tmp_path / "task.py").write_text(code)
    with pytest.raises(UserError, match=said):
        get_task(str(tmp_path / "task.py"), run_code=True)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="new-task"):
        get_task(str(tmp_path / "none.py"), run_code=True)
