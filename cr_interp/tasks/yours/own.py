"""A task from the user's own files: prompts with answers in a JSONL, a context in a text or JSON file.

A prompt is a line ``{"prompt": "…", "answer": "…", "id": "…"}``; see ``text_files.py`` for what a line and a text is. ``id`` and
``answer`` may be left out: without an answer nobody says what is right, and the study measures what needs no key. A response is
right if it contains the answer as a whole word or phrase, in any casing. These are prompts to ask checkpoints that exist; what
is to be trained on needs splits and often a subtler grader: a description (``described.py``) or a Python file.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.system.text_files import json_lines, read_json, read_text
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.graders import contains
from cr_interp.views import Context
from cr_interp.vocabulary import UNGRADED


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
        return contains(example.answer, response, truncated) if example.answer else UNGRADED


def read_prompts(path: Path) -> tuple[Example, ...]:
    """Read the JSONL; every problem is reported with its line."""
    examples: list[Example] = []
    for number, row in json_lines(path, "a JSONL file with prompts"):
        where = f"{path}, line {number}"
        answer = row.get("answer") if isinstance(row, dict) else None
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("prompt"), str)
            or not isinstance(answer, str | None)
        ):
            raise UserError(
                f"{where}: expected an object with the text 'prompt' and, if there is a key, the text 'answer'."
            )
        own_id = row.get("id", number)
        if isinstance(own_id, bool) or not isinstance(own_id, str | int):
            raise UserError(f"{where}: an 'id' is a text or a whole number; found {own_id!r}.")
        if answer is not None and not answer.strip():
            raise UserError(f"{where}: the answer is empty, and no response can be compared with it.")
        examples.append(Example(str(own_id), row["prompt"], answer or ""))
    if not examples:
        raise UserError(f"{path} has no prompts.")
    if len({example.id for example in examples}) < len(examples):
        raise UserError(f"{path}: two prompts share an id; ids have to be unique.")
    return tuple(examples)


def read_context(path: Path) -> Context:
    """``.json``: {"messages": [...], "splice": "…{prompt}…"}; anything else is the text of a system message."""
    wanted = "a text or JSON file with the context"
    if path.suffix.lower() != ".json":
        return Context.system(read_text(path, wanted).strip())
    data = read_json(path, wanted)
    if not isinstance(data, dict):
        raise UserError(f"{path} has to hold an object with 'messages' or 'splice'; found {type(data).__name__}.")
    return Context.from_dict(data)
