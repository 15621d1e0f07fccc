"""The folder that a task of one's own starts from: whole, never over something, and it runs as written."""

import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.yours.new import new_task
from training.run.distill import distill
from training.settings import load_config
from training.studies.pipeline import evaluate_study, open_or_create

SHORT = [
    "training.steps=2",
    "training.batch_size=4",
    "training.eval_every=2",
    "training.eval_examples=4",
    "training.save_every=2",
    "evaluation.examples=4",
    "evaluation.permutations=9",
    "arms=[nca]",
]


@pytest.mark.slow
@pytest.mark.parametrize("python", [False, True])
def test_it_runs_as_written(python, tmp_path):
    files = new_task("mine", tmp_path / "mine", python)
    assert all(path.is_file() for path in files)
    assert not list(tmp_path.glob(".*"))
    config = load_config(str(tmp_path / "mine" / "study.yaml"), SHORT)
    study = open_or_create(config, tmp_path / "study")
    distill(config, "nca", 0, study)
    rows = evaluate_study(study, config).table("generations")
    assert set(rows["arm"]) == {"base", "nca"}
    assert set(rows["control"]) == {"none", "exact", "paraphrase", "mismatched", "irrelevant"}


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists already"):
        new_task("mine", tmp_path / "mine")
    with pytest.raises(UserError, match="no name for a task"):
        new_task("a/b", tmp_path / "b")
