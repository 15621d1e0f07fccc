"""From rows as people have them to examples: columns under any names, chats, contexts of each row, answers of any kind.

Mental model. A row becomes an :class:`~cr_interp.tasks.base.Example`. Its prompt is a text, or a chat. Of a chat the last
user message is the prompt, the turns before it are its history, and a system message is its context. An assistant's last
message is left out: it is what the model is asked for. A context of its own stands in a column, is filled into a template
from the row's fields (``Hint: {hint}``), or is that system message. Without an answer the example has no key. Whatever cannot
be read is told with the line it stands in; nothing is guessed.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from cr_interp.errors import UserError
from cr_interp.system.visible import one_line
from cr_interp.tasks.base import Example
from cr_interp.views import Context, Message, checked_message

CHAT = "messages"
FIELD = re.compile(r"\{([\w.\-]+)\}")


class Columns(BaseModel):
    """The names of the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = "prompt"
    """A text, or a chat. Without it, ``messages`` is looked for."""
    answer: str | None = "answer"
    """A text or a number; null: there is no key."""
    id: str | None = None
    """null: the row's number in its file."""
    context: str | None = None
    """Of a context that each row brings: a text, a list of messages, or an object with messages and a splice."""
    paraphrase: str | None = None
    """The same in other words, likewise."""
    cluster: str | None = None
    """What examples that are not independent share; a bootstrap draws clusters."""


@dataclass(frozen=True)
class Wanted:
    """A way to read rows. ``each`` and ``each_paraphrase`` are templates for a context from a row's fields.

    ``place`` puts the words of a context where they belong (a system message by default). ``problem`` says why an answer could
    not be compared with; ``chats``: take a system message of a chat for the row's context; ``gaps``: rows may lack an answer.
    """

    columns: Columns = field(default_factory=Columns)
    each: str | None = None
    each_paraphrase: str | None = None
    place: Callable[[str], Context] = Context.system
    problem: Callable[[str], str | None] = lambda answer: None
    chats: bool = True
    gaps: bool = True
    ids: str | None = "id"
    """The column of ids that is used if there is one, unless ``columns`` names another."""


@dataclass
class Read:
    """The examples, and what of the rows was left aside, a sentence each."""

    examples: list[Example]
    notes: list[str] = field(default_factory=list)

    @property
    def own_contexts(self) -> bool:
        return any(each.context is not None for each in self.examples)


def read_examples(rows: Any, where: str, wanted: Wanted, prefix: str = "") -> Read:
    """Read every row as an example, its id behind ``prefix``. ``rows`` has ``column_names`` and columns by name.

    Raises :class:`UserError` with the line of the first row that cannot be read.
    """
    table = _Table(rows, where)
    found, answered = [], 0
    for row in range(len(table)):
        prompt, history, system, dropped = _asked(table, row, wanted)
        answered += dropped
        context = _context(table, row, wanted, system)
        answer = _answer(table, row, wanted)
        paraphrase = _words(table, row, wanted, wanted.columns.paraphrase, wanted.each_paraphrase)
        cluster = table.optional(wanted.columns.cluster, row)
        name = f"{prefix}{_id(table, row, wanted)}"
        found.append(
            Example(name, prompt, answer, "" if cluster is None else str(cluster), context, paraphrase, history)
        )
    if not found:
        raise UserError(f"{where} has no prompts.")
    return Read(found, _notes(found, answered, where))


def check_ids(examples: Sequence[Example], where: str, column: str | None = None) -> None:
    if len({each.id for each in examples}) < len(examples):
        named = f" in column '{column}'" if column else ""
        raise UserError(f"{where}: two prompts share an id{named}; ids have to be unique.")


def _notes(found: Sequence[Example], answered: int, where: str) -> list[str]:
    notes = []
    keyed = sum(bool(each.answer) for each in found)
    if 0 < keyed < len(found):
        notes.append(f"{keyed} of {len(found)} rows of {where} have an answer key; accuracies are of these")
    with_own = sum(each.context is not None for each in found)
    if 0 < with_own < len(found):
        lacking = next(each.id for each in found if each.context is None)
        raise UserError(
            f"{where}: {with_own} of {len(found)} rows bring a context of their own, {lacking} (the first) does not. Give every "
            f"row one, or one context for all."
        )
    if answered:
        notes.append(
            f"{answered} chats of {where} end with the assistant's message, which is what is asked for: it is left out"
        )
    return notes


