"""What the callback costs: seconds of a reading as a share of the seconds of the training, at a reading every ten steps.

A plain ``Trainer``, batches of 16 sequences of 128 tokens; 16 examples behind a context of 128 tokens are answered in both views
with at most 16 tokens each, and read at every layer. On SmolLM2-135M, and on an organism of a million parameters, where a step is
so short that what a reading costs besides arithmetic shows. Seconds are the process's own, so that neighbours do not count.
"""

import statistics
import time

import pytest
import torch
from cr_interp.integrations.callback import watch
from rich.console import Console
from transformers import Trainer, TrainerCallback, TrainingArguments

from cr_interp.models.loading import load
from cr_interp.tasks.lengths import FILLER

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
ROWS, LENGTH, EVERY, EXAMPLES, TOKENS = 16, 128, 10, 16, 16


class Clock(TrainerCallback):
    def __init__(self):
        self.steps, self.started = [], 0.0

    def on_step_begin(self, *_, **__):
        self.started = time.process_time()

    def on_step_end(self, *_, **__):
        self.steps.append(time.process_time() - self.started)


@pytest.mark.parametrize("model", ["organism-llama", "smollm2-135m-instruct"])
def test_share_of_a_step(model, tmp_path):
    if model.startswith("smollm2"):
        pytest.importorskip("gguf")
    torch.set_num_threads(1)
    loaded = load(f"builtin:{model}")
    ids = torch.randint(10, len(loaded.tokenizer), (ROWS * 4, LENGTH), generator=torch.Generator().manual_seed(0))
    args = TrainingArguments(
        str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=ROWS,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        learning_rate=1e-6,
    )
    clock = Clock()
    trainer = Trainer(
        model=loaded.model,
        args=args,
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        callbacks=[clock],
        processing_class=loaded.tokenizer,
    )
    context = loaded.tokenizer.decode(
        loaded.tokenizer(" ".join(FILLER * 20), add_special_tokens=False)["input_ids"][:LENGTH]
    )
    rows = [{"prompt": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(EXAMPLES)]
    views = watch(trainer, rows, context=context, every=1, max_new_tokens=TOKENS)
    seconds = []
    real = views._read

    def timed(step, first=False):
        started = time.process_time()
        real(step, first)
        seconds.append(time.process_time() - started)

    views._read = timed
    trainer.train()
    step, reading = statistics.median(clock.steps[1:]), statistics.median(seconds[1:-1])
    share = reading / (EVERY * step + reading)
    Console().print(
        f"{model}: a step {step:.2f} s, a reading {reading:.2f} s: {100 * share:.1f} % of the time at one every {EVERY} steps"
    )
    assert share < 0.5
