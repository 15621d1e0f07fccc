"""How much a training step gains from computing the context once: the same step, naive and shared, side by side.

The naive step is what one writes first: every sequence whole through ``model(...)``, with logits everywhere, and the
rollout without a shared prefix. Both start from the same weights and the same responses; the losses and gradients have
to agree. Alternating repetitions, thread count fixed, median of the ratios; no absolute time is asserted.
"""

import statistics
import time

import pytest
import torch
from rich.console import Console
from rich.table import Table

from cr_interp.models.generation import Decoding
from cr_interp.models.loading import load
from cr_interp.tasks import get_task
from cr_interp.views import render
from training.objectives import arm_terms, needs
from training.run.distill import exact_context, training_examples
from training.run.losses import losses
from training.run.rollouts import LocalRollouts
from training.run.trainer import DistillTrainer, Prompt
from training.settings import load_config

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
REPEATS = 3
LIMITS = {"opd": 3.0, "nca": 2.5}


@pytest.fixture(scope="module")
def setting():
    pytest.importorskip("gguf")
    torch.set_num_threads(2)
    config = load_config("smollm2-sentiment", ["training.batch_size=16"])
    student, teacher = load(config.model), load(config.model)
    with (
        torch.no_grad()
    ):  # apart from each other, or every gradient of KL(sg q || q_c) would be that of the start
        generator = torch.Generator().manual_seed(0)
        for parameter in student.model.parameters():
            parameter.add_(0.01 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    task = get_task("sentiment")
    context = exact_context(task, student, config)
    prompts = [
        Prompt(e.prompt, render(student.tokenizer, e.prompt), render(student.tokenizer, e.prompt, context))
        for e in training_examples(task, 16, 0)
    ]
    return config, student, teacher, task, prompts


def naive_losses(student, teacher, terms, prompts, responses):
    def log_p(model, whole):
        length = max(len(p) + len(r) for p, r in zip(whole, responses, strict=True))
        ids = torch.tensor(
            [
                [*p, *r] + [student.pad_id] * (length - len(p) - len(r))
                for p, r in zip(whole, responses, strict=True)
            ]
        )
        mask = torch.tensor(
            [
                [1] * (len(p) + len(r)) + [0] * (length - len(p) - len(r))
                for p, r in zip(whole, responses, strict=True)
            ]
        )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        aligned = [
            logits[i, len(p) - 1 : len(p) + len(r) - 1]
            for i, (p, r) in enumerate(zip(whole, responses, strict=True))
        ]
        return torch.cat(aligned).float().log_softmax(-1)

    found = {"q_x": log_p(student.model, [p.no_context for p in prompts])}
    if needs(terms, "q_c"):
        found["q_c"] = log_p(student.model, [p.with_context for p in prompts])
    with torch.no_grad():
        found["f"] = log_p(teacher.model, [p.with_context for p in prompts])
    owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(responses)])
    return losses(terms, found, owner)


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("arm", ["opd", "nca"])
def test_the_context_computed_once_against_the_naive_step(arm, setting, tmp_path):
    config, student, teacher, task, prompts = setting
    terms = arm_terms(arm)
    decoding = Decoding(task.max_new_tokens, 1.0, batch_size=16)
    shared_rollouts, naive_rollouts = LocalRollouts(decoding, 0), LocalRollouts(decoding, 0, prefix_length=0)
    trainer = DistillTrainer(student, teacher, prompts, terms, shared_rollouts, config.training, tmp_path)
    ids = [p.no_context for p in prompts]
    responses = [list(r.ids) for r in shared_rollouts.sample(student, ids, 0)]

    def shared():
        shared_rollouts.sample(student, ids, 0)
        result = trainer.reader.losses(student.model, prompts, responses)
        result.total.backward()
        return result

    def naive():
        naive_rollouts.sample(student, ids, 0)
        result = naive_losses(student, teacher, terms, prompts, responses)
        result.total.backward()
        return result

    def timed(step):
        student.model.zero_grad()
        start = time.perf_counter()
        result = step()
        return time.perf_counter() - start, result

    timed(shared), timed(naive)  # warm up; the teacher's prefix is cached from here on, as in a run
    times = []
    for _ in range(REPEATS):
        a, first = timed(shared)
        grad = gradient(student.model)
        b, second = timed(naive)
        times.append((a, b))
    error = ((gradient(student.model) - grad).norm() / grad.norm()).item()
    loss_error = abs(first.total.item() / second.total.item() - 1)
    ratio = statistics.median(b / a for a, b in times)
    table = Table(
        title=f"{arm}: a step on SmolLM2, batch 16, context {len(prompts[0].with_context)} tokens, 2 threads"
    )
    for name in ("shared s", "naive s", "naive / shared", "required", "loss difference", "gradient difference"):
        table.add_column(name, justify="right")
    medians = (statistics.median(t[k] for t in times) for k in (0, 1))
    table.add_row(
        *(f"{m:.2f}" for m in medians), f"{ratio:.2f}", f"{LIMITS[arm]}", f"{loss_error:.1e}", f"{error:.1e}"
    )
    Console(width=114).print(table)
    assert loss_error <= 1e-4
    assert error <= 1e-4
    assert ratio >= LIMITS[arm]
