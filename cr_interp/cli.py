"""``cr-interp``: the command line.

Mental model: commands are functions, and this is what stands around all of them. Those that only look at models and studies are
in :mod:`cr_interp.commands`; those that train are plugged in by ``training.commands``, so that this package never imports the
trainer. A :class:`UserError` is printed as one paragraph and ends with exit code 2.
"""

import gc
import io
import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer

from cr_interp.commands import register
from cr_interp.errors import Slower, UserError
from cr_interp.system.disk import refusal
from cr_interp.system.house import put_first
from cr_interp.system.shown import console as terminal
from cr_interp.system.stopping import MESSAGE, Stopped, end_with_parent, raise_on_signals
from cr_interp.system.visible import paragraph

#: The exit code of what Ctrl-C has ended, as shells have it: 128 and the signal's number.
_INTERRUPTED = 130
#: New objects after which cycles are looked for: the first time, and from then on.
_FIRST, _OFTEN = 200_000, 10_000

app = typer.Typer(
    name="cr-interp",
    help="What a privileged context still does to a model that is supposed to have internalised it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = terminal()
register(app)
_format_warning = warnings.formatwarning


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        console.print(f"cr-interp {version('cr-interp')}")
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """What a privileged context still does to a model that is supposed to have internalised it."""


def plug_in() -> None:
    """Add the commands that train. They live in a package of their own, which this one never imports by name."""
    put_first()
    import_module("training.commands").register(app)


def _as_a_sentence(message: Any, category: type[Warning], *where: Any, **line: Any) -> str:
    """Say what is right and slower to people, without the line of code that says it."""
    if issubclass(category, Slower):
        return f"note: {message}\n"
    return _format_warning(message, category, *where, **line)


def _collect_later() -> None:
    """Look for cycles of objects once there are many; then at every :data:`_OFTEN`.

    What a command imports makes objects that stay. Looking for cycles among them is a tenth of a short command.
    """

    def then_often(phase: str, told: dict[str, int]) -> None:
        gc.callbacks.remove(then_often)
        gc.set_threshold(_OFTEN, 20, 20)

    gc.set_threshold(_FIRST, 20, 20)
    gc.callbacks.append(then_often)


def main() -> None:
    """Run the command line; see the module's first lines for what errors look like."""
    _collect_later()
    end_with_parent()
    raise_on_signals()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "__all__"
    )  # it reads the metadata of all that is installed, for none
    warnings.formatwarning = _as_a_sentence
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no minus sign, and no Chinese
    try:
        plug_in()
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer has caught Ctrl-C, and gives the code back
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        print(f"error: {paragraph(error)}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print(MESSAGE, file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Stopped as stopped:
        print(MESSAGE, file=sys.stderr)
        sys.exit(stopped.code)
    except OSError as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"error: {paragraph(told)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        # typer raises its usage errors when not standalone; they know how to print themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise


if __name__ == "__main__":
    main()
