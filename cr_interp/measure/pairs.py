"""What ``compare`` is asked, read before any model is loaded: pairs ARM=MODEL, the prompts, the contexts, the graders. No torch.

Mental model. An arm may have several seeds: ``opd@0=PATH opd@1=PATH``. The prompts are a built-in task's, a task file's, or
rows of one's own: a file, or a hub dataset by its id. With rows of one's own, the context is a file, a template that is
filled from each row, or a column of the rows. What somebody types here is theirs: a grader may run their code, or ask their
server.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from cr_interp.configuration import read_mapping, validated
from cr_interp.errors import UserError, unknown
from cr_interp.system.names import check_name
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Task
from cr_interp.tasks.yours.asked_rows import Columns, Read, Wanted, check_ids, read_examples
from cr_interp.tasks.yours.each_own import shared_context
from cr_interp.tasks.yours.grading import TYPED, Grading, Kind
from cr_interp.tasks.yours.judge import Judge
from cr_interp.tasks.yours.local_rows import read_local
from cr_interp.tasks.yours.own import OwnTask, OwnTaskWithNewInstruction, read_context, read_rows_of
from cr_interp.tasks.yours.sources import Rows, Text, is_local, read_rows, read_text
from cr_interp.views import Context
from cr_interp.vocabulary import CONTROLS

#: Tokens of a response to prompts of one's own, unless somebody says otherwise.
TOKENS = 32

#: Our own decoding, and what else may answer besides a server's address.
OURS, ENGINES = "transformers", ("transformers", "vllm")


def is_address(engine: str) -> bool:
    """Tell whether an engine is a server. Raises :class:`UserError` for what is no engine.

    >>> is_address("http://localhost:8000/v1"), is_address("vllm")
    (True, False)
    """
    if engine.startswith(("http://", "https://")):
        return True
    if engine not in ENGINES:
        raise unknown("engine", engine, [*ENGINES, "http://… (a server)"])
    return False


def parse_pairs(checkpoints: Sequence[str]) -> dict[str, str]:
    """Parse ``["base=PATH", …]`` into arm (or ``arm@seed``) → model.

    >>> parse_pairs(["base=builtin:organism-rules"])
    {'base': 'builtin:organism-rules'}
    """
    models: dict[str, str] = {}
    runs: set[tuple[str, int]] = set()
    for pair in checkpoints:
        name, equals, where = pair.partition("=")
        if not (name and equals and where) or name in models:
            raise UserError(
                f"'{pair}' is not ARM=MODEL with a new arm; write for example base=PATH opd=PATH nca=PATH."
            )
        arm, seed = arm_and_seed(name)
        check_name("an arm", arm)
        if (arm, seed) in runs:
            raise UserError(
                f"'{name}' names seed {seed} of {arm} a second time. Number the seeds: {arm}@0=… {arm}@1=…"
            )
        runs.add((arm, seed))
        models[name] = where
    if not models:
        raise UserError("Nothing to compare: give at least one ARM=MODEL.")
    return models


def arm_and_seed(name: str) -> tuple[str, int]:
    """Take a name apart.

    >>> arm_and_seed("opd@2"), arm_and_seed("opd")
    (('opd', 2), ('opd', 0))
    """
    arm, at, seed = name.partition("@")
    if at and not (seed.isascii() and seed.isdecimal() and len(seed) < 10):
        raise UserError(f"'{name}' is not ARM@SEED: a seed is a whole number, as in {arm or 'opd'}@0={'…'}.")
    return arm, int(seed) if at else 0


@dataclass(frozen=True)
class Question:
    """Everything that is typed about what is asked."""

    task: str | None = None
    prompts: str | None = None
    """A file with rows, or a hub dataset's id, with ``:split`` behind it for another than ``test``."""
    context: Path | None = None
    each: str | None = None
    """A template of each row's context."""
    columns: Mapping[str, str] = field(default_factory=dict)
    grader: str | None = None
    new_instruction: str | None = None
    controls: Path | None = None
    max_new_tokens: int | None = None


def choose_task(asked: Question) -> Task:
    """Choose the task that was typed. Raises :class:`UserError` for words that do not fit together, and for rows that cannot
    be read.
    """
    if asked.task is not None:
        given = [
            name
            for name in ("prompts", "context", "each", "grader", "controls")
            if getattr(asked, name) is not None
        ]
        if given:
            raise UserError(
                f"Say what to ask: either --task NAME, or --prompts with what belongs to it (--{', --'.join(given)}), not both."
            )
        return _shortened(get_task(asked.task, run_code=True), asked)  # somebody has just typed it
    if asked.prompts is None:
        raise UserError("Say what to ask: either --task NAME, or both --prompts FILE.jsonl and --context FILE.")
    if asked.context is not None and asked.each is not None:
        raise UserError("--context is one context for all, --each a template of each row's; give one of them.")
    if asked.context is not None and (named := sorted({"context", "paraphrase"} & {*asked.columns})):
        raise UserError(
            f"--context is one context for all, and --column {named[0]}=… one of each row. Give one of them; a paraphrase of the "
            f"one for all stands in --controls FILE."
        )
    grading, folder = parse_grader(asked.grader or "contains")
    grading.check(folder)
    where, read = _read(asked, grading)
    context = _one_context(asked, read)
    examples = tuple(
        dataclasses.replace(each, context=None) if context is not None else each for each in read.examples
    )
    common: dict[str, Any] = {
        "name": Path(where).stem,
        "own_examples": examples,
        "context": context,
        "max_new_tokens": asked.max_new_tokens or TOKENS,
        "grading": grading,
        "folder": folder,
        "others": _controls(asked.controls),
        "told": repr(asked.each) if asked.each else "the context of each row",
        "read_notes": tuple(read.notes),
    }
    if asked.new_instruction is None:
        return OwnTask(**common)
    if context is not None and "mismatched" not in common["others"]:
        raise UserError(
            "--new-instruction says which responses obey the 'mismatched' context, and there is none. Name it in --controls FILE."
        )
    second, place = parse_grader(asked.new_instruction)
    second.check(place)
    return OwnTaskWithNewInstruction(**common, new_instruction=second)


