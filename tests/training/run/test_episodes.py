"""Distilling tasks with turns: all turns in one update, an exact mean over their tokens, and the same bits after a stop."""

import os
import sys
from pathlib import Path

import pytest
import torch
import warm
from games import Guess, Hinted, Told
from safetensors.torch import load_file
from tiny import tiny
from transformers import TrainerCallback

from cr_interp.errors import UserError
from cr_interp.models.forward import build_view
from cr_interp.models.generation import Decoding
from cr_interp.study.study import Study
from cr_interp.tasks.base import before
from cr_interp.views import render, shared_prefix
from training.objectives import arm_terms
from training.run.distill import distill
from training.run.episodes import Episodes
from training.run.losses import Whole
from training.run.rollouts import LocalRollouts
from training.run.step import Prompt, Reader
from training.run.trainer import DistillTrainer
from training.settings import Training, load_config

ROOT = Path(__file__).resolve().parents[3]
ROWS = 8
#: How long the three guesses of each row's game are: games of one, two and three turns in a batch.
SCRIPT = ["a", "xxq b", "x x x", "d", "xy xyz e", "xyz yy z", "xy q", "q"]


def by_script(prompt, row, step):
    """The row's guess number ``row // ROWS``, whose turn it must be."""
    turn, row = divmod(row, ROWS)
    assert prompt.count("not ") == turn
    return SCRIPT[row].split()[turn]


def views(loaded, context):
    def in_both(text, example=None):
        return Prompt(text, render(loaded.tokenizer, text), render(loaded.tokenizer, text, context))

    return in_both


def made(tmp_path, rollouts=None, **training):
    """A trainer that plays the eight letters in one step."""
    student, teacher = tiny("llama"), tiny("llama", seed=1)
    task = Guess()
    examples = task.examples("train")
    in_both = views(student, task.contexts(len)["exact"])
    config = Training(**{"steps": 1, "batch_size": ROWS, "lr": 1e-3, **training})
    return DistillTrainer(
        student,
        teacher,
        [in_both(example.prompt) for example in examples],
        arm_terms("nca"),
        rollouts or Told(by_script),
        config,
        tmp_path,
        episodes=Episodes(task, examples, in_both, ROWS),
    )


def logged(tmp_path):
    return [row for row in Study.create(tmp_path, {}).train_rows("r", 0) if row["kind"] == "train"]


