"""The tasks by name: ``get_task("sentiment")``, ``get_task("rules:shift")``.

A new task is a new file with a function that returns a :class:`~cr_interp.tasks.base.Task`, and a line in
``TASKS`` or ``_families``. Nothing here imports torch or transformers; families are imported when asked for.
"""

from collections.abc import Callable

from cr_interp.errors import unknown
from cr_interp.tasks.base import Task
from cr_interp.tasks.sentiment import sentiment_task
from cr_interp.tasks.wordclass import wordclass_task

#: Tasks without parameters.
TASKS: dict[str, Callable[[], Task]] = {"sentiment": sentiment_task, "wordclass": wordclass_task}


def _families() -> dict[str, tuple[Callable[[str], Task], list[str]]]:
    """Tasks with a parameter, ``family:name``: how to make one, and the names."""
    from cr_interp.tasks.codebook import CODEBOOKS, codebook_task
    from cr_interp.tasks.frozenlake import frozenlake_task
    from cr_interp.tasks.grids import LEGENDS
    from cr_interp.tasks.rules import RULES, rules_task
    from cr_interp.tasks.sokoban import sokoban_task

    return {
        "rules": (rules_task, list(RULES)),
        "codebook": (codebook_task, list(CODEBOOKS)),
        "frozenlake": (frozenlake_task, list(LEGENDS)),
        "sokoban": (sokoban_task, list(LEGENDS)),
    }


def task_names() -> list[str]:
    """Every name that :func:`get_task` knows."""
    return [*TASKS, *(f"{family}:{name}" for family, (_, names) in _families().items() for name in names)]


def get_task(name: str) -> Task:
    """The task of this name; an unknown one raises :class:`~cr_interp.errors.UserError`."""
    if name in TASKS:
        return TASKS[name]()
    family, _, parameter = name.partition(":")
    make, names = _families().get(family, (None, []))
    if make is None or parameter not in names:
        raise unknown("task", name, task_names())
    return make(parameter)
