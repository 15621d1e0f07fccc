"""What a study asks, read from its manifest and tables: examples, contexts, the longest answer. No torch.

Mental model. The manifest names the task and holds its contexts. The table of responses holds the prompts; its column
``before`` holds each example's own context or conversation, where examples have one. A study of somebody's own prompts has no
task here, and a study that has only begun has no responses: either of the two sources is enough. A manifest may come from
anybody, so a part of it that is malformed counts as missing.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.study.study import Study
from cr_interp.system.text_files import parsed
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example, Outcome, Task
from cr_interp.tasks.yours.described import DescribedTask
from cr_interp.views import Context, EachOwn, Given, Message, NoContext
from cr_interp.vocabulary import UNGRADED

#: Examples drawn from the task if the study has no responses yet.
DRAWN = 24


def task_of(study: Study) -> Task | None:
    """Open the study's task: a built-in one, or a description in the study's own folder; else None.

    Descriptions elsewhere are not opened: a manifest may name any file of this machine, and a task's texts are shown.
    """
    try:
        return get_task(task_name(study, str(study.manifest.get("task"))))
    except UserError:
        return None


def task_name(study: Study, told: str) -> str:
    """Name a study's task as ``get_task`` takes it. Raises :class:`UserError` for a file outside the study."""
    if Path(told).suffix.lower() in (".yaml", ".yml", ".py"):
        return str(inside(study.path, told, f"The study {study.name}"))
    return told


def examples(study: Study) -> list[Example]:
    """List the examples of the study's responses, sorted by id; without responses, :data:`DRAWN` of its task's test split;
    else none.
    """
    rows = _responses(study)
    if rows is not None and len(rows):
        rows = rows.drop_duplicates("example_id").sort_values("example_id")
        answers = rows["answer"] if "answer" in rows else [""] * len(rows)
        said = histories(study)
        return [
            Example(str(i), str(prompt), answer if isinstance(answer, str) else "", history=said.get(str(i), ()))
            for i, prompt, answer in zip(rows["example_id"], rows["prompt"], answers, strict=True)
        ]
    task = task_of(study)
    return [] if task is None or _far(task) else _drawn(task)


def _drawn(task: Task) -> list[Example]:
    """Draw :data:`DRAWN` test examples, or all if there are fewer. Give none if the task needs a file that is not on this
    machine.
    """
    for n in (DRAWN, None):
        try:
            return task.examples("test", n)
        except UserError:
            continue
    return []


def histories(study: Study) -> dict[str, tuple[Message, ...]]:
    """Map examples to the conversation before their prompts; examples without one are left out."""
    found = _before(study).get("none", {})
    return {name: context.messages for name, context in found.items() if context.messages}


def contexts(study: Study) -> dict[str, Given]:
    """Map each control to its context: one for all examples, or each example's own. ``exact`` comes first."""
    return {**_shared(study), **_each_own(study)}


def context_of(study: Study, control: str, example: Example | None) -> Context | None:
    """Find one example's context under one control; None where the study has none for it."""
    given = contexts(study).get(control)
    if not isinstance(given, EachOwn):
        return given
    try:
        return None if example is None else given.of(example)
    except UserError:
        return None


def _each_own(study: Study) -> dict[str, Given]:
    """Collect each example's own context, by control, from the column ``before``; empty for a study with one context for all."""
    said = histories(study)
    found: dict[str, Given] = {}
    if "each" not in (study.manifest.get("context") or {}):
        return found
    task = task_of(study)
    others = {} if task is None or _far(task) else dict(task.contexts(_letters))
    for control, known in sorted(_before(study).items(), key=lambda each: each[0] != "exact"):
        if control == "none":
            continue
        mine = {
            name: Context(context.messages[: len(context.messages) - len(said.get(name, ()))], context.splice)
            for name, context in known.items()
        }
        found[control] = EachOwn(partial(_of, mine, others.get(control)), f"{control} of each example")
    return found


def _of(known: Mapping[str, Context], other: Given | None, example: Example) -> Context:
    """Choose an example's context: the one it was asked with, else the task's, else the example's own."""
    if example.id in known:
        return known[example.id]
    if isinstance(other, EachOwn):
        return other.of(example)
    if example.context is None:
        raise UserError(
            f"The study does not hold the context of example {example.id}. Choose one of its examples, or type a context."
        )
    return example.context


def _before(study: Study) -> dict[str, dict[str, Context]]:
    """Map control (``none`` without a context) → example → messages before its prompt; empty without the column ``before``."""
    rows = _responses(study)
    if rows is None or "before" not in rows:
        return {}
    found: dict[str, dict[str, Context]] = {}
    kept = rows[["example_id", "control", "before"]].drop_duplicates(["example_id", "control"])
    for name, control, told in kept.itertuples(index=False):
        context = _context(_json(told)) if isinstance(told, str) and told else None
        if context is not None:
            found.setdefault(str(control), {})[str(name)] = context
    return found


def _json(text: str) -> Any:
    try:
        return parsed(text, "what stood before a prompt is not JSON")
    except UserError:
        return None


def _shared(study: Study) -> dict[str, Given]:
    manifest = study.manifest
    written = manifest.get("controls")
    given = {"exact": manifest.get("context"), **(written if isinstance(written, dict) else {})}
    found: dict[str, Given] = {
        str(name): context for name, data in given.items() if (context := _context(data)) is not None
    }
    task = task_of(study)
    if not found and task is not None and not _far(task):
        try:
            return dict(task.contexts(_letters))
        except UserError:  # counted in letters, no filler may be as long as the exact context
            return {}
    return found


def no_context(study: Study) -> NoContext:
    """Read which form of "no context" this study was made with."""
    found = study.manifest.get("no_context")
    if isinstance(found, list):
        context = _context({"messages": found})
        if context is not None:
            return context.messages
    return "template_default" if found == "template_default" else "empty_system"


def token_limit(study: Study) -> int | None:
    """Read how many tokens an answer of the study may have; without its task, the length of the longest answer."""
    task = task_of(study)
    if task is not None:
        return task.max_new_tokens
    rows = _responses(study)
    longest = None if rows is None else pd.to_numeric(rows["n_tokens"], errors="coerce").max()
    return int(longest) if longest is not None and longest > 0 else None


def grade(study: Study, example: Example, response: str, truncated: bool) -> Outcome | None:
    """Grade a response by the study's task. Give None if the task is not known here, or if its grader would run code or ask a
    server.
    """
    task = task_of(study)
    if task is None:
        return None
    try:
        outcome = task.grade(example, response, truncated)
    except UserError:  # its grader would run code or ask a server: never while a study is only looked at
        return None
    return None if outcome == UNGRADED else outcome


def _far(task: Task) -> bool:
    """Tell whether reading the task's rows would use the network, which looking at a study never does."""
    return isinstance(task, DescribedTask) and not task.is_local


def _responses(study: Study) -> pd.DataFrame | None:
    try:
        return study.table("generations")
    except UserError:  # not made yet, or damaged: the pages that show the table say so
        return None


def _context(data: Any) -> Context | None:
    try:
        context = Context.from_dict({**data, "messages": tuple(data.get("messages", ()))})
    except (UserError, TypeError, AttributeError, KeyError):
        return None
    texts = [message["content"] for message in context.messages]
    return context if all(isinstance(text, str) for text in texts) else None


def _letters(context: Context) -> int:
    return sum(len(message["content"]) for message in context.messages)
