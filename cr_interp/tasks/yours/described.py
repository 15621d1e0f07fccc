"""A task that a YAML file describes: rows with prompts and answers, a context, a grader. No code.

    name: medmcqa
    train: {dataset: ytz20/sys_medmcqa_train}      # a hub id, or a JSONL, Parquet or CSV file beside this one
    test: {dataset: ytz20/sys_medmcqa_test}
    columns: {prompt: content, answer: answer}
    context: {file: context.txt}                   # or text, url + sha256, dataset + column, repo + path
    grader: {kind: choice, letters: ABCD}          # or answer_tag, boxed, contains
    max_new_tokens: 512

The validation split is cut from the training rows by a hash of the prompt: the same rows on every machine, and equal
prompts on one side. A training prompt that also stands in the test rows is left out, so that nothing tested was trained.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cr_interp.configuration import read_mapping, validated
from cr_interp.errors import UserError, unknown
from cr_interp.system.names import Name
from cr_interp.tasks import graders
from cr_interp.tasks.base import SPLITS, CountTokens, Example, Outcome, Split
from cr_interp.tasks.lengths import irrelevant_in_place
from cr_interp.tasks.words import bare
from cr_interp.tasks.yours.sources import Rows, Text, column, is_local, placed, read_rows, read_text
from cr_interp.views import Context, message_text

#: The descriptions bundled here, by task name.
PUBLISHED = Path(__file__).parent / "published"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Columns(_Strict):
    prompt: str = "prompt"
    """A text, or a chat of one user message."""
    answer: str = "answer"
    """What a right response holds."""
    id: str | None = None
    """null: the row's number in its file."""


class Grading(_Strict):
    kind: Literal["choice", "answer_tag", "boxed", "contains"]
    """``choice``: a letter in the last ``<answer>``; ``answer_tag``: its text; ``boxed``: the last ``\\boxed{…}``;
    ``contains``: the words anywhere."""
    letters: str = Field("ABCD", pattern="^[A-Z]+$")
    """Of ``choice``."""
    labels: tuple[str, ...] = ()
    """Of ``answer_tag``: what may stand in the tag; empty for any text."""

    def grader(self) -> graders.Grader:
        if self.kind == "choice":
            return graders.choice(self.letters)
        if self.kind == "answer_tag":
            return graders.labels(self.labels)
        return graders.boxed if self.kind == "boxed" else graders.contains

    def problem(self, answer: str) -> str | None:
        """Say why this grader could call no response right if this were the expected answer; None if it could."""
        if not bare(answer):
            return "it is empty"
        sample = {"choice": f"<answer>{answer}</answer>", "answer_tag": f"<answer>{answer}</answer>"}
        if self.kind in sample and self.grader()(answer, sample[self.kind], False) != "right":
            return f"{answer[:40]!r} is none of {', '.join(self.labels if self.kind == 'answer_tag' else self.letters)}"
        return None


class Description(_Strict):
    """What the YAML file holds."""

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
    context: Text
    """What the teacher sees."""
    paraphrase: Text | None = None
    """The same in other words, a control; null: none."""
    mismatched: Text | None = None
    """Another instruction, a control; null: none."""
    splice: str | None = None
    """A user message with ``{context}`` and ``{prompt}``; null puts the context into a system message."""
    grader: Grading
    """How an answer is read and judged."""
    max_new_tokens: int = Field(512, gt=0, le=10**8)
    """Longest response, end of turn included."""