def _shortened(task: Task, asked: Question) -> Task:
    limit = asked.max_new_tokens
    if limit is None or limit == task.max_new_tokens:
        return task
    if not dataclasses.is_dataclass(task) or "max_new_tokens" not in {
        each.name for each in dataclasses.fields(task)
    }:
        raise UserError(
            f"The task '{asked.task}' fixes its responses at {task.max_new_tokens} tokens itself. Leave --max-new-tokens out."
        )
    return dataclasses.replace(task, max_new_tokens=limit)  # type: ignore[type-var, return-value]


def _read(asked: Question, grading: Grading) -> tuple[str, Read]:
    """Read the rows as examples. Returns the rows' name as well."""
    assert asked.prompts is not None
    wanted = _wanted(asked, grading)
    if is_local(asked.prompts) or Path(asked.prompts).exists():
        path = Path(asked.prompts)
        if not is_local(asked.prompts):
            raise UserError(
                f"{path} is no JSONL, JSON, CSV or Parquet file, by its name. Give it one of these endings."
            )
        found = read_rows_of(path, wanted)
        if asked.context is None and asked.each is None and not found.own_contexts:
            # A column of that name is what the rows bring; and of a paraphrase beside it.
            there = {*read_local(path).column_names} - {*asked.columns}
            named: dict[str, str] = {name: name for name in ("context", "paraphrase") if name in there}
            found = read_rows_of(path, dataclasses.replace(wanted, columns=_columns({**named, **asked.columns})))
        return asked.prompts, found
    name, _, split = asked.prompts.partition(":")
    rows = read_rows(Rows(dataset=name, split=split or "test"))
    found = read_examples(rows, name, wanted)
    check_ids(found.examples, name)
    return name.rpartition("/")[2], found


def _wanted(asked: Question, grading: Grading) -> Wanted:
    return Wanted(
        _columns(asked.columns),
        asked.each,
        chats=asked.context is None and asked.each is None,
        problem=grading.problem if grading.needs_answer else lambda answer: None,
    )


def _columns(named: Mapping[str, str]) -> Columns:
    for name in named:
        if name not in Columns.model_fields:
            raise unknown("column", name, Columns.model_fields)
    return Columns(**named)


def _one_context(asked: Question, read: Read) -> Context | None:
    """Return the context of all rows; None where each brings its own."""
    if asked.context is not None:
        return read_context(asked.context)
    if not read.own_contexts:
        raise UserError(
            f"{asked.prompts} brings no contexts. Give one for all (--context FILE), a template of the rows' fields (--each "
            f"'Hint: {{hint}}'), or name the column that holds them (--column context=NAME)."
        )
    return shared_context(read.examples)


def _controls(path: Path | None) -> dict[str, Context]:
    """Read further contexts from a YAML file: paraphrase, mismatched, irrelevant, each as in a task's description."""
    if path is None:
        return {}
    found: dict[str, Context] = {}
    for name, told in read_mapping(path).items():
        if name not in CONTROLS[1:]:
            raise unknown("control", name, CONTROLS[1:])
        if not isinstance(told, dict):
            raise UserError(
                f"{path}: '{name}' is written as {{text: …}} or {{file: …}}; found {type(told).__name__}."
            )
        text = read_text(validated(Text, told, path), path.parent)
        found[name] = text if isinstance(text, Context) else Context.system(text)
    return found


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Parse ``["prompt=question"]`` into the columns' names.

    >>> parse_columns(["prompt=question"])
    {'prompt': 'question'}
    """
    found = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (equals and column):
            raise UserError(f"'{pair}' is not NAME=COLUMN; write for example --column prompt=question.")
        found[name] = column
    _columns(found)
    return found


def parse_grader(text: str) -> tuple[Grading, Path]:
    """Parse a grader as it is typed, ``KIND`` or ``KIND:SETTING``. Returns it with the folder of the file that it names.

    >>> parse_grader("regex:^yes")[0].pattern
    '^yes'
    """
    kind, _, setting = text.partition(":")
    folder = Path()
    told: dict[str, Any] = {"kind": kind}
    if kind == "judge":
        rubric = Path(setting)
        judge = validated(Judge, read_mapping(rubric), rubric) if setting else None
        return _grading({**told, "judge": judge}, text), rubric.parent
    if setting and kind in ("python", "json"):
        file, colon, function = setting.partition(":") if kind == "python" else (setting, "", "")
        folder = Path(file).parent
        told |= (
            {"function": f"{Path(file).name}{colon}{function}"}
            if kind == "python"
            else {"schema_file": Path(file).name}
        )
    elif setting:
        key = {"regex": "pattern", "language": "language", "choice": "letters", "answer_tag": "labels"}.get(kind)
        if key is None:
            raise UserError(f"The grader '{kind}' takes no setting; found '{text}'.")
        told[key] = setting.split(",") if key == "labels" else setting
    return _grading(told, text), folder


def _grading(told: dict[str, Any], text: str) -> Grading:
    try:
        return Grading.model_validate(told)
    except ValidationError as error:
        said = "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in error.errors())
        kinds = ", ".join(TYPED.get(name, name) for name in get_args(Kind))
        raise UserError(f"'{text}' is no grader ({said}). A grader is one of: {kinds}.") from error
