"""The tasks by name: ``get_task("sentiment")``, ``get_task("rules:shift")``, ``get_task("mine.yaml")``.

A new task here is a new file with a function that returns a :class:`~cr_interp.tasks.base.Task`, and a line in
``TASKS`` or ``_families``, or a description in ``published/``. A task of one's own is a description (``.yaml``) or a
Python file (``.py``) anywhere. Nothing here imports torch or transformers; families are imported when asked for.

    base                         what a task is; ``graders`` and ``words`` read answers
    splits, clusters, lengths    which split a prompt is in, which examples belong together, contexts of equal length
    context_text                 a context as one text, and back
    organisms, language, games   the families of built-in tasks
    yours                        tasks of one's own
"""

from collections.abc import Callable
from pathlib import Path

from cr_interp.errors import UserError, unknown
from cr_interp.tasks.base import Task


def _sentiment() -> Task:
    from cr_interp.tasks.language.sentiment import sentiment_task

    return sentiment_task()


def _fresh_sentiment() -> Task:
    from cr_interp.tasks.language.sentiment import fresh_sentiment_task

    return fresh_sentiment_task()


def _wordclass() -> Task:
    from cr_interp.tasks.language.wordclass import wordclass_task

    return wordclass_task()


def _explained() -> Task:
    from cr_interp.tasks.language.explained import explained_task

    return explained_task()


def _fresh_explained() -> Task:
    from cr_interp.tasks.language.explained import fresh_explained_task

    return fresh_explained_task()


#: Tasks without parameters.
TASKS: dict[str, Callable[[], Task]] = {
    "sentiment": _sentiment,
    "sentiment-fresh": _fresh_sentiment,
    "wordclass": _wordclass,
    "explained": _explained,
    "explained-fresh": _fresh_explained,
}


def _families() -> dict[str, tuple[Callable[[str], Task], list[str]]]:
    """Return tasks with a parameter, ``family:name``: how to make one, and the names."""
    from cr_interp.tasks.games.frozenlake import frozenlake4_task, frozenlake_task
    from cr_interp.tasks.games.grids import LEGENDS
    from cr_interp.tasks.games.sokoban import sokoban2_task, sokoban_task
    from cr_interp.tasks.games.textarena import GAMES, arena_task
    from cr_interp.tasks.organisms.codebook import CODEBOOKS, codebook_task
    from cr_interp.tasks.organisms.hints import hints_task
    from cr_interp.tasks.organisms.rules import RULES, rules_task
    from cr_interp.tasks.yours.described import published_names, published_task

    return {
        "rules": (rules_task, list(RULES)),
        "codebook": (codebook_task, list(CODEBOOKS)),
        "hints": (hints_task, list(CODEBOOKS)),
        "frozenlake": (frozenlake_task, list(LEGENDS)),
        "frozenlake4": (frozenlake4_task, list(LEGENDS)),
        "sokoban": (sokoban_task, list(LEGENDS)),
        "sokoban2": (sokoban2_task, list(LEGENDS)),
        "hub": (published_task, published_names()),
        "textarena": (arena_task, list(GAMES)),
    }


def task_names() -> list[str]:
    """List every name that :func:`get_task` knows."""
    return [*TASKS, *(f"{family}:{name}" for family, (_, names) in _families().items() for name in names)]


def get_task(name: str, run_code: bool = False) -> Task:
    """Open the task of this name or file; an unknown one raises :class:`~cr_interp.errors.UserError`.

    ``run_code`` allows a Python file, and a description's grader that runs code or asks a server. It is for callers to whom a
    person has just named it. A name that was found in a study is only data, so without it a Python file is refused.
    """
    if name in TASKS:
        return TASKS[name]()
    if Path(name).suffix in (".yaml", ".yml"):
        from cr_interp.tasks.yours.described import read_description

        return read_description(Path(name), trusted=run_code)
    if Path(name).suffix == ".py":
        if not run_code:
            raise UserError(
                f"The task is the Python file {name}, and reading a study never runs code. Name the file yourself "
                f"(--task {name}) if you trust it."
            )
        from cr_interp.tasks.yours.own_code import run_task_file

        return run_task_file(Path(name))
    family, _, parameter = name.partition(":")
    make, names = _families().get(family, (None, []))
    if make is None or parameter not in names:
        raise unknown("task", name, task_names())
    return make(parameter)
