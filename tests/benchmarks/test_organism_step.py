"""What the framework costs: a training step of an organism, rollout included, against the same step written out.

The plain step is a loop of a few lines over bare ``torch`` and the model's own ``forward``: no Trainer, no views, no
terms, no log. It does the same work as the framework's (the shared prefix computed once, no LM head where nothing is
compared), so that the ratio is what the framework adds; the two end in the same weights. Alternating, one thread, median
of the ratios; no absolute time is asserted.
"""

import copy
import statistics
import time

import pytest
import torch
from rich.console import Console
from transformers import DynamicCache

from cr_interp.models.generation import Decoding
from cr_interp.models.loading import load
from cr_interp.tasks import get_task
from cr_interp.views import render, shared_prefix
from training.objectives import arm_terms
from training.run.distill import exact_context, training_examples
from training.run.rollouts import LocalRollouts
from training.run.trainer import DistillTrainer, Prompt
from training.settings import load_config

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
STEPS, REPEATS, LIMIT = 10, 3, 1.3


def encode(model, ids):
    cache = DynamicCache()
    model.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def expand(prefix, batch):
    return (
        DynamicCache([(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in prefix])
        if prefix
        else None
    )


@torch.no_grad()
def sample(model, prompts, most, seed, end):
    """Left-padded sampling at temperature 1 with a cache."""
    uniform = torch.rand(len(prompts), most, generator=torch.Generator().manual_seed(seed))
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
    mask = (torch.arange(longest)[None] >= longest - torch.tensor([len(row) for row in prompts])[:, None]).long()
    positions, cache = (mask.cumsum(-1) - 1).clamp(min=0), None
    done, tokens = torch.zeros(len(ids), dtype=torch.bool), []
    for t in range(most):
        out = model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        # As the framework draws: the first token whose cumulated probability exceeds the row's number.
        cumulated = model.lm_head(out.last_hidden_state[:, -1]).softmax(-1).cumsum(-1)
        token = torch.searchsorted(cumulated, uniform[:, t : t + 1] * cumulated[:, -1:], right=True)[:, 0]
        tokens.append(token)
        done |= token == end
        if done.all():
            break
        ids, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return [row[: row.index(end) + 1] if end in row else row for row in torch.stack(tokens, dim=1).tolist()]


def log_p(model, prefix, start, prompts, responses):
    whole = [p[start:] + r[:-1] for p, r in zip(prompts, responses, strict=True)]
    length = max(map(len, whole))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in whole])
    positions = torch.arange(start, start + length)[None].expand(len(ids), -1)
    hidden = model.model(
        input_ids=ids, position_ids=positions, past_key_values=expand(prefix, len(ids)), use_cache=bool(prefix)
    ).last_hidden_state
    aligned = [
        hidden[i, len(p) - start - 1 : len(p) - start - 1 + len(r)]
        for i, (p, r) in enumerate(zip(prompts, responses, strict=True))
    ]
    return model.lm_head(torch.cat(aligned)).log_softmax(-1)


def plain_run(student, teacher, prompts, lr, most, end, batch_size, anchor):
    """``STEPS`` steps; ``anchor`` is β of no-context anchoring, 0 for plain on-policy distillation."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.01, fused=True)
    start = shared_prefix([p.with_context for p in prompts])
    with torch.no_grad():
        frozen = encode(teacher, prompts[0].with_context[:start])
    for step in range(STEPS):
        batch = prompts[step * batch_size : (step + 1) * batch_size]
        x, c = [p.no_context for p in batch], [p.with_context for p in batch]
        responses = sample(student, x, most, step, end)
        q_x = log_p(student, None, 0, x, responses)
        with torch.no_grad():
            f = log_p(teacher, frozen, start, c, responses)
        loss = (q_x.exp() * (q_x - f)).sum(-1).mean()
        if anchor:
            q_c = log_p(student, encode(student, c[0][:start]), start, c, responses)
            loss = loss + anchor * (q_x.detach().exp() * (q_x.detach() - q_c)).sum(-1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("arm", ["opd", "nca"])
def test_the_framework_against_plain_pytorch(arm, tmp_path):
    torch.set_num_threads(1)
    config = load_config("suite/rules-llama", [f"training.steps={STEPS}", "training.save_every=1000"])
    task, size = get_task(config.task), config.training.batch_size
    teacher = load(config.model)
    context = exact_context(task, teacher, config)
    prompts = [
        Prompt(e.prompt, render(teacher.tokenizer, e.prompt), render(teacher.tokenizer, e.prompt, context))
        for e in training_examples(task, STEPS * size, 0)
    ]
    (end,) = teacher.eos_ids

    def framework(folder):
        student = load(config.model)
        rollouts = LocalRollouts(Decoding(task.max_new_tokens, 1.0, batch_size=size), 0)
        trainer = DistillTrainer(student, teacher, prompts, arm_terms(arm), rollouts, config.training, folder)
        trainer._save_checkpoint = lambda *_: None  # the plain loop saves nothing
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began, student.model

    def plain():
        student = copy.deepcopy(teacher.model).requires_grad_(True)
        began = time.perf_counter()
        plain_run(
            student,
            teacher.model,
            prompts,
            config.training.lr,
            task.max_new_tokens,
            end,
            size,
            0.5 if arm == "nca" else 0.0,
        )
        return time.perf_counter() - began, student

    framework(tmp_path / "warm")
    times = []
    for repeat in range(REPEATS):
        ways = [lambda: framework(tmp_path / f"{repeat}"), plain]  # noqa: B023  # called at once
        pair = [way() for way in (ways if repeat % 2 else ways[::-1])]
        ours, theirs = pair if repeat % 2 else pair[::-1]
        times.append((ours[0], theirs[0]))
    first, second = (statistics.median(each) for each in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    moved = sum(
        (a - b).square().sum() for a, b in zip(ours[1].parameters(), teacher.model.parameters(), strict=True)
    )
    apart = sum((a - b).square().sum() for a, b in zip(ours[1].parameters(), theirs[1].parameters(), strict=True))
    difference = (apart / moved).sqrt().item()
    Console(width=114).print(
        f"{arm}: {1e3 * first / STEPS:.0f} ms a step, plain {1e3 * second / STEPS:.0f} ms, ratio {ratio:.3f}, "
        f"required {LIMIT}; weights differ by {difference:.1e} of what training moved them"
    )
    assert difference < 0.05
    assert ratio <= LIMIT
