"""The commands of ``cr-interp`` that only look at models and studies; those that train are in ``training/commands.py``.

Mental model: a command is a function of a few lines. Its parameters are its options (typer reads them), its docstring is its
help, and what it does stands elsewhere. What takes seconds to import is imported inside it, after all that was typed has been
checked, so that ``--help`` and a mistyped word answer at once.

    looking     what is in a study: table, controls, app, studies, report, export
    measuring   what is in a model: compare, case-study, explain, check, new-task
    typed       lists that are typed as one word, such as 0,1,2

A new command is a function in one of them, and its line in :data:`COMMANDS`.
"""

from collections.abc import Callable

import typer

from cr_interp.commands import looking, measuring

#: In the order of ``--help``.
COMMANDS: dict[str, Callable[..., None]] = {
    "table": looking.table,
    "controls": looking.controls,
    "app": looking.workbench,
    "studies": looking.studies,
    "compare": measuring.compare,
    "case-study": measuring.case_study,
    "explain": measuring.explain,
    "new-task": measuring.new_task,
    "export": looking.export,
    "report": looking.report,
    "check": measuring.check,
}


def register(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
