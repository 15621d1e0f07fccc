"""A task that a YAML file describes: rows with prompts and answers, a context, a grader. No code.

    name: medmcqa
    train: {dataset: ytz20/sys_medmcqa_train}      # a hub id, or a JSONL, Parquet or CSV file beside this one
    test: {dataset: ytz20/sys_medmcqa_test}
    columns: {prompt: content, answer: answer}
    context: {file: context.txt}                   # or text, url + sha256, dataset + column, repo + path
    grader: {kind: choice, letters: ABCD}          # or answer_tag, boxed, contains, regex, json, … (grading.py)
    max_new_tokens: 512

A context may be one of each row: ``context: {each: "Hint: {hint}"}`` fills a template from the row's fields, ``columns.context``
names a column, and without a ``context`` it is the system message of the row's chat (``asked_rows.py``).

The validation split is cut from the training rows by a hash of the prompt: the same rows on every machine, and equal
prompts on one side. A training prompt that also stands in the test rows is left out, so that nothing tested was trained.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cr_interp.configuration import read_mapping, validated
from cr_interp.errors import UserError, unknown
from cr_interp.system.digests import digest_of
from cr_interp.system.names import Name
from cr_interp.tasks.base import SPLITS, CountTokens, Example, Outcome, Split
from cr_interp.tasks.lengths import irrelevant_in_place
from cr_interp.tasks.yours.asked_rows import CHAT, Columns, Wanted, check_ids, read_examples
from cr_interp.tasks.yours.each_own import each_own
from cr_interp.tasks.yours.grading import Grading
from cr_interp.tasks.yours.sources import Rows, Text, column, is_local, placed, read_rows, read_text
from cr_interp.views import Context, Given
from cr_interp.vocabulary import UNGRADED

#: The descriptions bundled here, by task name.
PUBLISHED = Path(__file__).parent / "published"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Description(_Strict):
    """The content of the YAML file."""

    name: Name
    """Of the task, in tables and pages."""
    train: Rows
    """Prompts that are distilled on; a share of them is held back for validation."""
    test: Rows
    """Prompts that are evaluated."""
    columns: Columns = Columns()
    """What the rows' columns are called."""
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of the training rows that is held back."""
    context: Text | None = None
    """What the teacher sees. null: each row brings its own, in ``columns.context`` or as the system message of its chat."""
    paraphrase: Text | None = None
    """The same in other words, a control; null: none."""
    mismatched: Text | None = None
    """Another instruction, a control; null: none."""
    splice: str | None = None
    """A user message with ``{context}`` and ``{prompt}``; null puts the context into a system message."""
    grader: Grading | None = None
    """How an answer is read and judged; null: there is no answer key."""
    new_instruction: Grading | None = None
    """Whether a response does what the ``mismatched`` context asks for: does the student still listen?"""
    some_answers: bool = False
    """Rows may lack an answer; accuracies are then of those that have one."""
    max_new_tokens: int = Field(512, gt=0, le=10**8)
    """Longest response, end of turn included."""

    def told(self) -> dict[str, Any]:
        """Return the description as plain values, without later keys that it does not set."""
        every: dict[str, Any] = self.model_dump(mode="json")
        for section, later in _LATER.items():
            part: Any = every.get(section) if section else every
            for key in later if isinstance(part, dict) else ():
                if not part[key]:
                    del part[key]
        return every


#: Section → keys that came later. Where they are not set they are left out of what a study notes, so that older ones stay.
_LATER = {
    "": ("new_instruction", "some_answers"),
    "columns": ("context", "paraphrase", "cluster"),
    "grader": ("pattern", "json_schema", "schema_file", "language", "function", "judge"),
    "context": ("each",),
    "paraphrase": ("each",),
    "mismatched": ("each",),
}


@dataclass(frozen=True)
class DescribedTask:
    """Fulfils :class:`cr_interp.tasks.base.Task`. ``folder`` is where relative files are looked for."""

    description: Description
    folder: Path
    max_new_tokens: int
    trusted: bool = False
    """Has a person named the description? Then its grader may run code, or ask a server."""

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def is_local(self) -> bool:
        """True if all rows and texts are on this machine: looking at them then reaches for no network."""
        told = self.description
        texts = [text for text in (told.context, told.paraphrase, told.mismatched) if text is not None]
        return all(is_local(rows.dataset) for rows in (told.train, told.test)) and all(
            text.url is None and text.repo is None and (text.dataset is None or is_local(text.dataset))
            for text in texts
        )

    def reaches_out(self) -> str | None:
        """Say what of it runs code, or asks a server or the network, as the end of a sentence; None if nothing does."""
        told = self.description
        for grader in (told.grader, told.new_instruction):
            if grader is not None and grader.reaches_out:
                return (
                    f"whose grader '{grader.kind}' {'runs code' if grader.kind == 'python' else 'asks a server'}"
                )
        return None if self.is_local else "whose rows or texts are not on this machine"

    @property
    def each_brings_its_own(self) -> bool:
        """True if each row brings a context of its own."""
        return self.description.context is None or self.description.context.each is not None

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        found = _split(self.description, self.folder, split)
        if n is not None and not 0 <= n <= len(found):
            raise UserError(
                f"Asked for {n} examples of the {split} split of task '{self.name}', which has {len(found)} distinct "
                f"ones. Ask for 0 to {len(found)}."
            )
        return random.Random(f"{self.name} {split} {seed}").sample(found, len(found))[:n]

    def left_out(self) -> list[str]:
        """Say what of its rows is in no split, a sentence each; nothing if all are."""
        told, found = self.description, []
        test = _examples(told, self.folder, "test")
        train = _examples(told, self.folder, "train")
        for split, rows, kept in (("training", told.train, train), ("test", told.test, test)):
            in_all = len(read_rows(placed(rows, self.folder)))
            if in_all > len(kept):
                found.append(f"{in_all - len(kept)} of the {in_all} {split} rows of {self.name} repeat a prompt")
        tested = {example.prompt for example in test}
        if both := sum(example.prompt in tested for example in train):
            found.append(
                f"{both} of the {len(train)} training prompts of {self.name} are also tested, so not trained on"
            )
        return found

    def contexts(self, count_tokens: CountTokens) -> dict[str, Given]:
        """Return the exact context, paraphrase and mismatched one as far as they are given, and an irrelevant one as long."""
        told = self.description
        texts = {"exact": told.context, "paraphrase": told.paraphrase, "mismatched": told.mismatched}
        contexts: dict[str, Given] = {
            control: self._context(read_text(text, self.folder))
            for control, text in texts.items()
            if text is not None and text.each is None
        }
        if self.each_brings_its_own:
            every = [*_examples(told, self.folder, "train"), *_examples(told, self.folder, "test")]
            made = told.context.each if told.context is not None else told.columns.context or "the system message"
            return {**each_own(every, count_tokens, f"{made!s} of each row"), **contexts}
        exact = contexts["exact"]
        assert isinstance(exact, Context)
        irrelevant = irrelevant_in_place(self._context, exact, count_tokens)
        return contexts if irrelevant is None else {**contexts, "irrelevant": irrelevant}

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        grader = self.description.grader
        if grader is None:
            return UNGRADED
        return grader.grade(example, response, truncated, self.folder, self.trusted)

    def grader_parts(self) -> dict[str, str]:
        """Return the content of the files that the graders name; all else of them stands in the description."""
        told = {
            "grader": self.description.grader,
            "grader of the new instruction": self.description.new_instruction,
        }
        return {
            f"files of the {name}": digest_of(each.parts(self.folder))
            for name, each in told.items()
            if each is not None and each.has_files
        }

    def notes(self) -> list[str]:
        """Give what is said of the grading when all is graded."""
        grader = self.description.grader
        return [] if grader is None or not self.trusted else grader.notes(self.folder)

    def _context(self, words: Context | str) -> Context:
        return words if isinstance(words, Context) else _placed(self.description, words)


@dataclass(frozen=True)
class DescribedTaskWithNewInstruction(DescribedTask):
    """Whose ``mismatched`` context is an instruction that a grader of its own looks for."""

    def obeys(self, example: Example, response: str) -> bool:
        grader = self.description.new_instruction
        return grader is not None and grader.grade(example, response, False, self.folder, self.trusted) == "right"


def published_names() -> list[str]:
    return sorted(path.stem for path in PUBLISHED.glob("*.yaml"))


def published_task(name: str) -> DescribedTask:
    return read_description(PUBLISHED / f"{name}.yaml")


def read_description(path: Path, trusted: bool = False) -> DescribedTask:
    """Read a description; what is wrong in it is said with its place, and no row is read yet. ``trusted``: see the task."""
    description = validated(Description, read_mapping(path), path)
    splice = description.splice
    if splice is not None and (splice.count("{context}") != 1 or splice.count("{prompt}") != 1):
        raise UserError(
            f"The task {path}: 'splice' has to contain {{context}} and {{prompt}} once each; found {splice!r}."
        )
    if description.new_instruction is not None and description.mismatched is None:
        raise UserError(
            f"The task {path}: 'new_instruction' says who obeys the 'mismatched' context, and there is none. Give both."
        )
    _check_contexts(description, path)
    for grader in (description.grader, description.new_instruction) if trusted else ():
        if grader is not None:
            grader.check(path.parent)
    kind = DescribedTask if description.new_instruction is None else DescribedTaskWithNewInstruction
    return kind(description, path.parent, description.max_new_tokens, trusted)


def _check_contexts(told: Description, path: Path) -> None:
    """Refuse what would be left aside unsaid: contexts of each row beside one for all."""
    for_all = told.context is not None and told.context.each is None
    if told.context is not None and told.columns.context is not None:
        raise UserError(
            f"The task {path}: both 'context' and 'columns.context' say what the context is. Keep one of them."
        )
    if told.mismatched is not None and told.mismatched.each is not None:
        raise UserError(
            f"The task {path}: 'mismatched' is one text for all; of contexts of each row it is another row's, by itself."
        )
    if for_all and (
        told.columns.paraphrase or (told.paraphrase is not None and told.paraphrase.each is not None)
    ):
        raise UserError(
            f"The task {path}: the context is one for all, and the paraphrase one of each row. Give one paraphrase, as 'text' or "
            f"'file'."
        )


def _placed(told: Description, words: str) -> Context:
    """Place a context's words where the description puts them."""
    return (
        Context.system(words) if told.splice is None else Context(splice=told.splice.replace("{context}", words))
    )


