"""Losses and gradients of models that cannot share a prefix or a batch, against one plain sequence at a time."""

import pytest
import torch
from steps import Ids, assert_close, batch, gradients, reader, step
from zoo import zoo_model

from cr_interp.models.loading import Loaded
from training.objectives import arm_terms
from training.run.losses import losses
from training.run.noise import switch_dropout_off

NAMES = [
    "llama",
    "phi3-longrope",
    "llama-dynamic",
    "gemma3-dynamic",
    "mpt",
    "mamba",
    "qwen3_5",
    "jamba",
    "lfm2",
    "rwkv",
]


def plainly(model, prompts, responses):
    """Log-probabilities at the aligned positions by the library's own forward: no pads, no cache, no sharing."""
    found = []
    for prompt, response in zip(prompts, responses, strict=True):
        scores = model(input_ids=torch.tensor([[*prompt, *response[:-1]]]), use_cache=False).logits[0]
        found.append(scores[len(prompt) - 1 :].float().log_softmax(-1))
    return torch.cat(found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arm", ["nca", "dual_opd"])
def test_gradients_are_those_of_one_sequence_at_a_time(name, arm):
    """The prefix is 14 tokens and the sequences are 19 to 25: on both sides of 20, where rotary factors change."""
    student, teacher = (zoo_model(name, seed=seed, scale=2.0) for seed in (0, 1))
    for model in (student, teacher):
        switch_dropout_off(model.train())
    teacher.requires_grad_(False)
    prompts, responses = batch(rows=4, prefix=14, own=4, response=7)
    loaded = [Loaded("bare", model, Ids()) for model in (student, teacher)]
    found, by_batch = step(reader(*loaded, arm=arm, prefix=14), prompts, responses)

    owner = torch.cat([torch.full((len(r),), row) for row, r in enumerate(responses)])
    without, given = [p.no_context for p in prompts], [p.with_context for p in prompts]
    log_p = {
        "q_x": plainly(student, without, responses),
        "q_c": plainly(student, given, responses),
        "f": plainly(teacher, given, responses).detach(),
    }
    expected = losses(arm_terms(arm), log_p, owner)
    expected.total.backward()
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-4)
    assert_close(by_batch, gradients(student), tolerance=2e-4)
