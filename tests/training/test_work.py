"""Operations of a step: closed forms, and torch's own counter on a model that really runs."""

import pytest
import torch
from tiny import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from training.architecture import of_config, published
from training.objectives import arm_terms
from training.work import Lengths, forward, head, pairs, step, view

LENGTHS = Lengths(prompt=10, response=6, context=20)


def test_the_forward_pass_is_what_torch_counts():
    model = tiny_model("llama", layers=3)
    shape = of_config(model.config)
    rows, tokens = 3, 32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.randint(2, 64, (rows, tokens)))
    # torch multiplies the masked half of the scores as well, and does not count norms.
    ours = forward(shape, rows * tokens, rows * tokens * tokens) + head(shape, rows * tokens)
    assert counter.get_total_flops() == pytest.approx(ours, rel=0.02)


def test_closed_forms():
    shape = published()["Qwen/Qwen3-8B"]
    assert pairs(4, before=10) == 11 + 12 + 13 + 14
    assert forward(shape, 1, 0) == 2 * shape.body
    # Two bytes of 16-bit keys and values: 36 layers × 8 heads × 128 wide, twice.
    assert shape.kv_bytes == 2 * 2 * 36 * 8 * 128
    short = Lengths(1, 1, 0)
    without = view(shape, 1, short, False, gradient=False, checkpointing=True)
    assert without == 2 * shape.body * 2 + 4 * 36 * 32 * 128 * 3 + 2 * shape.embedding
    with_gradient = view(shape, 1, short, False, gradient=True, checkpointing=False)
    assert with_gradient == 3 * without
    recomputed = view(shape, 1, short, False, gradient=True, checkpointing=True)
    assert recomputed - with_gradient == forward(shape, 2, 3)


def test_the_context_is_computed_once_for_the_batch():
    shape = published()["Qwen/Qwen3-4B"]
    one = view(shape, 1, LENGTHS, True, False, False)
    two = view(shape, 2, LENGTHS, True, False, False)
    assert two == 2 * one - forward(shape, LENGTHS.context, pairs(LENGTHS.context))


def test_micro_batches_read_the_context_once_each_but_a_sharing_teacher_once():
    shape = published()["Qwen/Qwen3-4B"]
    once, twice, each = (step(arm_terms("nca"), shape, shape, 4, LENGTHS, readings=n) for n in (1, 2, 4))
    context = forward(shape, LENGTHS.context, pairs(LENGTHS.context))
    assert twice["q_c"] - once["q_c"] == 3 * context
    assert each["q_c"] == 4 * step(arm_terms("nca"), shape, shape, 1, LENGTHS)["q_c"]
    assert twice["f"] == once["f"]
    assert each["f"] - once["f"] == 3 * context
    assert twice["rollouts"] == each["rollouts"]


def test_arms_do_the_work_that_their_terms_ask_for():
    shape = published()["Qwen/Qwen3-4B"]
    opd = step(arm_terms("opd"), shape, shape, 8, LENGTHS)
    nca = step(arm_terms("nca"), shape, shape, 8, LENGTHS)
    assert set(opd) == {"rollouts", "q_x", "f"}
    assert set(nca) - set(opd) == {"q_c"}
    assert {part: nca[part] for part in opd} == opd
    assert nca["q_c"] > nca["q_x"] > nca["f"] / 2
    turns = step(arm_terms("opd"), shape, shape, 8, Lengths(10, 6, 20, turns=3))
    assert turns["rollouts"] > 3 * opd["rollouts"]
