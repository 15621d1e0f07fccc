"""The tasks by name: ``get_task("sentiment")``, ``get_task("rules:shift")``.

A new task is a new file with a function that returns a :class:`~cr_interp.tasks.base.Task`, and a line in
``TASKS``. Nothing here imports torch or transformers; the string rules are imported when asked for.
"""

from collections.abc import Callable

from cr_interp.errors import unknown
from cr_interp.tasks.base import Task
from cr_interp.tasks.sentiment import sentiment_task
from cr_interp.tasks.wordclass import wordclass_task

#: Tasks without parameters. The families ``rules:<rule>`` come in addition; see :func:`task_names`.
TASKS: dict[str, Callable[[], Task]] = {"sentiment": sentiment_task, "wordclass": wordclass_task}


def task_names() -> list[str]:
    """Every name that :func:`get_task` knows."""
    from cr_interp.tasks.rules import RULES

    return [*TASKS, *(f"rules:{rule}" for rule in RULES)]


def get_task(name: str) -> Task:
    """The task of this name; an unknown one raises :class:`~cr_interp.errors.UserError`."""
    if name in TASKS:
        return TASKS[name]()
    family, _, rule = name.partition(":")
    if family == "rules":
        from cr_interp.tasks.rules import RULES, rules_task

        if rule in RULES:
            return rules_task(rule)
    raise unknown("task", name, task_names())
