"""What screening found of a setting is kept in a file, and is read again as it was."""

import json

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cr_interp.errors import UserError
from training.studies import screened
from training.studies.preregistered import screen
from training.studies.preregistration import load_preregistration
from training.studies.screened import read_screened, write_screened

NAME = "rules-shift-llama"


@pytest.fixture
def plan():
    return load_preregistration("suite-2")


@pytest.fixture
def found():
    """Three rates, two seeds, curves of unequal length; the highest rate needs the fewest steps. One Harm is undefined."""
    rows = []
    for rate, steps in ((3e-4, 8), (1e-3, 7), (3e-3, 6)):
        for seed in (100, 101, 102):
            rows += [(NAME, rate, seed, 20 * k, min(0.9, 0.1 + k / 3 + seed / 7e3)) for k in range(steps)]
    curves = pd.DataFrame(rows, columns=screened.CURVE)
    outcomes = pd.DataFrame(
        {
            "setting": NAME,
            "rate": 3e-3,
            "seed": [100, 101, 102],
            "acc_x": [1 / 3, 0.9, 0.0],
            "harm": [0.1, 2 / 3, np.nan],
            "harm_irrelevant": [0.0, 0.05, np.nan],
            "teacher": 0.97,
        }
    )
    return curves, outcomes[list(screened.OUTCOME)]


def test_what_is_written_is_read_to_the_bit(plan, found, tmp_path):
    assert read_screened(plan, tmp_path, NAME) is None
    write_screened(plan, tmp_path, NAME, *found)
    for before, after in zip(found, read_screened(plan, tmp_path, NAME), strict=True):
        assert_frame_equal(before, after, check_exact=True)


def test_a_copy_beside_the_preregistration_is_as_good(plan, found, tmp_path, monkeypatch):
    """So a machine that comes later goes on where another one stopped."""
    write_screened(plan, tmp_path / "one", NAME, *found)
    monkeypatch.setattr(screened, "FOLDER", tmp_path)
    (tmp_path / "one" / "screened").rename(tmp_path / plan.name)
    monkeypatch.setattr(
        "training.studies.preregistered.run_jobs", lambda *_: pytest.fail("nothing is left to train")
    )
    monkeypatch.setattr(
        "training.studies.preregistered.check_teachers", lambda asked: asked and pytest.fail("all are known")
    )
    grid, choice = screen(plan, tmp_path / "other", [NAME])
    assert grid["rate"].tolist() == [3e-4, 1e-3, 3e-3]
    assert choice[["setting", "rate"]].values.tolist() == [[NAME, 3e-3]]
    assert choice["harm"].item() == pytest.approx(np.nanmean(found[1]["harm"]))


def test_what_belongs_to_another_preregistration_is_passed_over(plan, found, tmp_path):
    write_screened(plan, tmp_path, NAME, *found)
    other = plan.model_copy(update={"eligible": plan.eligible.model_copy(update={"harm": 0.2})})
    assert read_screened(other, tmp_path, NAME) is None
    # The terms of the adaptive arm are chosen after the screening, and change nothing of it.
    later = plan.confirmation.model_copy(update={"adaptive": ("KL(q_x || f)",)})
    assert read_screened(plan.model_copy(update={"confirmation": later}), tmp_path, NAME) is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: "{", "JSON"),
        (lambda told: json.dumps([told]), "mapping|dictionary|object"),
        (
            lambda told: json.dumps({**told, "setting": "rules-swap-llama"}),
            "is about the setting 'rules-swap-llama'",
        ),
        (lambda told: json.dumps({**told, "curves": []}), "curves"),
        (lambda told: json.dumps({**told, "curves": told["curves"][1:]}), "rate 0.0003 with seed 100 is missing"),
        (
            lambda told: json.dumps({**told, "curves": [*told["curves"], {**told["curves"][0], "rate": 0.1}]}),
            "rate 0.1 with seed 100 is none of it",
        ),
        (lambda told: json.dumps({**told, "curves": told["curves"] * 2}), "a run stands there twice"),
        (lambda told: json.dumps({**told, "outcomes": told["outcomes"][:2]}), "one of every seed"),
        (lambda told: json.dumps({**told, "outcomes": [{**told["outcomes"][0], "harm": 2}]}), "harm"),
        (lambda told: json.dumps({**told, "curves": [{**told["curves"][0], "step": [0, 0]}]}), "'step' rises"),
    ],
)
def test_a_damaged_file_is_refused(change, said, plan, found, tmp_path):
    write_screened(plan, tmp_path, NAME, *found)
    path = tmp_path / "screened" / f"{NAME}.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UserError, match=said):
        read_screened(plan, tmp_path, NAME)


def test_outcomes_of_another_rate_than_the_curves_choose_are_refused(plan, found, tmp_path):
    curves, outcomes = found
    write_screened(plan, tmp_path, NAME, curves, outcomes.assign(rate=3e-4))
    with pytest.raises(UserError, match=f"{NAME} is of another rate than its curves choose"):
        screen(plan, tmp_path, [NAME])
