"""A docstring says what a function does, verb first, and not what its result is called."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Words that open a noun phrase or a clause: "What a file holds", "Whether it is sharded", "Of every arm the layer …".
NO_VERB = re.compile(r"(What|Whether|How|Of|Where|That|Which|Who|When|Why)\b")


def functions(package: str) -> Iterator[tuple[str, str]]:
    """Place and docstring of every function that has one."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or any(
                "callback" in ast.unparse(one) for one in node.decorator_list
            ):
                continue  # a callback of the command line: its docstring is the program's help
            if said := ast.get_docstring(node):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", said


@pytest.mark.parametrize("package", ["cr_interp", "training", "docs/tools"])
def test_docstrings_open_with_a_verb(package):
    found = list(functions(package))
    assert len(found) > 10
    assert [where for where, said in found if NO_VERB.match(said)] == []
