"""A task from the user's own files: prompts with answers in a JSONL, a context in a text or JSON file.

A prompt is a line ``{"prompt": "…", "answer": "…", "id": "…"}`` (``id`` may be left out). A response is right if it
contains the answer as a whole word or phrase, in any casing. These are prompts to ask checkpoints that exist; what is to
be trained on needs splits and often a subtler grader: a description (``described.py``) or a Python file.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.graders import contains
from cr_interp.views import Context


@dataclass(frozen=True)
class OwnTask:
    """Fixed examples, all of them in every split, and one context."""

    name: str
    own_examples: tuple[Example, ...]
    context: Context
    max_new_tokens: int

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        if n is not None and n > len(self.own_examples):
            raise UserError(f"Asked for {n} examples; the file has {len(self.own_examples)}.")
        ordered = list(self.own_examples)
        random.Random(seed).shuffle(ordered)
        return ordered[:n]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        return {"exact": self.context}

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        return contains(example.answer, response, truncated)


def read_prompts(path: Path) -> tuple[Example, ...]:
    """Read the JSONL; every problem is reported with its line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"Could not read {path} ({error.strerror}). Give a JSONL file with prompts.") from error
    examples: list[Example] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}, is not JSON ({error}).") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("prompt", "answer")):
            raise UserError(f"{path}, line {number}: expected an object with the texts 'prompt' and 'answer'.")
        examples.append(Example(str(row.get("id", number)), row["prompt"], row["answer"]))
    if not examples:
        raise UserError(f"{path} has no prompts.")
    if len({example.id for example in examples}) < len(examples):
        raise UserError(f"{path}: two prompts share an id; ids have to be unique.")
    return tuple(examples)


def read_context(path: Path) -> Context:
    """``.json``: {"messages": [...], "splice": "…{prompt}…"}; anything else is the text of a system message."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Could not read {path} ({error.strerror}). Give a text or JSON file with the context."
        ) from error
    if path.suffix != ".json":
        return Context.system(text.strip())
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} has to hold an object with 'messages' or 'splice'; found {type(data).__name__}.")
    return Context.from_dict(data)
