"""The page "How to extend": what it sends a newcomer to is there, and nothing that it names takes more than two files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/how-to/extend.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("| to add |")[2].partition("\n\n")[0].splitlines()[2:]
]
#: Parts of the house besides files: a folder that gets a new module, or somebody's own task.
PATH = re.compile(r"`([\w.]+(?:/[\w.]*)+)`")
NAME = re.compile(r"`([A-Z][A-Z_]+|[A-Z][a-z]\w+)`")


def paths(text: str) -> list[str]:
    return PATH.findall(text)


def test_the_ten_things_are_told():
    assert len(ROWS) >= 10


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_touches_at_most_two_files_all_of_which_are_there(row):
    what, where, how = row
    named = paths(where)
    assert named, where
    for path in named:
        assert (ROOT / path).exists(), path
    assert (
        len({path for path in re.sub(r" or `[^`]+`", "", where).split("`")[1::2] if not path.endswith("/")}) <= 2
    )
    files = [ROOT / path for path in named]
    code = "".join(
        file.read_text(encoding="utf-8")
        for each in files
        for file in (each.glob("*.py") if each.is_dir() else [each])
    )
    for name in NAME.findall(how):
        assert re.search(rf"\b{name}\b", code), f"{what}: {name} is not in {named}"


def test_the_walks_lead_through_files_that_are_there_and_downwards_only():
    walks = re.findall(r"^- (?:A hidden state|An answer) goes ((?:.|\n)*?)\.$", TEXT, re.MULTILINE)
    assert len(walks) == 2
    for walk in walks:
        for path in re.findall(r"`([\w/]+\.py)`", walk):
            assert (ROOT / path).exists() or (ROOT / "cr_interp" / path).exists(), path
