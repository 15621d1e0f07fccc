"""Prompts are rendered once for runs that have the same ones, and again for any that have not."""

import pytest

from cr_interp.tasks.base import Example
from training.run import prompts
from training.run.made_of import Making
from training.run.step import Prompt
from training.settings import load_config


def parts(seed=0, arm="opd", **changes):
    settings = [f"{name}={value}" for name, value in {"training.steps": 4, **changes}.items()]
    return Making(load_config("organism-shift", settings)).run(arm, seed)


@pytest.fixture
def asked(monkeypatch):
    """Which examples were rendered, in order; nothing is kept from other tests."""
    prompts._kept.clear()
    yield []
    prompts._kept.clear()


def render_into(asked):
    def render(text, example):
        asked.append(text)
        return Prompt(text, [len(asked)], [1, len(asked)])

    return render


EXAMPLES = [Example("train:ab", "ab", "bc"), Example("train:cd", "cd", "de")]


def test_runs_that_differ_in_rate_or_arm_alone_share_their_prompts(asked):
    first = prompts.rendered(parts(), EXAMPLES, render_into(asked))
    assert prompts.rendered(parts(**{"training.lr": 1e-3}), EXAMPLES, render_into(asked)) is first
    assert prompts.rendered(parts(arm="nca"), EXAMPLES, render_into(asked)) is first
    assert asked == ["ab", "cd"]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"training.steps": 5},
        {"training.batch_size": 3},
        {"task": "rules:swap"},
        {"no_context": "template_default"},
        {"model": "builtin:organism-qwen3"},
    ],
)
def test_runs_that_ask_or_read_otherwise_do_not(asked, other):
    first = prompts.rendered(parts(), EXAMPLES, render_into(asked))
    second = prompts.rendered(parts(**other), EXAMPLES, render_into(asked))
    assert second != first
    assert len(asked) == 4


def test_so_many_are_kept_and_none_of_a_run_without_parts(asked):
    for seed in range(prompts.KEPT + 1):
        prompts.rendered({"seed": 0, "training data": seed}, EXAMPLES, render_into(asked))
    assert len(prompts._kept) == prompts.KEPT
    prompts.rendered({"seed": 0, "training data": 0}, EXAMPLES, render_into(asked))  # the oldest, which is gone
    assert len(asked) == 2 * (prompts.KEPT + 2)
    prompts.rendered(None, EXAMPLES, render_into(asked))
    assert len(asked) == 2 * (prompts.KEPT + 3)
    assert len(prompts._kept) == prompts.KEPT
