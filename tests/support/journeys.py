"""A page of How-to as something that can be done: its commands, in the page's order, run in a folder of their own.

Mental model: a fenced block that begins with ``bash`` is commands, one of another language whose first line is a comment with a
file's name (``# judge.yaml``) is that file. What a test replaces are names only: a reader's model becomes a tiny one.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner, Result

from cr_interp import cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: str, **names: str) -> list[str]:
    """The lines of the page's ``bash`` blocks that begin with ``cr-interp``; ``names`` are replaced wherever they stand."""
    text = (DOCS / page).read_text("utf-8")
    lines = [
        line.split(" #")[0].strip()
        for language, block in _BLOCK.findall(text)
        if language == "bash"
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("cr-interp")
    ]
    return [_replaced(line, names) for line in lines]


def code(page: str, language: str = "python", **names: str) -> list[str]:
    """The page's blocks of a language."""
    text = (DOCS / page).read_text("utf-8")
    return [_replaced(block, names) for name, block in _BLOCK.findall(text) if name == language]


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = re.sub(rf"\b{re.escape(name)}\b", lambda _, other=other: other, text)
    return text


def run(command: str) -> Result:
    """Run a command of the page in this process; whatever it raises is raised."""
    cli.plug_in()
    found = CliRunner().invoke(cli.app, shlex.split(command)[1:], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found
