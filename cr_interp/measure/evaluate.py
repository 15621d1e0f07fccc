"""Run a model in both views and grade it: from a model to rows of the ``generations`` table."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

import pandas as pd

from cr_interp.measure.turns import Played, as_turns, places, play
from cr_interp.models.generation import Decoding, Response, decode_text, generate, noise
from cr_interp.models.loading import Loaded
from cr_interp.tasks.base import Example, GivesNewInstruction, TakesTurns, Task, before
from cr_interp.tasks.games.transcript import transcript
from cr_interp.views import Context, EachOwn, Given, NoContext, check_context_shows, render


class Sampler(Protocol):
    """Another engine than our own decoding: prompts as ids in, a response for each out, in order."""

    def sample(
        self, loaded: Loaded, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int
    ) -> list[Response]: ...


def evaluate(
    loaded: Loaded,
    task: Task,
    examples: Sequence[Example],
    contexts: Mapping[str, Given],
    no_context: NoContext = "empty_system",
    temperature: float = 0.0,
    samples: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    sampler: Sampler | None = None,
) -> pd.DataFrame:
    """Ask the model in both views, and return a row per example, view, control and sample: the response, its ids and its
    grade.

    ``sampler`` answers in the place of our own decoding. ``contexts`` maps a control (``exact``, …) to its context; the
    no-context view is always run and has control ``none``. ``obeys_new`` says whether the response does what the *mismatched*
    context asks for. Columns of the ``generations`` table except ``arm, seed, step, split``, which the caller knows.

    Where examples bring contexts or a conversation of their own, ``before`` is what stood before the prompt in the row's
    view, as JSON (:meth:`~cr_interp.views.Context.to_dict`; empty for nothing), so that the study can ask again.

    A task with turns is played anew in every view, and an episode is a row: ``prompt`` is its first turn's, ``response`` a
    transcript, ``n_tokens`` and ``response_ids`` are of all turns, one after the other. Two more columns take them apart:
    ``turn_prompts``, without the context, and ``turn_tokens``, the tokens of each turn's response.
    """
    decoding = Decoding(task.max_new_tokens, temperature, top_k, top_p, batch_size)
    views: list[tuple[str, str, Given | None]] = [("no_context", "none", None)]
    views += [("with_context", control, context) for control, context in contexts.items()]

    def rendered(shown: Given | None) -> list[list[int]]:
        return [
            render(loaded.tokenizer, example.prompt, before(example, shown), no_context) for example in examples
        ]

    plain = rendered(None)
    for control, shown in contexts.items():
        given = rendered(shown)
        check_context_shows(loaded.tokenizer, plain, given, control)
    own = any(isinstance(each, EachOwn) for each in contexts.values()) or any(each.history for each in examples)
    rows: list[dict[str, Any]] = []
    for view, control, context in views:
        for sample in range(samples):
            # The views' draws are independent: Harm's noise floor is about two samples that share nothing.
            draws = crc32(f"{seed} {control} {sample}".encode())
            episodes = _play(loaded, task, examples, context, no_context, decoding, draws, sampler)
            for example, episode in zip(examples, episodes, strict=True):
                text = transcript([turn.text for turn in episode.turns])
                ids = [id for turn in episode.turns for id in turn.response.ids]
                row = {
                    "example_id": example.id,
                    "cluster": example.cluster,
                    "view": view,
                    "control": control,
                    "sample": sample,
                    "prompt": example.prompt,
                    "answer": example.answer,
                    "response": text,
                    "response_ids": ids,
                    "n_tokens": len(ids),
                    "outcome": episode.outcome,
                    "obeys_new": task.obeys(example, text) if isinstance(task, GivesNewInstruction) else None,
                }
                if own:
                    row["before"] = written(before(example, context))
                if isinstance(task, TakesTurns):
                    row["turn_prompts"] = [turn.prompt for turn in episode.turns]
                    row["turn_tokens"] = [len(turn.response.ids) for turn in episode.turns]
                rows.append(row)
    return pd.DataFrame(rows)


def written(context: Context | None) -> str:
    """Write what stands before a prompt as JSON; empty for nothing."""
    return "" if context is None else json.dumps(context.to_dict(), ensure_ascii=False)


def _play(
    loaded: Loaded,
    task: Task,
    examples: Sequence[Example],
    context: Given | None,
    no_context: NoContext,
    decoding: Decoding,
    seed: int,
    sampler: Sampler | None,
) -> list[Played]:
    """Play every example in one view; the random numbers come from the seed, the example's place and the turn."""

    def sample(prompts: list[list[int]], rows: list[int], turn: int) -> list[Response]:
        if sampler is not None:
            return sampler.sample(loaded, prompts, decoding, seed + turn)
        drawn = noise(seed, places(rows, turn, len(examples)), decoding.max_new_tokens)
        return generate(loaded, prompts, decoding, drawn)

    return play(
        as_turns(task),
        examples,
        lambda prompt, row: render(loaded.tokenizer, prompt, before(examples[row], context), no_context),
        sample,
        lambda response: decode_text(loaded, response),
    )
