"""A task in one Python file of the user's own: ``def task()`` in it returns a :class:`~cr_interp.tasks.base.Task`.

This is the only place that executes a file, and only when a person has just named it, on the command line or in a
configuration they gave there. What is merely read (a study's manifest, whoever wrote it) never gets here: see
``get_task``.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from cr_interp.errors import UserError
from cr_interp.system.names import check_name
from cr_interp.tasks.base import Task

#: What every task has; the names of the protocol, said in an error.
PARTS = ("name", "max_new_tokens", "examples", "contexts", "grade")


def run_task_file(path: Path) -> Task:
    """Execute the file and return what its ``task()`` returns; a mistake in it is told with its line."""
    if not path.is_file():
        raise UserError(f"There is no task file {path}. `cr-interp new-task NAME` writes one to start from.")
    module_name = _module_name(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        make = getattr(module, "task", None)
        if not callable(make):
            raise UserError(f"{path} has no function task(); it has to return the task.")
        made = make()
    except UserError:
        raise
    except Exception as error:
        where = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {where[-1].lineno}" if where else ""
        raise UserError(f"{path}{line}: {type(error).__name__}: {error}") from error
    if not isinstance(made, Task):
        missing = [part for part in PARTS if not hasattr(made, part)]
        raise UserError(
            f"{path}: task() returned a {type(made).__name__}, which lacks {', '.join(missing)}. A task has "
            f"{', '.join(PARTS)}; see cr_interp/tasks/base.py."
        )
    check_name("a task", made.name)
    return made


def module_of(path: Path) -> ModuleType | None:
    """The file as it was run last; None before that."""
    return sys.modules.get(_module_name(path))


def _module_name(path: Path) -> str:
    return f"cr_interp_own_task_{path.stem}"
