"""Operations of a step: closed forms, and torch's own counter on a model that really runs."""

import pytest
import torch
from tiny import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from training.objectives import arm_terms
from training.planning.architecture import of_config, published
from training.planning.work import Lengths, forward, head, pairs, step, view
from training.settings import Training

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
    without = view(shape, 1, short, 0, backward=0, checkpointing=True)
    assert without == 2 * shape.body * 2 + 4 * 36 * 32 * 128 * 3 + 2 * shape.embedding
    with_gradient = view(shape, 1, short, 0, backward=2, checkpointing=False)
    assert with_gradient == 3 * without
    assert view(shape, 1, short, 0, backward=1, checkpointing=False) == 2 * without  # under an adapter
    recomputed = view(shape, 1, short, 0, backward=2, checkpointing=True)
    assert recomputed - with_gradient == forward(shape, 2, 3)


def test_the_context_is_computed_once_for_the_batch():
    shape = published()["Qwen/Qwen3-4B"]
    one, two = (view(shape, rows, LENGTHS, 1, 0, False) for rows in (1, 2))
    assert two == 2 * one - forward(shape, LENGTHS.context, pairs(LENGTHS.context))


def operations(arm, lengths=LENGTHS, **options):
    shape = published()["Qwen/Qwen3-4B"]
    return step(arm_terms(arm), shape, shape, Training(**{"batch_size": 8, **options}), lengths)


def test_micro_batches_read_the_context_once_each_but_a_sharing_teacher_once():
    shape = published()["Qwen/Qwen3-4B"]
    context = forward(shape, LENGTHS.context, pairs(LENGTHS.context))
    once, twice, each = operations("nca"), operations("nca", micro_batch=4), operations("nca", micro_batch=1)
    assert twice["q_c"] - once["q_c"] == 3 * context
    assert each["q_c"] - once["q_c"] == 3 * 7 * context
    assert each["f"] == twice["f"] == once["f"]
    assert twice["rollouts"] == each["rollouts"]
    apart = operations("nca", share_prefix=False)
    assert apart["q_c"] == each["q_c"]
    assert apart["f"] - once["f"] == 7 * context


def test_an_adapter_s_base_has_no_gradients_of_weights():
    whole, adapter = operations("nca"), operations("nca", lora={})
    assert 3 * adapter["q_x"] == 2 * whole["q_x"]
    assert adapter["f"] == whole["f"]


def test_arms_do_the_work_that_their_terms_ask_for():
    opd, nca = operations("opd"), operations("nca")
    assert set(opd) == {"rollouts", "q_x", "f"}
    assert set(nca) - set(opd) == {"q_c"}
    assert {part: nca[part] for part in opd} == opd
    assert nca["q_c"] > nca["q_x"] > nca["f"] / 2


def test_turns_are_sequences_that_do_not_look_at_each_other():
    three = Lengths(10, 6, 20, turns=3)
    one, many = operations("nca"), operations("nca", three)
    assert many["rollouts"] == 3 * one["rollouts"]
    assert many["q_x"] == 3 * one["q_x"]
    apart = operations("nca", three, share_prefix=False)
    assert apart == {part: 3 * value for part, value in operations("nca", share_prefix=False).items()}
