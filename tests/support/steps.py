"""A student and a teacher of any architecture, reading made-up responses: what a step does, without a run around it."""

import torch
from tiny import tiny_model

from cr_interp.models.loading import Loaded
from training.objectives import arm_terms
from training.run.noise import switch_dropout_off
from training.run.step import Prompt, Reader
from training.settings import Training


class Ids:
    """All that a step asks of a tokenizer."""

    pad_token_id = 0
    eos_token_id = 1


def bare(model):
    switch_dropout_off(model)
    return Loaded("bare", model.train(), Ids())


def pair(family="llama", **overrides):
    """Two random models that differ, so that no divergence is 0."""
    student, teacher = (bare(tiny_model(family, layers=2, seed=seed, **overrides)) for seed in (0, 1))
    teacher.model.requires_grad_(False)
    return student, teacher


def batch(rows=4, prefix=9, own=5, response=6, seed=0):
    """Prompts that share ``prefix`` tokens of context, and responses of unequal lengths (at most ``response``)."""
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(3, 64, (n,), generator=generator).tolist()

    context = ids(prefix)
    prompts = [
        Prompt("", [2, row + 3, *own_ids], [*context, row + 3, *own_ids])
        for row, own_ids in enumerate([ids(own) for _ in range(rows)])
    ]
    responses = [ids(response - row % response) for row in range(rows)]
    return prompts, responses


def reader(student, teacher, arm="nca", prefix=9, **training):
    return Reader(student, teacher, arm_terms(arm), Training(**training), 1, prefix)


def gradients(model):
    """By name; the gradients are taken away."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def step(made, prompts, responses, whole=None):
    """The losses of a step, and the gradients that they leave."""
    result = made.losses(made.student.model, prompts, responses, whole)
    result.total.backward()
    return result, gradients(made.student.model)


def assert_close(found, expected, tolerance=1e-5):
    """All gradients together, relative to their norm."""
    assert found.keys() == expected.keys()
    error = sum((found[name] - g).square().sum() for name, g in expected.items()).sqrt()
    norm = sum(g.square().sum() for g in expected.values()).sqrt()
    assert norm > 0
    assert error <= tolerance * norm, f"{error / norm:.1e}"
