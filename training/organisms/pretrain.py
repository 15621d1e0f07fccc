"""Pre-train an organism from nothing: ``cr-interp pretrain llama``.

It learns from lessons (``curriculum.py``) to do whatever the context says, on every task that organisms have, and to
behave as a mixture when no context says anything. One recipe for all families: Muon for the matrices between the
embeddings, which here takes fewer steps than AdamW, and AdamW for the rest; the loss falls on answers only
(and, at first, on notes: see ``PretrainConfig.notes``).
"""

import math
import random
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.progress import BarColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from cr_interp.models.forward import backbone, logits
from cr_interp.models.loading import load
from cr_interp.progress import Words, bars
from cr_interp.system.names import Seed
from training.organisms import GOES_ON
from training.organisms.curriculum import LAKE_SHARES, SHARES, draw_lesson
from training.organisms.organism import build_config, build_tokenizer
from training.organisms.pack import IGNORED, Packed, pack
from training.organisms.pretrain_state import load_state, save_state


class PretrainConfig(BaseModel):
    """Everything that decides the weights."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    organism: str = "llama"
    steps: int = Field(4000, gt=0, le=10**8)
    rows: int = Field(32, gt=0, le=10**6)
    """Lessons a step."""
    turns: int = Field(6, gt=0, le=1000)
    """Questions a lesson."""
    lr: float = Field(3e-3, gt=0, le=100)
    """Of AdamW."""
    muon_lr: float = Field(4e-3, gt=0, le=100)
    """Of Muon, whose updates are scaled to AdamW's."""
    warmup: int = Field(100, ge=0, le=10**8)
    weight_decay: float = Field(0.01, ge=0, le=100)
    hidden: float = Field(0.3, ge=0, le=1)
    """Share of the lessons whose instruction is hidden, a third of them behind a context about nothing …"""
    hidden_early: float = Field(0.05, ge=0, le=1)
    """… and what it is in the first ``early`` of the steps: hidden lessons teach nothing about reading a context. (Two
    probes of 500 steps, codebook A right with its context: 29 % with 0.3 throughout, 84 % so; Muon's rate differed too.)"""
    early: float = Field(0.6, ge=0, le=1)
    notes: float = Field(0.6, ge=0, le=1)
    """In so much of the steps, the cells of a board are labelled with their roles: a scaffold. (Two probes, 900 steps:
    67 % of Sokoban's answer tokens right with notes, 54 % without, though that one began with fixed legends.)"""
    shares: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = SHARES
    seed: Seed = 0
    begin: str | None = None
    """Weights to go on from, a model; null: from nothing."""

    @staticmethod
    def of(organism: str, **changes: Any) -> "PretrainConfig":
        """Return the recipe of an organism. One that goes on from another's weights has them to keep: lower rates, no
        scaffolds.
        """
        known: dict[str, Any] = {"organism": organism}
        if organism in GOES_ON:
            known |= {
                "begin": f"builtin:organism-{GOES_ON[organism]}",
                "shares": LAKE_SHARES,
                "steps": 1200,
                "lr": 1e-3,
                "muon_lr": 2e-3,
                "hidden_early": 0.3,
                "notes": 0.3,
            }
        return PretrainConfig(**{**known, **changes})


#: Lessons computed together: of like length, so there are few pads, and few enough to stay in the cache. (A step of
#: Qwen3 on one core: 0.59 s in one piece, 0.46 s so, and 0.34 s compiled.)
TOGETHER = 8
#: Steps after which a stopped pre-training can go on.
SAVE_EVERY = 200


def batches(tokenizer: Any, config: PretrainConfig) -> Iterator[list[Packed]]:
    """Yield one batch a step, in parts, for ever; what they are depends on the configuration alone."""
    rng = random.Random(config.seed)
    for step in count():
        hidden = config.hidden_early if step < config.early * config.steps else config.hidden
        lessons = [draw_lesson(rng, config.turns, hidden, config.shares) for _ in range(config.rows)]
        lessons.sort(key=lambda lesson: lesson.characters)
        notes = step < config.notes * config.steps
        yield [pack(tokenizer, lessons[i : i + TOGETHER], notes) for i in range(0, config.rows, TOGETHER)]


def backward(model: nn.Module, batch: list[Packed]) -> float:
    """Add the gradient of the batch's loss, and return the loss."""
    answers = sum(part.answers for part in batch)
    loss = 0.0
    for part in batch:
        share = loss_of(model, part) * (part.answers / answers)
        share.backward()
        loss += share.item()
    return loss


def loss_of(model: nn.Module, batch: Packed) -> Tensor:
    """Compute the mean cross entropy of the answers' tokens."""
    hidden = backbone(model)(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.attention
    ).last_hidden_state
    chosen = batch.labels != IGNORED
    return nn.functional.cross_entropy(logits(model, hidden[chosen]).float(), batch.labels[chosen])


def optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Make Muon on the blocks' matrices, AdamW on embeddings, norms and biases."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.dim() == 2 and "embed" not in name else rest).append(parameter)
    return [
        torch.optim.Muon(
            matrices, lr=config.muon_lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(rest, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay),
    ]


def rate(step: int, config: PretrainConfig) -> float:
    """Return the rate: linear warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / config.warmup)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


def pretrain(config: PretrainConfig, out: Path, compiled: bool = False) -> None:
    """Train and save a Hugging Face folder, in float16: half the size, and loaded as float32.

    ``compiled`` by PyTorch's inductor, which wants a C++ compiler and a minute first. Stopped and called again, it
    continues from the last of the states that it saves every ``SAVE_EVERY`` steps.
    """
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer()
    if config.begin is None:
        model = AutoModelForCausalLM.from_config(build_config(config.organism, len(tokenizer)))
    else:
        model = load(config.begin).model.train()
    if compiled:
        backbone(model).compile(dynamic=True)
    chosen = optimizers(model, config)
    full = [group["lr"] for each in chosen for group in each.param_groups]
    kept = out / "pretraining.safetensors"
    begin = load_state(kept, model, chosen, config.model_dump_json())
    columns = (Words(), BarColumn(), Words("{task.completed}/{task.total}"))
    started = time.monotonic()
    with bars(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(f"pre-training {config.organism}", total=config.steps, completed=begin)
        for step, batch in enumerate(islice(batches(tokenizer, config), begin, config.steps), begin):
            for group, lr in zip((group for each in chosen for group in each.param_groups), full, strict=True):
                group["lr"] = lr * rate(step, config)
            loss = backward(model, batch)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for each in chosen:
                each.step()
                each.zero_grad()
            progress.update(bar, advance=1)
            if step % 100 == 0:
                progress.console.print(f"step {step}  loss {loss:.4f}  {time.monotonic() - started:.0f} s")
            if (step + 1) % SAVE_EVERY == 0:
                out.mkdir(parents=True, exist_ok=True)
                save_state(kept, model, chosen, step + 1, config.model_dump_json())
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    kept.unlink(missing_ok=True)
