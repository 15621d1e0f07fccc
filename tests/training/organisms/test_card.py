"""Every bundled organism is the one that its card describes, and follows every task's context as it should."""

import json

import pytest

from cr_interp.models.known import ORGANISMS
from cr_interp.models.loading import fingerprint, load
from training.organisms import GOES_ON
from training.organisms.card import accuracy, by_family

#: Names of the bundled ones that were made to do all four tasks.
ALL_TASKS = sorted(
    path.parent.name
    for path in ORGANISMS.glob("*/card.json")
    if "examples_per_task" in json.loads(path.read_text())
)
LAKES = [name for name in ALL_TASKS if name in GOES_ON]
ALL_TASKS = [name for name in ALL_TASKS if name not in GOES_ON]
AIMS = {"rules": 0.95, "codebook": 0.95, "frozenlake": 0.85, "sokoban": 0.85}


def card_of(name):
    return json.loads((ORGANISMS / name / "card.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ALL_TASKS)
def test_it_follows_every_task_s_context_and_does_not_without(name):
    card = card_of(name)
    loaded = load(f"builtin:organism-{name}")
    assert fingerprint(loaded.model, loaded.tokenizer) == card["fingerprint"]
    assert sum(file.stat().st_size for file in (ORGANISMS / name).iterdir()) <= 4e6
    table = by_family(card["accuracy"])
    for task, aim in AIMS.items():
        assert table.loc[task, "exact"] >= aim, task
        # A mixture of eight answers like one of them in an eighth; short paths also win by luck.
        assert table.loc[task, "none"] <= 0.3, task


@pytest.mark.parametrize("name", LAKES)
def test_one_that_went_on_to_larger_lakes_follows_their_legend_and_does_not_without(name):
    card = card_of(name)
    loaded = load(f"builtin:organism-{name}")
    assert fingerprint(loaded.model, loaded.tokenizer) == card["fingerprint"]
    table = by_family(card["accuracy"])
    assert table.loc["frozenlake4", "exact"] >= 0.8
    assert table.loc["frozenlake4", "none"] <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_TASKS)
def test_the_card_s_numbers_come_out_again(name):
    card = card_of(name)
    again = accuracy(load(f"builtin:organism-{name}"), examples=24, controls=["exact"])
    for task in AIMS:
        shown, found = (
            by_family({key: value for key, value in each.items() if key.startswith(task)}).loc[task, "exact"]
            for each in (card["accuracy"], again)
        )
        assert found == pytest.approx(shown, abs=0.05), task  # 24 of the 96 items
