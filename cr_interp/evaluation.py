"""Run a model in both views and grade it: from a model to rows of the ``generations`` table."""

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import pandas as pd

from cr_interp.generation import Decoding, decode_text, generate, noise
from cr_interp.models import Loaded
from cr_interp.tasks.base import Example, GivesNewInstruction, Task
from cr_interp.views import Context, NoContext, render


def evaluate(
    loaded: Loaded,
    task: Task,
    examples: Sequence[Example],
    contexts: Mapping[str, Context],
    no_context: NoContext = "empty_system",
    temperature: float = 0.0,
    samples: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> pd.DataFrame:
    """A row per example, view, control and sample: the response, its ids and its grade.

    ``contexts`` maps a control (``exact``, …) to its context; the no-context view is always run and has control
    ``none``. ``obeys_new`` says whether the response does what the *mismatched* context asks for. Columns of the
    ``generations`` table except ``arm, seed, step, split``, which the caller knows.
    """
    decoding = Decoding(task.max_new_tokens, temperature, top_k, top_p, batch_size)
    views: list[tuple[str, str, Context | None]] = [("no_context", "none", None)]
    views += [("with_context", control, context) for control, context in contexts.items()]
    rows: list[dict[str, Any]] = []
    for view, control, context in views:
        prompts = [render(loaded.tokenizer, example.prompt, context, no_context) for example in examples]
        for sample in range(samples):
            # The views' draws are independent: Harm's noise floor is about two samples that share nothing.
            drawn = noise(
                crc32(f"{seed} {control} {sample}".encode()), range(len(prompts)), decoding.max_new_tokens
            )
            responses = generate(loaded, prompts, decoding, drawn)
            for example, response in zip(examples, responses, strict=True):
                text = decode_text(loaded, response)
                rows.append(
                    {
                        "example_id": example.id,
                        "view": view,
                        "control": control,
                        "sample": sample,
                        "prompt": example.prompt,
                        "answer": example.answer,
                        "response": text,
                        "response_ids": list(response.ids),
                        "n_tokens": len(response.ids),
                        "outcome": task.grade(example, text, response.truncated),
                        "obeys_new": task.obeys(example, text) if isinstance(task, GivesNewInstruction) else None,
                    }
                )
    return pd.DataFrame(rows)
