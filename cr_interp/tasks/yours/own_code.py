"""A task in one Python file of the user's own: ``def task()`` in it returns a :class:`~cr_interp.tasks.base.Task`; and graders in
Python, ``file.py:function``.

This is the only place that executes a file, and only when a person has just named it, on the command line or in a
configuration they gave there. What is merely read (a study's manifest, whoever wrote it) never gets here: see
``get_task``.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.system.names import check_name
from cr_interp.system.time_limit import limited
from cr_interp.tasks.base import Example, Outcome, Task, known_outcome

#: What every task has; the names of the protocol, said in an error.
PARTS = ("name", "max_new_tokens", "examples", "contexts", "grade")


def run_task_file(path: Path) -> Task:
    """Execute the file and return what its ``task()`` returns; a mistake in it is told with its line."""
    if not path.is_file():
        raise UserError(f"There is no task file {path}. `cr-interp new-task NAME` writes one to start from.")
    module = _run(path)
    try:
        make = getattr(module, "task", None)
        if not callable(make):
            raise UserError(f"{path} has no function task(); it has to return the task.")
        made = make()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _with_line(path, error) from error
    if not isinstance(made, Task):
        missing = [part for part in PARTS if not hasattr(made, part)]
        raise UserError(
            f"{path}: task() returned a {type(made).__name__}, which lacks {', '.join(missing)}. A task has "
            f"{', '.join(PARTS)}; see cr_interp/tasks/base.py."
        )
    check_name("a task", made.name)
    return made


def _run(path: Path) -> ModuleType:
    """Execute a file; a mistake in it is told with its line."""
    module_name = _module_name(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file of one's own may end the program, which is no result
        raise _with_line(path, error) from error
    return module


def _with_line(path: Path, error: BaseException) -> UserError:
    where = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = f", line {where[-1].lineno}" if where else ""
    return UserError(f"{path}{line}: {type(error).__name__}: {error}")


#: Seconds for one response.
PATIENCE = 60.0
_FUNCTIONS: dict[tuple[Path, str], Callable[..., Any]] = {}


def grade_by_function(named: str, folder: Path, example: Example, response: str, truncated: bool) -> Outcome:
    """Grade a response by a function ``file.py:function`` of the folder: an outcome, or true for right and false for wrong.

    It is called with ``prompt``, ``response`` and ``answer``. Raises :class:`UserError` for a function that does not exist, fails
    (with the line), takes too long, or says something else.
    """
    file, _, function = named.partition(":")
    path = inside(folder, file, "The grader")
    key = path.resolve(), function
    if key not in _FUNCTIONS:
        _FUNCTIONS[key] = _function(path, function)
    told = f"The grader {named} takes longer than {PATIENCE:g} seconds on one response."
    try:
        with limited(PATIENCE, told):
            said = _FUNCTIONS[key](prompt=example.prompt, response=response, answer=example.answer)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _with_line(path, error) from error
    if said is True or said is False:
        return "right" if said else "truncated" if truncated else "wrong"
    return known_outcome(said, example)


def _function(path: Path, name: str) -> Callable[..., Any]:
    module = _run(path)
    found = getattr(module, name, None)
    if not name or not callable(found):
        raise UserError(f"{path} has no function '{name}'. Write the grader as file.py:function.")
    return found  # type: ignore[no-any-return]


def module_of(path: Path) -> ModuleType | None:
    """Return the file as it was run last; None before that."""
    return sys.modules.get(_module_name(path))


def _module_name(path: Path) -> str:
    return f"cr_interp_own_task_{path.stem}"
