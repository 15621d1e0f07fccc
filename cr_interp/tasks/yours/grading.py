"""Graders in data: what a description, or ``compare --grader``, says about which response is right.

Mental model. A :class:`Grading` is plain data, a kind and its settings; :meth:`Grading.grade` judges one response. Those that
compare with an expected answer leave an example without one ``ungraded``; those that look at the response alone need no answer.
Two reach out of the data, and do so only where a person has named them (``trusted``): ``python`` runs a file, ``judge`` asks a
server. What is merely read, such as a study's copy of a description, is refused there.

    contains, choice, answer_tag, boxed    the expected answer, found in the response (``graders.py``)
    regex, json, language                  the response's form (``form_graders.py``)
    python, judge                          somebody else's verdict (``own_code.py``, ``judge.py``)
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.system.digests import file_digest
from cr_interp.tasks import graders
from cr_interp.tasks.base import Example, Outcome
from cr_interp.tasks.words import bare
from cr_interp.tasks.yours import form_graders
from cr_interp.tasks.yours.judge import Judge
from cr_interp.vocabulary import UNGRADED

Kind = Literal["choice", "answer_tag", "boxed", "contains", "regex", "json", "language", "python", "judge"]
#: Kinds that cannot do without an expected answer.
KEYED = ("choice", "answer_tag", "boxed", "contains")
#: How a kind with a setting is typed in one word; the others are typed as they are called.
TYPED = {
    "choice": "choice:ABCD",
    "answer_tag": "answer_tag:yes,no",
    "regex": "regex:PATTERN",
    "json": "json, json:schema.json",
    "language": "language:de",
    "python": "python:file.py:function",
    "judge": "judge:judge.yaml",
}


class Grading(BaseModel):
    """The rule that a response is judged by."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Kind
    """``choice``: a letter in the last ``<answer>``; ``answer_tag``: its text; ``boxed``: the last ``\\boxed{…}``;
    ``contains``: the words anywhere; the others: see their settings."""
    letters: str = Field("ABCD", pattern="^[A-Z]+$")
    """Of ``choice``."""
    labels: tuple[str, ...] = ()
    """Of ``answer_tag``: what may stand in the tag; empty for any text."""
    pattern: str | None = Field(None, max_length=2000)
    """Of ``regex``: found anywhere in the response. ``{answer}`` in it stands for the expected answer; a group
    ``(?P<answer>…)`` is read as the answer and compared with it."""
    json_schema: dict[str, Any] | None = None
    """Of ``json``: what the response has to be, as a JSON schema; null: any JSON."""
    schema_file: str | None = None
    """The same in a file beside the description."""
    language: str | None = Field(None, pattern="^[a-z]{2,3}$")
    """Of ``language``: ISO 639 code, such as ``de``; null: the expected answer is the code."""
    function: str | None = None
    """Of ``python``: ``file.py:function`` beside the description, called with prompt, response and answer. It is run, and only
    because somebody has named it."""
    judge: Judge | None = None
    """Of ``judge``: which server, which model, what it is asked."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Grading":
        needed = {"regex": ("pattern",), "python": ("function",), "judge": ("judge",)}.get(self.kind, ())
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"the grader '{self.kind}' needs '{name}' beside it")
        if self.json_schema is not None and self.schema_file is not None:
            raise ValueError("give 'json_schema' or 'schema_file', not both")
        if self.pattern is not None:
            form_graders.compiled(self.pattern, "x")
        return self

    def __hash__(self) -> int:  # a schema is a dict
        return hash(self.model_dump_json())

    @property
    def needs_answer(self) -> bool:
        """True if nothing can be judged without an expected answer."""
        return (
            self.kind in KEYED
            or (self.kind == "language" and self.language is None)
            or (self.pattern is not None and ("{answer}" in self.pattern or "(?P<answer>" in self.pattern))
        )

    @property
    def reaches_out(self) -> bool:
        """True if judging runs code or asks a server."""
        return self.kind in ("python", "judge")

    def grade(
        self, example: Example, response: str, truncated: bool, folder: Path, trusted: bool = True
    ) -> Outcome:
        """Judge a response. Files are looked for in ``folder``.

        Raises :class:`UserError` if the grader reaches out and nobody has named it (``trusted``), or if it fails.
        """
        if self.needs_answer and not example.answer:
            return UNGRADED
        if self.reaches_out and not trusted:
            raise UserError(
                f"The grader '{self.kind}' runs code or asks a server, which is done only for somebody who names it. Name the "
                f"task's file yourself."
            )
        answer = example.answer
        if self.kind == "regex":
            return form_graders.regex(str(self.pattern), answer, response, truncated)
        if self.kind == "json":
            return form_graders.json_text(self._schema(folder), answer, response, truncated)
        if self.kind == "language":
            return form_graders.language(self.language or answer, response, truncated)
        if self.kind == "python":
            from cr_interp.tasks.yours.own_code import grade_by_function

            return grade_by_function(str(self.function), folder, example, response, truncated)
        if self.kind == "judge":
            assert self.judge is not None
            return self.judge.grade(example, response, truncated)
        return self.keyed()(answer, response, truncated)

    def check(self, folder: Path) -> None:
        """Raise :class:`UserError`, before any response is judged, for a file that is not there, a schema by which nothing can
        be judged, and an unknown language. Runs nothing."""
        if self.kind == "json" and (schema := self._schema(folder)) is not None:
            form_graders.check_schema(schema)
        if self.language is not None:
            form_graders.check_language(self.language)
        if self.function is not None:
            inside(folder, self.function.partition(":")[0], "The grader")

    def keyed(self) -> graders.Grader:
        """Return the grader of a kind that compares with an expected answer."""
        if self.kind == "choice":
            return graders.choice(self.letters)
        if self.kind == "answer_tag":
            return graders.labels(self.labels)
        return graders.boxed if self.kind == "boxed" else graders.contains

    def problem(self, answer: str) -> str | None:
        """Say why this grader could call no response right if this were the expected answer; None if it could."""
        if not bare(answer):
            return "it is empty"
        if (
            self.kind in ("choice", "answer_tag")
            and self.keyed()(answer, f"<answer>{answer}</answer>", False) != "right"
        ):
            return f"{answer[:40]!r} is none of {', '.join(self.labels if self.kind == 'answer_tag' else self.letters)}"
        return None

    def notes(self, folder: Path) -> list[str]:
        """Give what is to be said of the grading, a sentence each: a judge's own error rate."""
        return [] if self.judge is None else self.judge.notes()

    @property
    def has_files(self) -> bool:
        """True if it is whole only with files beside it."""
        return self.schema_file is not None or self.function is not None

    def parts(self, folder: Path) -> dict[str, Any]:
        """List all that decides the verdicts, except a judge's mind: files by their content."""
        told = self.model_dump(mode="json")
        if self.schema_file is not None:
            told["schema_file"] = self._schema(folder)
        if self.function is not None:
            told["file"] = file_digest(inside(folder, self.function.partition(":")[0], "The grader"))
        return told

    def _schema(self, folder: Path) -> dict[str, Any] | None:
        if self.schema_file is None:
            return self.json_schema
        return form_graders.read_schema(folder, self.schema_file)
