"""What a checkpoint is asked, and its answers in every view.

A :class:`Subject` says what is asked, :func:`behaviour_rows` gives rows for a study's ``generations`` table; how far
the states move is measured in ``drift.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cr_interp.errors import UserError
from cr_interp.measure.drawn import drawn
from cr_interp.measure.evaluate import Sampler, evaluate
from cr_interp.measure.settings import Evaluation
from cr_interp.models.loading import Loaded
from cr_interp.similarity import tokens_each
from cr_interp.study.study import Study
from cr_interp.tasks.base import Example, Task, before
from cr_interp.views import Given, NoContext, context_length, render


@dataclass(frozen=True)
class Subject:
    """A question to a checkpoint: examples of a task, and the contexts that may stand before them."""

    task: Task
    examples: Sequence[Example]
    contexts: Mapping[str, Given]
    no_context: NoContext
    evaluation: Evaluation

    @staticmethod
    def of(task: Task, tokenizer: Any, no_context: NoContext, evaluation: Evaluation) -> "Subject":
        """Make a subject of the examples of the evaluation's split, and the task's contexts as this tokenizer sees them."""
        contexts = task.contexts(lambda context: context_length(tokenizer, context, no_context))
        wanted: dict[str, Given] = {name: contexts[name] for name in evaluation.controls if name in contexts}
        if "exact" not in wanted:
            raise UserError(f"The controls {list(evaluation.controls)} lack 'exact', which every metric needs.")
        examples = drawn(task, evaluation)
        return Subject(task, examples, wanted, no_context, evaluation)

    def prompts(
        self, tokenizer: Any, examples: Sequence[Example], control: str | None, texts: Sequence[str] | None = None
    ) -> list[list[int]]:
        """Render the examples' prompts in one view as ids: behind the context of a control, or without any (None).

        ``texts`` are what is asked instead of each example's own prompt: the later turns of an episode.
        """
        given = None if control is None else self.contexts[control]
        asked = [each.prompt for each in examples] if texts is None else texts
        return [
            render(tokenizer, text, before(each, given), self.no_context)
            for each, text in zip(examples, asked, strict=True)
        ]


def label(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Put identifying columns in front."""
    return pd.concat([pd.DataFrame({k: [v] * len(rows) for k, v in columns.items()}), rows], axis=1)


def behaviour_rows(
    loaded: Loaded, subject: Subject, arm: str, seed: int, step: int, sampler: Sampler | None = None
) -> pd.DataFrame:
    """Make rows of ``generations`` for one checkpoint; ``sampler`` answers in the place of our own decoding."""
    chosen = subject.evaluation
    rows = evaluate(
        loaded,
        subject.task,
        subject.examples,
        subject.contexts,
        subject.no_context,
        chosen.temperature,
        chosen.samples,
        chosen.batch_size,
        chosen.seed,
        chosen.top_k,
        chosen.top_p,
        sampler,
    )
    return label(rows, arm=arm, seed=seed, step=step, split=chosen.split)


def own_responses(generations: pd.DataFrame) -> dict[str, list[int]]:
    """Return response ids of the no-context view (first sample), by example id."""
    rows = generations[(generations["view"] == "no_context") & (generations["sample"] == 0)]
    return {str(i): ids for i, ids in zip(rows["example_id"], _ids(rows), strict=True)}


def _ids(rows: pd.DataFrame) -> list[list[int]]:
    """Return the ids of each row's response. Raises :class:`UserError` for a table that has none, or something else in their
    place.
    """
    try:
        return [[int(token) for token in ids] for ids in rows["response_ids"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "The table 'generations' has no token ids of its responses (column response_ids), so their states cannot be read. It "
            "was damaged, or written before they were kept: fill it anew with `cr-interp evaluate STUDY --again`."
        ) from error


def study_tokens(generations: pd.DataFrame) -> int:
    """Choose how many tokens of each response example-level CKA compares: one number for all arms, seeds, steps and layers.

    By the rule of :func:`~cr_interp.similarity.tokens_each`, from every checkpoint's own no-context responses.
    """
    rows = generations[(generations["view"] == "no_context") & (generations["sample"] == 0)]
    counts = pd.Series([len(ids) for ids in _ids(rows)], index=rows.index)
    lengths = counts.groupby([rows["arm"], rows["seed"], rows["step"]])
    return tokens_each([one.tolist() for _, one in lengths])


def with_tokens(study: Study, generations: pd.DataFrame, fixed: str = "own", anew: bool = False) -> Study:
    """Return the study with ``example_tokens`` in its manifest: :func:`study_tokens`, chosen once and then kept for what is
    added.

    ``fixed`` is the arm on whose responses all are measured, or ``own``; ``anew``: everything is measured again, so choose
    again.
    """
    if "example_tokens" in study.manifest and not anew:
        return study
    rows = generations if fixed == "own" else generations[generations["arm"] == fixed]
    return study.update_manifest(example_tokens=study_tokens(rows))


def own_turns(generations: pd.DataFrame) -> dict[str, list[tuple[str, int]]]:
    """Divide :func:`own_responses` into turns: prompt and number of ids of each; empty for a task without turns."""
    if "turn_prompts" not in generations:
        return {}
    rows = generations[(generations["view"] == "no_context") & (generations["sample"] == 0)]
    return {
        str(i): [(str(prompt), int(n)) for prompt, n in zip(prompts, tokens, strict=True)]
        for i, prompts, tokens in zip(rows["example_id"], rows["turn_prompts"], rows["turn_tokens"], strict=True)
    }
