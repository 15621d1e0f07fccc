"""A task from the user's own files: prompts in a JSONL, CSV or Parquet file or a hub dataset, a context in a text or JSON file.

How rows are read (chats, columns under other names, contexts of their own, keys that some lack): ``asked_rows.py``. A response is
right if it contains the answer as a whole word or phrase, in any casing, unless another grader is named (``grading.py``). These
are prompts to ask checkpoints that exist; what is to be trained on needs splits: a description (``described.py``) or a Python
file.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cr_interp.confined import is_regular
from cr_interp.errors import UserError
from cr_interp.system.digests import digest_of
from cr_interp.system.text_files import read_json, read_text
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.lengths import irrelevant_in_place
from cr_interp.tasks.yours.asked_rows import Read, Wanted, check_ids, read_examples
from cr_interp.tasks.yours.each_own import each_own
from cr_interp.tasks.yours.grading import Grading
from cr_interp.tasks.yours.local_rows import read_local
from cr_interp.views import Context, Given


@dataclass(frozen=True)
class OwnTask:
    """Fixed examples, all of them in every split, and one context, or (None) one of each example."""

    name: str
    own_examples: tuple[Example, ...]
    context: Context | None
    max_new_tokens: int
    grading: Grading = field(default_factory=lambda: Grading(kind="contains"))
    folder: Path = Path()
    """Where files that the grader names are looked for."""
    others: Mapping[str, Context] = field(default_factory=dict)
    """Further contexts: paraphrase, mismatched, irrelevant."""
    told: str = "a context of each row"
    read_notes: tuple[str, ...] = ()
    """What of the rows was left aside, a sentence each."""

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        if n is not None and n > len(self.own_examples):
            raise UserError(f"Asked for {n} examples; the file has {len(self.own_examples)}.")
        ordered = list(self.own_examples)
        random.Random(seed).shuffle(ordered)
        return ordered[:n]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Given]:
        own: dict[str, Given] = (
            {"exact": self.context}
            if self.context is not None
            else {**each_own(self.own_examples, count_tokens, self.told)}
        )
        if self.others and "irrelevant" not in self.others and isinstance(own["exact"], Context):
            filler = irrelevant_in_place(Context.system, own["exact"], count_tokens)
            own |= {} if filler is None else {"irrelevant": filler}
        return {**own, **self.others}

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        return self.grading.grade(example, response, truncated, self.folder)

    def grader_parts(self) -> dict[str, str]:
        """Give what decides the verdicts; nothing for the usual grader, as older studies do not name it."""
        usual = self.grading == Grading(kind="contains")
        return {} if usual else {"grader": digest_of(self.grading.parts(self.folder))}

    def notes(self) -> list[str]:
        """Give what is said of the grading when all is graded."""
        return self.grading.notes(self.folder)


@dataclass(frozen=True)
class OwnTaskWithNewInstruction(OwnTask):
    """Whose ``mismatched`` context is an instruction of its own, which a second grader looks for."""

    new_instruction: Grading = field(default_factory=lambda: Grading(kind="contains"))

    def grader_parts(self) -> dict[str, str]:
        """Return the same, and the parts of the second grader."""
        second = digest_of(self.new_instruction.parts(self.folder))
        return {**super().grader_parts(), "grader of the new instruction": second}

    def obeys(self, example: Example, response: str) -> bool:
        return self.new_instruction.grade(example, response, False, self.folder) == "right"


def read_rows_of(path: Path, wanted: Wanted) -> Read:
    """Read the examples of a local file. Every problem is reported with its line."""
    if not is_regular(path):
        raise UserError(
            f"Could not read {path} (there is no such file). Give a JSONL, JSON, CSV or Parquet file with prompts."
        )
    rows = read_local(path)
    if not len(rows):
        raise UserError(f"{path} has no prompts.")
    found = read_examples(rows, str(path), wanted)
    check_ids(found.examples, str(path), wanted.columns.id)
    return found


def read_context(path: Path) -> Context:
    """Read a context. ``.json``: {"messages": [...], "splice": "…{prompt}…"}; anything else is the text of a system message."""
    wanted = "a text or JSON file with the context"
    if path.suffix.lower() != ".json":
        return Context.system(read_text(path, wanted).strip())
    data = read_json(path, wanted)
    if not isinstance(data, dict):
        raise UserError(f"{path} has to hold an object with 'messages' or 'splice'; found {type(data).__name__}.")
    return Context.from_dict(data)
