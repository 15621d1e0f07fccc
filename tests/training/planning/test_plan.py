"""``cr-interp plan``: every configuration can be planned, its checks find what would stop a run, and nothing is downloaded."""

import io
import json
import re
import socket
from importlib.util import find_spec

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cr_interp.errors import UserError
from training.objectives import arm_terms
from training.planning import at_hand
from training.planning.plan import make_plan, micro_batches
from training.settings import config_names, load_config

PAPER = [name for name in config_names() if name.startswith("paper/")]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("planning opened a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def plan(name, *overrides, **options):
    return make_plan(load_config(name, list(overrides)), **options)


def test_the_papers_settings_are_all_there():
    qa = {
        f"paper/{task}-{model}"
        for task in ("medmcqa", "safety")
        for model in ("llama32-3b", "llama31-8b", "qwen25-7b", "qwen3-8b")
    }
    games = {
        f"paper/{game}-{size}" for game in ("frozenlake", "sokoban") for size in ("qwen3-4b", "qwen3-4b-to-1b7")
    }
    assert set(PAPER) == qa | games | {"paper/math-qwen3-8b"}


@pytest.mark.parametrize("name", PAPER)
def test_every_configuration_of_the_paper_can_be_planned(name):
    made = plan(name, on="H200-141GB")
    assert made.problems == []
    assert made.fits
    assert made.spread.gpus in (1, 2, 4, 8)
    assert made.memory.total < 0.9 * 141 * 2**30
    assert made.config.training.lr == 5e-6
    assert made.config.training.top_k == 256
    assert 0 < min(row["hours_in_all"] for row in made.hours if row["number"]) < 1000
    assert sum(made.step_operations["opd"].values()) < sum(made.step_operations["nca"].values())


def test_sharded_weights_read_the_context_once_a_sequence_and_hold_the_teacher_whole():
    """The trainer's own limits, in numbers: a plan must not promise what nothing here does."""
    from training.planning.plan_report import plan_text
    from training.planning.work import step

    made = plan("paper/medmcqa-qwen3-8b", number=8)
    assert made.spread.sharded
    apart = step(arm_terms("nca"), made.student, made.teacher, made.config.training, made.lengths, shared=False)
    assert made.step_operations["nca"] == apart
    assert made.tokens["with_context"] == 128 * (768 + 4096)
    assert made.memory.teacher == 2 * made.teacher.parameters
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plan_text(made))
    assert "Sharded weights read the context once a row" in console.export_text()
    alone = plan("smollm2-sentiment")
    console.print(plan_text(alone))
    assert "Sharded" not in console.export_text()
    game = plan("paper/sokoban-qwen3-4b", number=16)
    assert game.spread.sharded
    lengths = game.lengths
    assert game.tokens["with_context"] == 64 * 5 * (lengths.prompt + 1024 + lengths.context)


def test_memory_is_that_of_the_longest_turn():
    game = plan("paper/sokoban-qwen3-4b-to-1b7", prompt=100, number=1, on="H200-141GB")
    assert game.lengths.prompt == 300  # the mean of 100, 200, … 500: what is computed
    shape = game.student
    keys = 2 * 4 * shape.keys * (shape.layers + 2) * 64 * (500 + 1024)  # of 64 episodes in the rollout
    assert keys < game.memory.rollout < 1.5 * keys


def test_what_the_configuration_sets_is_what_is_planned():
    plain = plan("paper/medmcqa-llama32-3b", number=1, on="H200-141GB")
    apart = plan("paper/medmcqa-llama32-3b", "training.share_prefix=false", number=1, on="H200-141GB")
    assert sum(apart.step_operations["nca"].values()) > sum(plain.step_operations["nca"].values())
    assert plan("paper/medmcqa-llama32-3b", "training.vllm=http://a:1", number=1).memory.rollout == 0
    adapter = plan("paper/medmcqa-llama32-3b", "training.lora={}", number=1)
    assert adapter.checkpoint < plain.checkpoint / 50
    assert adapter.step_operations["nca"]["q_c"] < plain.step_operations["nca"]["q_c"]
    many = plan("paper/medmcqa-llama32-3b", "evaluation.batch_size=64", number=1, on="H200-141GB")
    assert many.memory.evaluation > 7 * plain.memory.evaluation
    two = plan("paper/medmcqa-llama32-3b", number=2, on="H200-141GB")
    assert (two.spread.sharded, two.memory.gradients) == (False, 2 * plain.memory.gradients)  # and DDP's buckets


def test_whole_weights_come_before_sharded_ones_and_large_micro_batches_before_small_ones():
    assert micro_batches(12, 2, None) == [6, 3, 2, 1]
    assert micro_batches(12, 2, 3) == [3]
    assert micro_batches(12, 2, 4) == micro_batches(12, 5, None) == []
    free = plan("paper/medmcqa-llama32-3b", "training.micro_batch=null", on="B200-180GB")
    assert (free.spread.gpus, free.spread.sharded) == (1, False)
    fixed = plan("paper/medmcqa-llama32-3b", on="B200-180GB")
    assert fixed.spread.micro_batch == 1 < free.spread.micro_batch
    assert fixed.tokens["with_context"] > free.tokens["with_context"]
    odd = plan("paper/medmcqa-llama32-3b", number=3)
    assert any("128 cannot be divided among 3 GPUs in micro-batches of 1" in problem for problem in odd.problems)


