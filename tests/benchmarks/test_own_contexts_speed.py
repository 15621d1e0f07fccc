"""A whole training step with a context of each example, 512 tokens that no other has, against TRL's self-distillation trainer.

Nothing can be shared here but the first tokens of the template, so what is left is decoding, the head at aligned positions, and
no pads where lengths are sorted. The same model, prompts, contexts and responses on both sides, as in ``test_against_trl.py``;
the losses have to agree on TRL's own responses before anything is timed.
"""

import random
import statistics
import time

import pytest
import torch
from rich.console import Console
from rich.table import Table
from test_against_trl import CONTEXT, RESPONSE, Endless, trl_trainer

from cr_interp.models.generation import Decoding
from cr_interp.models.loading import load
from cr_interp.tasks.lengths import FILLER
from training.objectives import arm_terms
from training.run.rollouts import LocalRollouts
from training.run.step import Prompt
from training.run.trainer import DistillTrainer
from training.settings import Training

pytestmark = [pytest.mark.bench, pytest.mark.timeout(2400)]
ROWS, ROUNDS, FASTER = 8, 2, 1.5


def test_a_step_with_contexts_of_their_own_against_trl(tmp_path):
    pytest.importorskip("gguf")
    torch.set_num_threads(2)
    loaded = load("builtin:smollm2-135m-instruct")
    student = Endless(loaded.name, loaded.model, loaded.tokenizer)
    rng = random.Random(0)
    contexts = []
    for _ in range(ROWS):
        ids = loaded.tokenizer(" ".join(rng.choices(FILLER, k=2 * CONTEXT)), add_special_tokens=False)[
            "input_ids"
        ]
        contexts.append(loaded.tokenizer.decode(ids[:CONTEXT]))
    theirs, rows = trl_trainer(loaded.model, loaded.tokenizer, tmp_path, contexts)
    teacher = load("builtin:smollm2-135m-instruct")
    with torch.no_grad():  # apart from the teacher, or every divergence would be 0
        generator = torch.Generator().manual_seed(0)
        for parameter in student.model.parameters():
            parameter.add_(0.01 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    builder = theirs.teacher_context_builder
    without = theirs._tokenize_prompts([row["prompt"] for row in rows])
    given = theirs._tokenize_prompts(
        builder.select_generation_prompts([r["prompt"] for r in rows], [r["privileged_context"] for r in rows])
    )
    prompts = [Prompt("", x, c) for x, c in zip(without, given, strict=True)]
    ours = DistillTrainer(
        student,
        teacher,
        prompts,
        arm_terms("nca"),
        LocalRollouts(Decoding(RESPONSE, 1.0), 0),
        Training(steps=1, batch_size=ROWS),
        tmp_path / "nca",
    )

    def their_step():
        theirs.model.train()
        theirs._buffered_inputs = None
        return theirs.training_step(theirs.model, rows, ROWS)

    def our_step(responses=None):
        asked = [prompt.no_context for prompt in prompts]
        responses = responses or [list(r.ids) for r in ours.rollouts.sample(student, asked, 0)]
        total = ours.reader.losses(student.model, prompts, responses).total
        total.backward()
        return total.detach()

    def timed(step):
        student.model.zero_grad()
        start = time.perf_counter()
        value = step()
        return time.perf_counter() - start, value

    _, loss = timed(their_step)
    written = theirs._buffered_inputs[0]["completion_ids"].tolist()
    assert timed(lambda: our_step(written))[1].item() == pytest.approx(loss.item(), rel=1e-3)
    found = [(timed(their_step)[0], timed(our_step)[0]) for _ in range(ROUNDS)]
    ratio = statistics.median(t / o for t, o in found)
    table = Table(
        "side", "seconds", title=f"A step with the anchor, {ROWS} contexts of {CONTEXT} different tokens"
    )
    for name, side in (("TRL's SDFT trainer, anchor added", 0), ("here", 1)):
        table.add_row(name, f"{statistics.median(each[side] for each in found):.2f}")
    Console().print(table)
    Console().print(f"{ratio:.2f} × faster (wanted: {FASTER})")
    assert ratio >= FASTER
