"""Pre-train an organism from nothing: ``cr-interp pretrain llama``.

It learns to follow a rule that the system prompt names. In ``hidden`` of the examples the rule is hidden (no
system prompt, or one about something else), while the answer still follows one of the rules at random: so
without a context the organism behaves as a *mixture* of the rules. A base that merely copied without a
context would give No-Context Anchoring a wrong anchor to start from.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import AutoModelForCausalLM

from cr_interp.tasks.rules import RULES, WORDINGS, irrelevant_text, random_string
from cr_interp.views import Context, render
from training.organism import build_config, build_tokenizer


class PretrainConfig(BaseModel):
    """Everything that decides the weights."""

    model_config = ConfigDict(extra="forbid")

    family: str = "llama"
    steps: int = 2000
    batch_size: int = 96
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    hidden: float = 0.3
    irrelevant: float = 0.1
    """Of all examples, the share whose context says nothing about a rule (part of ``hidden``)."""
    seed: int = 0


def draw(rng: random.Random, config: PretrainConfig) -> tuple[Context | None, str, str]:
    """One example: context or None, prompt, answer."""
    rule = rng.choice(list(RULES))
    string = random_string(rng, "train")
    kind = rng.random()
    if kind < config.irrelevant:
        context = Context.system(irrelevant_text(rng.randrange(8, 40), rng))
    elif kind < config.hidden:
        context = None
    else:
        context = Context.system(rng.choice(WORDINGS[rule]))
    return context, string, RULES[rule](string)


def batches(tokenizer, config: PretrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, labels), right padded; labels are -100 everywhere but on the answer and its end of turn."""
    rng = random.Random(config.seed)
    while True:
        rows = []
        for _ in range(config.batch_size):
            context, prompt, answer = draw(rng, config)
            rows.append(
                (render(tokenizer, prompt, context), tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id])
            )
        length = max(len(p) + len(a) for p, a in rows)
        ids = torch.full((len(rows), length), tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for i, (p, a) in enumerate(rows):
            ids[i, : len(p) + len(a)] = torch.tensor(p + a)
            labels[i, len(p) : len(p) + len(a)] = torch.tensor(a)
        yield ids, labels


def pretrain(config: PretrainConfig, out: Path) -> None:
    """Train and save a Hugging Face folder. The loss falls on answers only."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer()
    model = AutoModelForCausalLM.from_config(build_config(config.family, len(tokenizer)))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / config.warmup)
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(f"pre-training {config.family}", total=config.steps)
        for step, (ids, labels) in zip(range(config.steps), batches(tokenizer, config), strict=False):
            # Right padding and causal attention: no real token sees a pad, so no mask is needed.
            keep = labels[:, 1:] != -100
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][keep]
            loss = torch.nn.functional.cross_entropy(model.lm_head(hidden).float(), labels[:, 1:][keep])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            progress.update(bar, advance=1, description=f"pre-training {config.family}  loss {loss.item():.3f}")
            if step % 100 == 0:
                progress.console.print(f"step {step}  loss {loss.item():.4f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