@pytest.mark.parametrize("name", ["organism-shift", "smollm2-sentiment", "suite/sokoban-cross"])
def test_configurations_for_a_laptop_can_be_planned_too(name):
    made = plan(name)
    assert made.problems == []
    assert made.spread.gpus == 1


def test_lengths_are_the_caps_unless_said_otherwise():
    made = plan("paper/medmcqa-qwen3-8b")
    assert made.tokens == {"response": 128 * 512, "no_context": 128 * 768, "with_context": 128 * (768 + 4096)}
    shorter = plan("paper/medmcqa-qwen3-8b", prompt=100, context=120, response=200)
    assert shorter.tokens == {"response": 25600, "no_context": 38400, "with_context": 128 * (300 + 120)}
    assert sum(shorter.run_operations.values()) < sum(made.run_operations.values()) / 2
    games = plan("paper/sokoban-qwen3-4b")
    assert games.tokens["response"] == 64 * 5 * 1024


def test_the_number_of_gpus_can_be_given_and_may_not_do():
    made = plan("paper/medmcqa-qwen3-8b", number=1)
    assert not made.fits
    assert {row["number"] for row in made.hours} == {None}  # nor on any other kind
    with pytest.raises(UserError, match="Did you mean 'H100-80GB'"):
        plan("paper/medmcqa-qwen3-8b", on="H100-80")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task=hub:medmcq", "Did you mean 'hub:medmcqa'"),
        ("teacher=meta-llama/Llama-3.1-8B-Instruct", "vocabularies of 151936 and 128256"),
        ("training.top_k=1", "Use 2 or more"),
        ("evaluation.controls=[paraphrase]", "lacks 'exact'"),
        ("evaluation.responses=opdd", "no arm of the study"),
        ("max_turns=3", "Set max_turns=1"),
        ("task=textarena:sokoban", "Set max_turns=5"),
        ("max_new_tokens=40000", "the model has 40960 positions"),
        ("training.vllm=http://127.0.0.1:1", "which is not installed"),
        ("evaluation.engine=vllm", "which is not installed"),
    ],
)
def test_what_would_stop_a_run_is_found(override, said, monkeypatch):
    monkeypatch.setattr(at_hand, "find_spec", lambda name: None if name == "vllm" else find_spec(name))
    problems = plan("paper/medmcqa-qwen3-8b", override).problems
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=somebody/something", "nothing is downloaded"),
        ("seeds=[0, 0]", "each may be given once"),
        ("arms=[ncaa]", "Did you mean 'nca'"),
        ("own_arms={mine: ['KL(q_x, f)']}", None),
        ("arms=[base]", "has no terms"),
    ],
)
def test_what_cannot_be_planned_at_all(override, said):
    if said is None:
        with pytest.raises(UserError, match="is not a term"):
            plan("paper/medmcqa-qwen3-8b", override, "arms=[mine]")
        return
    with pytest.raises(UserError, match=said):
        plan("paper/medmcqa-qwen3-8b", override)


def test_a_context_longer_than_its_cap_is_found_where_the_tokenizer_is_here():
    (problem,) = plan("organism-shift", "context_cap=1").problems
    assert "shorten the context" in problem
    assert plan("organism-shift", "context_cap=100").problems == []
    longest = int(re.search(r"has (\d+) tokens", problem)[1])
    assert plan("organism-shift", f"context_cap={longest}").problems == []


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt"])
def test_a_variable_of_the_template_that_rendering_fills_is_refused(name):
    with pytest.raises(UserError, match=f"template cannot set {name}"):
        plan("organism-shift", f"template={{{name}: x}}")


def test_a_task_that_cannot_be_read_is_the_one_problem(tmp_path):
    # How long its responses may be stands in it, so that they are too long is nothing that is known.
    (tmp_path / "task.yaml").write_text("")
    found = plan("organism-shift", f"task={tmp_path / 'task.yaml'}").problems
    assert len(found) == 1
    assert "has to hold a mapping" in found[0]


def test_the_command_prints_text_or_json_and_tells_problems_by_its_exit_code():
    import typer

    from training.commands import plan as command

    app = typer.Typer()
    app.command()(command)
    run = CliRunner().invoke
    said = run(app, ["paper/safety-llama32-3b"])
    assert said.exit_code == 0, said.output
    for words in ("3.21 billion", "activations", "H100-80GB", "all runs", "is sound"):
        assert words in said.output
    found = json.loads(run(app, ["paper/safety-llama32-3b", "--json"]).output)
    assert found["parameters"]["student"] == 3_212_749_824
    assert found["memory_bytes_per_gpu"]["total"] > 0
    assert found["runs"] == 6
    assert run(app, ["paper/safety-llama32-3b", "seeds=[0,0]"]).exit_code == 1