class _Table:
    """Columns by name, and where a row stands."""

    def __init__(self, rows: Any, where: str) -> None:
        self.names = list(rows.column_names)
        self.columns = {name: list(rows[name]) for name in self.names}
        self.where = where
        self.at: Callable[[int], str] = getattr(rows, "place", lambda row: f"row {row}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def told(self, row: int) -> str:
        return f"{self.where}, {self.at(row)}"

    def fields(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}

    def has(self, name: str) -> bool:
        return name.split(".")[0] in self.columns

    def optional(self, name: str | None, row: int) -> Any:
        """Read a cell; a dotted name reaches into objects. None for a gap, an empty cell of a CSV, and a column that is not
        named.
        """
        if name is None or not self.has(name):
            return None
        first, *inner = name.split(".")
        value = self.columns[first][row]
        for part in inner:
            value = value.get(part) if isinstance(value, dict) else None
        return None if isinstance(value, float) and math.isnan(value) else value


def _asked(table: _Table, row: int, wanted: Wanted) -> tuple[str, tuple[Message, ...], str | None, bool]:
    """Return prompt, history, system message, and whether an answer at the end was left out."""
    name = wanted.columns.prompt
    if not table.has(name) and name == "prompt" and table.has(CHAT):
        name = CHAT
    value = table.optional(name, row)
    if isinstance(value, str):
        return value, (), None, False
    if not isinstance(value, list):
        raise UserError(
            f"{table.told(row)}: expected a text or a chat in '{name}'; found "
            f"{type(value).__name__ if table.has(name) and value is not None else _listed(table, row)}. Say which column is "
            f"meant: --column prompt=NAME (in a description: columns)."
        )
    return _chat(value, table.told(row), wanted)


def _listed(table: _Table, row: int) -> str:
    return (
        ", ".join(f"{name} ({type(value).__name__})" for name, value in table.fields(row).items())[:300]
        or "nothing"
    )


def _chat(value: Sequence[Any], told: str, wanted: Wanted) -> tuple[str, tuple[Message, ...], str | None, bool]:
    messages: list[Message] = []
    for number, each in enumerate(value):
        try:
            messages.append(checked_message({key: each[key] for key in ("role", "content")}))
        except (UserError, TypeError, KeyError) as error:
            raise UserError(
                f"{told}: a chat is not read at message {number}: "
                + (
                    str(error)
                    if isinstance(error, UserError)
                    else f"found list of {type(each).__name__}, no role and content."
                )
            ) from error
    system = None
    if messages and messages[0]["role"] == "system":
        system = messages.pop(0)["content"]
    dropped = bool(messages) and messages[-1]["role"] == "assistant"
    if dropped:
        messages.pop()
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "user" or "system" in roles:
        raise UserError(
            f"{told}: a chat is a system message or none, then turns of user and assistant; what is asked is the last of the "
            f"user. Found {_roles(value)}."
        )
    if system is not None and not wanted.chats:
        raise UserError(
            f"{told}: the chat ({_roles(value)}) has a system message, and a context is given for all. Leave one of them out: a "
            f"system message of a row is that row's context."
        )
    return messages[-1]["content"], tuple(messages[:-1]), system or None, dropped


def _roles(chat: Sequence[Any]) -> str:
    return ", ".join(str(each.get("role")) for each in chat) or "no messages"


def _answer(table: _Table, row: int, wanted: Wanted) -> str:
    """Return an answer as text; empty where there is no key."""
    value = table.optional(wanted.columns.answer, row)
    if wanted.gaps and value in (None, ""):
        return ""
    if wanted.gaps and isinstance(value, str) and not value.strip():
        raise UserError(
            f"{table.told(row)}: the answer is empty, and no response can be compared with it. Leave it out where there is no "
            f"key."
        )
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # a column of whole numbers with gaps is one of floats in Parquet
    if not isinstance(value, str | int | float):
        problem: str | None = (
            "it is missing" if value is None else f"it is a {type(value).__name__}, neither text nor number"
        )
    else:
        problem = wanted.problem(str(value)) if str(value).strip() else "it is empty"
    if problem:
        raise UserError(
            f"{table.told(row)}: this answer cannot be graded, for {problem}. Name another column (--column answer=NAME; in a "
            f"description: columns), take another grader, or mend the row."
        )
    return str(value)


def _id(table: _Table, row: int, wanted: Wanted) -> str:
    name = wanted.columns.id or wanted.ids
    if name is None or not table.has(name):
        if wanted.columns.id:
            raise UserError(f"{table.where} has no column '{name}' for ids. Found: {', '.join(table.names)}.")
        return table.at(row).rpartition(" ")[2]
    value = table.optional(name, row)
    if value is None and not wanted.columns.id and any(each is not None for each in table.columns[name]):
        return table.at(row).rpartition(" ")[2]  # a row that has none, beside others that do
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{table.told(row)}: an 'id' is a text or a whole number; found {value!r}.")
    return str(value)


def _context(table: _Table, row: int, wanted: Wanted, system: str | None) -> Context | None:
    own = _words(table, row, wanted, wanted.columns.context, wanted.each)
    if own is not None and system is not None:
        raise UserError(
            f"{table.told(row)}: the row brings a context, and its chat a system message. Keep one of them."
        )
    return own if system is None else wanted.place(system)


def _words(table: _Table, row: int, wanted: Wanted, column: str | None, template: str | None) -> Context | None:
    """Return a context of this row's, from a template or a column; None where neither is asked for."""
    told = table.told(row)
    try:
        if template is not None:
            text = filled(template, table.fields(row), told)
            return Context(splice=text) if "{prompt}" in template else wanted.place(text)
        if column is None:
            return None
        value = table.optional(column, row)
        if isinstance(value, str) and value.strip():
            return wanted.place(value)
        if isinstance(value, list) and value:
            return Context(tuple(value))
        if isinstance(value, dict):
            return Context.from_dict({key: each for key, each in value.items() if each is not None})
    except UserError as error:
        raise error if told in str(error) else UserError(f"{told}: {error}") from error
    raise UserError(
        f"{told}: '{column}' has to hold a context (a text, a list of messages, or an object with messages and splice); found "
        f"{type(value).__name__ if value not in (None, '') else 'nothing'}."
    )


def filled(template: str, fields: dict[str, Any], told: str) -> str:
    """Fill a template with a row's fields; ``{prompt}`` stays, for the prompt's place. What is filled in is not filled again.

    >>> filled("Hint: {a.b}", {"a": {"b": "{c}"}}, "f, line 1")
    'Hint: {c}'
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "prompt":
            return match.group()
        found: Any = fields
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None or (isinstance(found, float) and math.isnan(found)) or found == "":
            raise UserError(
                f"{told}: the template {one_line(template)[:80]!r} names '{name}', which this row does not have. It has "
                f"{', '.join(sorted(key for key, each in fields.items() if each not in (None, '')))[:200] or 'nothing'}."
            )
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return FIELD.sub(value, template)
