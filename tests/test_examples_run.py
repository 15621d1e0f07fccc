"""Examples in docstrings run as they stand: whoever pastes one gets what is printed below it."""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

import cr_interp as cr

ROOT = Path(__file__).resolve().parents[1]
PARSER = doctest.DocTestParser()


def examples(file: Path) -> list[doctest.Example]:
    """All examples in the docstrings of a file."""
    text = file.read_text("utf-8")
    if ">>>" not in text:
        return []
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    said = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [example for each in said for example in PARSER.get_examples(each)]


FOUND = {
    ".".join(part for part in file.relative_to(ROOT).with_suffix("").parts if part != "__init__"): found
    for package in ("cr_interp", "training", "app")
    for file in sorted((ROOT / package).rglob("*.py"))
    if (found := examples(file))
}


@pytest.mark.parametrize("name", FOUND)
def test_examples_print_what_they_say(name):
    ran = doctest.testmod(import_module(name))
    assert ran.attempted >= len(FOUND[name])
    assert not ran.failed


def test_every_public_name_has_an_example():
    """In its own docstring, or in that of the package, which goes through the names."""
    assert len(FOUND) > 60
    together = "".join(example.source for example in FOUND["cr_interp"])
    lacking = [
        name
        for name in cr.__all__
        if f"cr.{name}" not in together and not PARSER.get_examples(getattr(cr, name).__doc__ or "")
    ]
    assert not lacking
