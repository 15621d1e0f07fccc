"""A run stops where its curve has become flat, says so by its last checkpoint, and goes on to the same place after a kill."""

import json
import shutil

import pytest

from cr_interp.study.study import Study
from training.run.distill import distill, is_finished
from training.run.plateau import end_of, final_step, steps_to_plateau
from training.run.trainer import checkpoints
from training.settings import Plateau, Training, load_config

RULE = Plateau(window=3, gain=0.01)
SMALL = [
    "training.steps=40",
    "training.batch_size=4",
    "training.save_every=2",
    "training.eval_every=2",
    "training.eval_examples=4",
    "training.plateau={window: 1, gain: 1}",
    "seeds=[0]",
    "arms=[opd]",
]


def test_the_plateau_is_where_three_evaluations_gain_less_than_a_point_over_the_three_before():
    steps = list(range(0, 200, 20))
    rises = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.9, 0.9, 0.905, 0.9]
    # Means of three: .200 .400 .600 .767 .867 .900 .902 .902, each against the one three before: .902 - .867 is still above .01,
    # so ten evaluations are too few. With two more of .9 the next mean is .902, against .900.
    assert steps_to_plateau(steps, rises, RULE) is None
    assert steps_to_plateau([*steps, 200, 220], [*rises, 0.9, 0.9], RULE) == 200
    assert steps_to_plateau(steps, [0.5] * 10, RULE) == 100
    assert steps_to_plateau(steps[:5], [0.5] * 5, RULE) is None
    assert steps_to_plateau(steps, [i / 10 for i in range(10)], RULE) is None


def rows(values):
    return [{"kind": "eval", "step": 20 * i, "acc_x": value} for i, value in enumerate(values)]


def test_a_run_ends_at_its_plateau_or_after_its_steps():
    flat = rows([0.5] * 9)
    assert end_of(flat, Training(steps=600, plateau=RULE)) == 100
    assert end_of(flat, Training(steps=600)) == 600
    assert end_of(rows([i / 10 for i in range(9)]), Training(steps=600, plateau=RULE)) == 600
    # A training row and an evaluation without a value are no part of the curve.
    odd = [{"kind": "train", "step": 1}, {"kind": "eval", "step": 5, "acc_x": None}, *flat]
    assert end_of(odd, Training(steps=600, plateau=RULE)) == 100


@pytest.mark.slow
def test_it_stops_there_and_after_a_kill_as_well(tmp_path):
    config = load_config("organism-shift", SMALL)
    study = Study.create(tmp_path / "study", {"name": "study"})
    run = study.run_path("opd", 0)
    # Accuracy of an untrained student is 0 at steps 0 and 2: flat at once.
    assert distill(config, "opd", 0, study) == run / "checkpoint-2"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-2"]
    assert is_finished(study, "opd", 0, config)
    assert final_step(run, config.training) == 2
    logged = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["kind"] == "train"] == [1, 2]
    # A kill between the evaluation and the checkpoint.
    shutil.rmtree(run / "checkpoint-2")
    assert not is_finished(study, "opd", 0, config)
    assert distill(config, "opd", 0, study) == run / "checkpoint-2"
