"""What a study asks: its examples, its contexts, how long an answer may be. From its manifest and tables; no torch.

Mental model: the manifest names the task and writes its contexts down, the table of responses has the prompts. A study of
somebody's own prompts has no task here, and one that is only begun has no responses; either is enough. A manifest is a
file from anywhere: what is not as it should be counts as missing.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example, Outcome, Task
from cr_interp.tasks.yours.described import DescribedTask
from cr_interp.views import Context, NoContext

#: Examples drawn from the task if the study has no responses yet.
DRAWN = 24


def task_of(study: Study) -> Task | None:
    """The study's task, if it is one of the known or a description in the study's own folder; else None.

    A manifest may name any file of this machine, and a task's texts are shown.
    """
    try:
        return get_task(task_name(study, str(study.manifest.get("task"))))
    except UserError:
        return None


def task_name(study: Study, told: str) -> str:
    """Read a study's task as ``get_task`` takes it. Raises :class:`UserError` for a file outside the study."""
    if Path(told).suffix.lower() in (".yaml", ".yml", ".py"):
        return str(inside(study.path, told, f"The study {study.name}"))
    return told


def examples(study: Study) -> list[Example]:
    """The prompts of the study's responses, by id; else some of its task's test split; else none."""
    rows = _responses(study)
    if rows is not None and len(rows):
        rows = rows.drop_duplicates("example_id").sort_values("example_id")
        answers = rows["answer"] if "answer" in rows else [""] * len(rows)
        return [
            Example(str(i), str(prompt), answer if isinstance(answer, str) else "")
            for i, prompt, answer in zip(rows["example_id"], rows["prompt"], answers, strict=True)
        ]
    task = task_of(study)
    return [] if task is None or _far(task) else _drawn(task)


def _drawn(task: Task) -> list[Example]:
    """So many test examples, or all if there are fewer; none if the task lacks what it needs here."""
    for n in (DRAWN, None):
        try:
            return task.examples("test", n)
        except UserError:
            continue
    return []


def contexts(study: Study) -> dict[str, Context]:
    """Control → context, ``exact`` the first, as far as the study says them."""
    manifest = study.manifest
    written = manifest.get("controls")
    given = {"exact": manifest.get("context"), **(written if isinstance(written, dict) else {})}
    found = {str(name): context for name, data in given.items() if (context := _context(data)) is not None}
    task = task_of(study)
    if not found and task is not None and not _far(task):
        try:
            return task.contexts(_letters)
        except UserError:  # no filler comes out as long as the exact context when letters are counted
            return {}
    return found


def no_context(study: Study) -> NoContext:
    """Read what "no context" means in this study."""
    found = study.manifest.get("no_context")
    if isinstance(found, list):
        context = _context({"messages": found})
        if context is not None:
            return context.messages
    return "template_default" if found == "template_default" else "empty_system"


def token_limit(study: Study) -> int | None:
    """Read how long the study's answers may be, in tokens."""
    task = task_of(study)
    if task is not None:
        return task.max_new_tokens
    rows = _responses(study)
    longest = None if rows is None else pd.to_numeric(rows["n_tokens"], errors="coerce").max()
    return int(longest) if longest is not None and longest > 0 else None


def grade(study: Study, example: Example, response: str, truncated: bool) -> Outcome | None:
    """The task's grade of a response; None if the task is not known here."""
    task = task_of(study)
    return None if task is None or not example.answer else task.grade(example, response, truncated)


def _far(task: Task) -> bool:
    """Would looking at its rows reach for the network? Looking at a study never does."""
    return isinstance(task, DescribedTask) and not task.is_local


def _responses(study: Study) -> pd.DataFrame | None:
    try:
        return study.table("generations")
    except UserError:  # none yet, or damaged, which the pages that show it say
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
