"""Layers that are computed again give the same gradients, with the shared prefix, and keep little."""

import pytest
import torch
from live_bytes import LiveBytes
from steps import assert_close, bare, batch, gradients, pair, reader, step
from tiny import tiny_model

from cr_interp.errors import UserError
from training.run.recompute import recompute_layers


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt_neox", "gpt2", "mistral"])
@pytest.mark.parametrize("prefix", [0, 9])
def test_gradients_are_the_same_with_and_without(family, prefix, caplog):
    student, teacher = pair(family)
    prompts, responses = batch()
    plain, expected = step(reader(student, teacher, "nca", prefix), prompts, responses)
    recompute_layers(student.model)
    again, found = step(reader(student, teacher, "nca", prefix), prompts, responses)
    assert torch.equal(plain.total, again.total)
    assert_close(found, expected, 1e-6)
    assert "Caching is incompatible" not in caplog.text  # the library's way of dropping the context


@pytest.mark.slow
def test_a_layer_keeps_one_state_per_token():
    held = {}
    for recompute in (False, True):
        model = tiny_model("llama", layers=8).train()
        if recompute:
            recompute_layers(model)
        student, teacher = bare(model), pair()[1]
        made = reader(student, teacher, "nca")
        prompts, responses = batch(rows=8)
        with LiveBytes([*model.parameters(), *teacher.model.parameters()]) as live:
            result = made.losses(model, prompts, responses)
            held[recompute] = live.live
            result.total.backward()
        gradients(model)
    assert held[True] < held[False] / 5


def test_nothing_is_computed_again_where_there_is_no_gradient():
    student, teacher = pair()
    recompute_layers(student.model)
    prompts, responses = batch()
    with torch.no_grad():
        made = reader(student, teacher).losses(student.model, prompts, responses)
    assert not made.total.requires_grad
    student.model.eval()
    assert torch.equal(made.total, reader(student, teacher).losses(student.model, prompts, responses).total)


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(UserError, match=r"Linear has no layers .*micro_batch"):
        recompute_layers(torch.nn.Linear(2, 2))