@dataclass(frozen=True)
class DescribedTask:
    """Fulfils :class:`cr_interp.tasks.base.Task`. ``folder`` is where relative files are looked for."""

    description: Description
    folder: Path
    max_new_tokens: int

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def is_local(self) -> bool:
        """Are all rows and texts on this machine? Then looking at them reaches for no network."""
        told = self.description
        texts = [text for text in (told.context, told.paraphrase, told.mismatched) if text is not None]
        return all(is_local(rows.dataset) for rows in (told.train, told.test)) and all(
            text.url is None and text.repo is None and (text.dataset is None or is_local(text.dataset))
            for text in texts
        )

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

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        """The exact context, paraphrase and mismatched one as far as they are given, and an irrelevant one as long."""
        told = self.description
        texts = {"exact": told.context, "paraphrase": told.paraphrase, "mismatched": told.mismatched}
        contexts = {
            control: self._context(read_text(text, self.folder)) for control, text in texts.items() if text
        }
        irrelevant = irrelevant_in_place(self._context, contexts["exact"], count_tokens)
        return contexts if irrelevant is None else {**contexts, "irrelevant": irrelevant}

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        return self.description.grader.grader()(example.answer, response, truncated)

    def _context(self, words: Context | str) -> Context:
        if isinstance(words, Context):
            return words
        if self.description.splice is None:
            return Context.system(words)
        return Context(splice=self.description.splice.replace("{context}", words))


def published_names() -> list[str]:
    return sorted(path.stem for path in PUBLISHED.glob("*.yaml"))


def published_task(name: str) -> DescribedTask:
    return read_description(PUBLISHED / f"{name}.yaml")


def read_description(path: Path) -> DescribedTask:
    """Read a description; what is wrong in it is said with its place, and no row is read yet."""
    description = validated(Description, read_mapping(path), path)
    splice = description.splice
    if splice is not None and (splice.count("{context}") != 1 or splice.count("{prompt}") != 1):
        raise UserError(
            f"The task {path}: 'splice' has to contain {{context}} and {{prompt}} once each; found {splice!r}."
        )
    return DescribedTask(description, path.parent, description.max_new_tokens)


@cache
def _split(told: Description, folder: Path, split: Split) -> list[Example]:
    """The distinct prompts of a split, in the order of their rows."""
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
    prompts = [_prompt(value, number, where) for number, value in enumerate(column(table, columns.prompt, where))]
    answers = [
        _answer(value, number, where, grader) for number, value in enumerate(column(table, columns.answer, where))
    ]
    ids: Sequence[Any] = column(table, columns.id, where) if columns.id else range(len(prompts))
    distinct: dict[str, Example] = {}
    for number, prompt, answer in zip(ids, prompts, answers, strict=True):
        distinct.setdefault(prompt, Example(f"{split}:{number}", prompt, answer))
    found = list(distinct.values())
    if len({example.id for example in found}) < len(found):
        raise UserError(f"{where}: two prompts share an id in column '{columns.id}'; ids have to be unique.")
    return found


def _prompt(value: Any, row: int, where: str) -> str:
    """A text as it is; of a chat its one user message, for the context's place is ours to fill."""
    if isinstance(value, str):
        return value
    chat = isinstance(value, list) and all(isinstance(message, dict) for message in value)
    roles = [message.get("role") for message in value] if chat else None
    if roles == ["user"]:
        return message_text(value[0].get("content"), f"{where}, row {row},")
    raise UserError(
        f"{where}, row {row}: a prompt is a text or a chat with one user message; found "
        + (f"messages of {', '.join(map(str, roles))}" if roles else type(value).__name__)
        + ". A system message belongs into the task's context."
    )


def _answer(value: Any, row: int, where: str, grader: Grading) -> str:
    """An answer as text. Raises :class:`UserError` for one that no response can be compared with."""
    if value != value:
        value = None  # NaN
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # a column of whole numbers with gaps is one of floats in Parquet
    problem = (
        grader.problem(str(value))
        if isinstance(value, str | int | float)
        else f"it is {'missing' if value is None else f'a {type(value).__name__}, neither text nor number'}"
    )
    if problem:
        raise UserError(
            f"{where}, row {row}: this answer cannot be graded, for {problem}. Name another column under 'columns', another "
            f"grader, or mend the row."
        )
    return str(value)


def _share(prompt: str) -> float:
    """Place a prompt in [0, 1), by its hash."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "big") / 2**64
