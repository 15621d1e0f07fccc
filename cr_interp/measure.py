"""Measure one checkpoint: its answers in every view, and how far its states move when the context returns.

This is where the instrument's parts meet: a :class:`Subject` says what is asked, :func:`behaviour_rows` and
:func:`drift_rows` give rows for a study's ``generations`` and ``drift`` tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from cr_interp.capture import capture
from cr_interp.errors import UserError
from cr_interp.evaluation import evaluate
from cr_interp.forward import build_view, encode_prefix
from cr_interp.models import Loaded
from cr_interp.similarity import DriftAccumulator
from cr_interp.sites import residual_sites
from cr_interp.tasks.base import Example, Task
from cr_interp.views import Context, NoContext, check_fits, context_length, render, shared_prefix


class Evaluation(BaseModel):
    """What is reported, on examples that neither training nor tuning has seen."""

    model_config = ConfigDict(extra="forbid")

    split: Literal["validation", "test"] = "test"
    examples: int = Field(256, gt=0)
    controls: tuple[Literal["exact", "paraphrase", "mismatched", "irrelevant"], ...] = (
        "exact", "paraphrase", "mismatched", "irrelevant",
    )  # fmt: skip
    temperature: float = Field(0.0, ge=0)
    samples: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    responses: str = "own"
    """What the drift is measured on: each checkpoint's ``own`` no-context responses, or those of the arm named here
    (its first seed), the same for all."""
    seed: int = 0
    """Which examples are drawn; the same for every arm and every training seed."""


@dataclass(frozen=True)
class Subject:
    """What a checkpoint is asked: examples of a task, and the contexts that may stand before them."""

    task: Task
    examples: Sequence[Example]
    contexts: Mapping[str, Context]
    no_context: NoContext
    evaluation: Evaluation

    @staticmethod
    def of(task: Task, tokenizer: Any, no_context: NoContext, evaluation: Evaluation) -> "Subject":
        """The examples of the evaluation's split, and the task's contexts as this tokenizer sees them."""
        contexts = task.contexts(lambda context: context_length(tokenizer, context, no_context))
        wanted: dict[str, Context] = {name: contexts[name] for name in evaluation.controls if name in contexts}
        if "exact" not in wanted:
            raise UserError(f"The controls {list(evaluation.controls)} lack 'exact', which every metric needs.")
        examples = task.examples(evaluation.split, evaluation.examples, evaluation.seed)
        return Subject(task, examples, wanted, no_context, evaluation)


def label(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Put identifying columns in front."""
    return pd.concat([pd.DataFrame({k: [v] * len(rows) for k, v in columns.items()}), rows], axis=1)


def behaviour_rows(loaded: Loaded, subject: Subject, arm: str, seed: int, step: int) -> pd.DataFrame:
    """Rows of ``generations`` for one checkpoint."""
    chosen = subject.evaluation
    rows = evaluate(
        loaded, subject.task, subject.examples, subject.contexts, subject.no_context,
        chosen.temperature, chosen.samples, chosen.batch_size, chosen.seed,
    )  # fmt: skip
    return label(rows, arm=arm, seed=seed, step=step, split=chosen.split)


def drift_rows(
    loaded: Loaded,
    subject: Subject,
    responses: Mapping[str, Sequence[int]],
    arm: str,
    seed: int,
    step: int,
    progress: Callable[[int], None] = lambda tokens: None,
) -> pd.DataFrame:
    """Rows of ``drift`` for one checkpoint: every measure at the embedding and after every block, per control.

    ``responses`` maps an example's id to the response ids on which the views are compared (usually the
    checkpoint's own no-context answers). States stream batch by batch into one accumulator per site and control.
    """
    sites = residual_sites(loaded.model)
    width = loaded.model.config.get_text_config().hidden_size
    controls = list(subject.contexts)
    accumulators = {(c, site): DriftAccumulator(width) for c in controls for site in sites}
    examples = [example for example in subject.examples if example.id in responses]
    if not examples:
        raise UserError("None of the examples has a response to compare the views on. Run `evaluate` first.")

    def prompts(context: Context | None) -> list[list[int]]:
        return [render(loaded.tokenizer, each.prompt, context, subject.no_context) for each in examples]

    views = {"none": prompts(None), **{c: prompts(context) for c, context in subject.contexts.items()}}
    shared = {c: shared_prefix(ids) for c, ids in views.items()}
    answers = [list(responses[example.id]) for example in examples]
    for c, ids in views.items():
        longest = max(len(p) + len(a) for p, a in zip(ids, answers, strict=True))
        check_fits(longest, loaded.max_positions, f"The longest sequence with context '{c}'")
    with torch.no_grad():
        prefixes = {c: encode_prefix(loaded.model, ids[0][: shared[c]]) for c, ids in views.items()}
    for start in range(0, len(examples), subject.evaluation.batch_size):
        part = slice(start, start + subject.evaluation.batch_size)

        def states(c: str, part: slice = part) -> Any:
            view = build_view(views[c][part], answers[part], loaded.pad_id, shared[c])
            return view, capture(loaded.model, view, sites, prefixes[c])

        view, without = states("none")
        owner = view.rows + start
        for c in controls:
            _, given = states(c)
            for site in sites:
                try:
                    accumulators[c, site].update(without[site], given[site], owner)
                except UserError as error:
                    raise UserError(f"At {site}, context '{c}': {error}") from error
        progress(len(view.targets))
    rows = [
        {"site": site.name, "layer": site.layer, "control": c, **found}
        for (c, site), accumulator in accumulators.items()
        for found in accumulator.finish(resamples=1000)
    ]
    return label(pd.DataFrame(rows), arm=arm, seed=seed, step=step)


def own_responses(generations: pd.DataFrame) -> dict[str, list[int]]:
    """Response ids of the no-context view (first sample), by example id."""
    rows = generations[(generations["view"] == "no_context") & (generations["sample"] == 0)]
    return {
        str(i): [int(t) for t in ids] for i, ids in zip(rows["example_id"], rows["response_ids"], strict=True)
    }
