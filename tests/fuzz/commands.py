"""A command of ``cr-interp`` as something that a fork can do."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def imported(*modules: str) -> None:
    """Import what the cases need, once for all forks; torch with one thread."""
    for module in ("torch", "cr_interp.cli", "training.commands", *modules):
        importlib.import_module(module)
    sys.modules["torch"].set_num_threads(1)


def command(words: Sequence[str]) -> Callable[[], None]:
    """``cr-interp`` with these words, in the folder where it is run; studies are looked for there only."""

    def act() -> None:
        from cr_interp import cli
        from cr_interp.study import searching

        searching.BUNDLED = Path("none")
        os.environ["CR_INTERP_STUDIES"] = "studies"
        os.environ["COLUMNS"] = "100"
        sys.argv = ["cr-interp", *words]
        cli.main()

    return act
