"""A tiny student with somebody's trainer: what the tests of integrations share."""

from copy import deepcopy

import pytest
import torch
from transformers import Trainer, TrainingArguments


@pytest.fixture
def plain_trainer(tiny_llama, tmp_path):
    """A function that makes a plain Trainer of next tokens on random ids; options go to ``TrainingArguments``."""

    def make(callbacks=(), model=None, tokenizer=None, **options):
        torch.manual_seed(0)
        ids = torch.randint(3, 30, (24, 12))
        rows = [{"input_ids": row, "labels": row} for row in ids]
        args = TrainingArguments(
            str(tmp_path / "out"),
            **{
                "max_steps": 4,
                "per_device_train_batch_size": 4,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "report_to": "none",
                "use_cpu": True,
                "disable_tqdm": True,
                "save_strategy": "no",
                "seed": 0,
                **options,
            },
        )
        return Trainer(
            model=deepcopy(tiny_llama.model) if model is None else model,
            args=args,
            train_dataset=rows,
            callbacks=list(callbacks),
            processing_class=tokenizer or tiny_llama.tokenizer,
        )

    return make


@pytest.fixture
def rows():
    return [{"prompt": word, "answer": word[::-1]} for word in ("abcd", "bcda", "ddda", "acbd")]