@cache
def _split(told: Description, folder: Path, split: Split) -> list[Example]:
    """Return the distinct prompts of a split, in the order of their rows."""
    test = _examples(told, folder, "test")
    if split == "test":
        return test
    tested = {example.prompt for example in test}
    train = [e for e in _examples(told, folder, "train") if e.prompt not in tested]
    kept = [e for e in train if (_share(e.prompt) < told.validation) == (split == "validation")]
    if not kept:
        raise UserError(
            f"{told.train.dataset} has {len(train)} distinct training prompts, and none of them falls into the {split} "
            f"split (validation: {told.validation}). Give more rows, or another share."
        )
    return kept


def _examples(told: Description, folder: Path, split: Literal["train", "test"]) -> list[Example]:
    columns, grader = told.columns, told.grader
    rows = placed(told.train if split == "train" else told.test, folder)
    table, where = read_rows(rows), rows.dataset
    for name in (
        columns.prompt,
        columns.answer if grader is not None and grader.needs_answer else None,
        columns.id,
    ):
        if name is not None and not (name == "prompt" and CHAT in table.column_names):
            column(table, name, where)  # which says the nearest name
    keyed = grader is not None and grader.needs_answer
    wanted = Wanted(
        columns,
        told.context.each if told.context is not None else None,
        told.paraphrase.each if told.paraphrase is not None else None,
        partial(_placed, told),
        grader.problem if grader is not None and keyed else lambda answer: None,
        told.context is None,
        told.some_answers or not keyed,
        None,
    )
    distinct: dict[tuple[str, str], Example] = {}
    for example in read_examples(_Numbered(table), where, wanted, f"{split}:").examples:
        distinct.setdefault((example.prompt, str(example.history)), example)
    found = list(distinct.values())
    check_ids(found, where, columns.id)
    if told.context is None and any(example.context is None for example in found):
        raise UserError(
            f"{where}: the description gives no context, and the rows bring none. Give 'context', name a column under "
            f"columns.context, or a template: context: {{each: 'Hint: {{hint}}'}}."
        )
    return found


class _Numbered:
    """Rows that are told and named by their number from 0, as those of the hub are."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.column_names = table.column_names

    def __getitem__(self, name: str) -> Any:
        return self.table[name]


def _share(prompt: str) -> float:
    """Place a prompt in [0, 1), by its hash."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "big") / 2**64