def run(tmp_path, **options):
    trainer = made(tmp_path / "runs" / "r-s0", **options)
    trainer.train()
    return trainer, logged(tmp_path)[0]


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_the_step_is_the_mean_over_the_tokens_of_all_turns(reduction, tmp_path):
    _, row = run(tmp_path, reduction=reduction, micro_batch=2)
    # The same by hand: every pair of the script is read alone, by the student as it was.
    student = tiny("llama")
    in_both = views(student, Guess().contexts(len)["exact"])
    reader = Reader(student, tiny("llama", seed=1), arm_terms("nca"), Training(), 0, 0)
    sums, tokens, means = torch.zeros(2), 0, []
    for game in SCRIPT:
        said = game.split()
        for turn, text in enumerate(said):
            prompt = in_both("Guess:" + "".join(f"\nnot {each}" for each in said[:turn]))
            ids = [*student.tokenizer(text, add_special_tokens=False)["input_ids"], student.eos_ids[0]]
            alone = reader.losses(student.model, [prompt], [ids], Whole(1, 1))
            values = torch.stack([value.double() for value in alone.terms.values()])
            sums, tokens = sums + values, tokens + len(ids)
            means.append(values / len(ids))
    expected = sums / tokens if reduction == "token_mean" else torch.stack(means).mean(0)
    assert len(means) == 16  # turns, of 8 episodes
    assert row["response_tokens"] == tokens
    for found, wanted in zip(row["terms"].values(), expected.tolist(), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_micro_batches_of_episodes_add_up_to_the_step(tmp_path):
    found = {size: run(tmp_path / str(size), micro_batch=size) for size in (8, 4, 1)}
    _, whole = found[8]
    for size in (4, 1):
        _, row = found[size]
        assert row["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)
        assert row["response_tokens"] == whole["response_tokens"]
        for name, value in whole["topk_mass"].items():
            assert row["topk_mass"][name] == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
def test_a_step_plays_once_whatever_its_micro_batches(tmp_path):
    for size in (8, 1):
        rollouts = Told(by_script)
        run(tmp_path / str(size), micro_batch=size, rollouts=rollouts)
        # A call a turn, with the places of those who still play.
        assert [len(rows) for _, rows in rollouts.calls] == [8, 5, 3]
        assert rollouts.calls[1][1] == [8 + row for row in (1, 2, 4, 5, 6)]


@pytest.mark.slow
def test_the_context_computed_once_is_exact_for_every_turn(tmp_path):
    shared, one = run(tmp_path / "shared")
    naive, other = run(tmp_path / "naive", share_prefix=False)
    assert shared._prefix_c >= len("It is a letter.\n")
    assert naive._prefix_c == 0
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_prompts_that_begin_otherwise_are_not_read_behind_a_prefix():
    with pytest.raises(UserError, match="share_prefix=false"):
        build_view([[1, 2, 3], [1, 9, 3]], [[4], [4]], 0, prefix_length=2)


def episodes(batch=ROWS):
    student = tiny("llama")
    task = Guess()
    in_both = views(student, task.contexts(len)["exact"])
    return student, Episodes(task, task.examples("train"), in_both, batch)


def test_several_processes_play_what_one_would_have_played():
    student, game = episodes()
    rollouts = LocalRollouts(Decoding(4, 1.0), seed=3)
    whole = game.play(student, rollouts, range(ROWS), step=5)
    parts = [game.play(student, rollouts, rows, step=5, rows=rows) for rows in ([0, 2, 4, 6], [1, 3, 5, 7])]
    for row in range(ROWS):
        assert parts[row % 2][row // 2] == whole[row]
    assert game.play(student, rollouts, range(ROWS), step=5) == whole
    assert game.play(student, rollouts, range(ROWS), step=6) != whole
    said = [tuple(said) for _, said in whole[0]]
    assert len(set(said)) > 1  # a turn does not repeat the random numbers of the one before


def test_each_turn_stands_behind_its_own_example_s_context():
    """Three examples whose prompts are the same words: only the hints tell them apart."""
    student = tiny("llama")
    task = Hinted()
    examples = task.examples("train")

    def in_both(text, example):
        return Prompt(
            text,
            render(student.tokenizer, text),
            render(student.tokenizer, text, before(example, task.contexts(len)["exact"])),
        )

    game = Episodes(task, examples, in_both, ROWS)
    chosen = [4, 1, 6]
    played = game.play(student, Told(lambda prompt, row, step: "x"), chosen, step=0)
    assert [len(pairs) for pairs in played] == [3, 3, 3]
    for i, pairs in zip(chosen, played, strict=True):
        for turn, (prompt, _) in enumerate(pairs):
            text = "Guess:" + "\nnot x" * turn
            assert prompt == in_both(text, examples[i])
            assert f"Before {'bcdefghi'[i]}." in student.tokenizer.decode(prompt.with_context)
    starts = [*(in_both(each.prompt, each).with_context for each in examples), game.start.with_context]
    shared = shared_prefix(starts)
    assert all(ids.with_context[:shared] == starts[0][:shared] for pairs in played for ids, _ in pairs)


def test_turns_and_a_context_of_each_example_are_trained_together(tmp_path):
    config = configured(tmp_path, "training.steps=1", "training.eval_every=1")
    (tmp_path / "guess.py").write_text("from games import Hinted\n\n\ndef task():\n    return Hinted()\n")
    losses = []
    for share in (True, False):
        study = Study.create(tmp_path / f"{share}", {})
        distill(
            config.model_copy(update={"training": config.training.model_copy(update={"share_prefix": share})}),
            "nca",
            0,
            study,
        )
        rows = study.train_rows("nca", 0)
        losses.append(next(row["loss"] for row in rows if row["kind"] == "train"))
        assert {"acc_x", "acc_xc"} <= set(next(row for row in rows if row["kind"] == "eval"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_turn_that_outgrows_the_model_is_refused():
    student, game = episodes()
    student.model.config.max_position_embeddings = len(game.examples[0].prompt) + 30
    with pytest.raises(UserError, match=r"positions\. Nothing is truncated here"):
        game.play(student, Told(by_script), range(ROWS), step=0)


def task_file(tmp_path):
    path = tmp_path / "guess.py"
    path.write_text("from games import Guess\n\n\ndef task():\n    return Guess()\n")
    return path


def configured(tmp_path, *overrides):
    folder = tmp_path / "model"
    if not folder.exists():
        loaded = tiny("llama")
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    return load_config(
        "organism-shift",
        [
            f"model={folder}",
            f"task={task_file(tmp_path)}",
            "max_turns=3",
            "training.steps=4",
            "training.batch_size=8",
            "training.save_every=2",
            "training.eval_every=4",
            "training.eval_examples=4",
            *overrides,
        ],
    )


@pytest.mark.slow
@pytest.mark.parametrize("micro", [8, 2])
def test_a_game_that_was_stopped_ends_with_the_same_bits(micro, tmp_path):
    config = configured(tmp_path, f"training.micro_batch={micro}")
    whole, parts = Study.create(tmp_path / "whole", {}), Study.create(tmp_path / "parts", {})
    final = distill(config, "nca", 0, whole)

    class Stop(Exception):
        pass

    class Killer(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise Stop

    with pytest.raises(Stop):
        distill(config, "nca", 0, parts, callbacks=[Killer()])
    again = distill(config, "nca", 0, parts)
    first, second = (load_file(folder / "model.safetensors") for folder in (final, again))
    assert all(torch.equal(first[name], second[name]) for name in first)

    def losses(study):
        return [(row["step"], row["loss"]) for row in study.train_rows("nca", 0) if row["kind"] == "train"]

    assert losses(whole) == losses(parts)
    assert len(losses(whole)) == 4


def test_a_task_of_ones_own_may_have_turns(tmp_path):
    with pytest.raises(UserError, match="has 3 turns at most, but max_turns is 1"):
        distill(configured(tmp_path, "max_turns=1"), "opd", 0, Study.create(tmp_path / "s", {}))


@pytest.mark.slow
def test_two_processes_distil_the_game_that_one_does(tmp_path):
    configured(tmp_path)
    command = [
        "-m", "cr_interp", "distill", "organism-shift", f"model={tmp_path / 'model'}", f"task={tmp_path / 'guess.py'}",
        "max_turns=3", "training.steps=2", "training.batch_size=8", "training.micro_batch=2", "training.save_every=2",
        "training.eval_every=2", "training.eval_examples=4", "evaluation.examples=4", "--arms", "nca", "--seeds", "0",
    ]  # fmt: skip
    two = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    for name, given in (("one", [*command, "--in-process"]), ("two", [*two, *command])):
        paths = [str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")]
        found = warm.run(
            [sys.executable, *given, "--out", str(tmp_path / name)],
            timeout=200,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            cwd=tmp_path,
        )
        assert found.returncode == 0, found.stdout + found.stderr
    one, two = (
        [row for row in Study.open(tmp_path / name).train_rows("nca", 0) if row["kind"] == "train"]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 2
    for single, double in zip(one, two, strict=True):
        assert double["response_tokens"] == single["response_tokens"]
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert double["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-4)
        assert double["terms"] == pytest.approx(single["terms"], rel=1e-4)
