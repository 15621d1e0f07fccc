"""The code that an answer is made by, as a digest: whether an answer that was made earlier is still what would be computed.

Mental model: an answer is named like the function of this package that makes it (``metric_table``, ``verdict_rows``). From the
module of that function the imports are followed, and what *computes* on the way is digested: the modules of ``tables`` and
``tasks`` that are reached, ``statistics.py``, ``ends.py``, ``vocabulary.py``, and from ``study`` how rows are read and picked
(``study/reading.py``, ``study/rows.py``). Left out is what finds, checks, locks or writes files, and what is drawn. Words are
left out as well: comments and docstrings change no number. So a new formula makes every answer that can contain it out of date,
and a sentence none.
"""

import re
from functools import cache
from pathlib import Path

import cr_interp
from cr_interp.system.digests import digest_of

ROOT = Path(cr_interp.__file__).parent
#: What computes: packages, and single modules.
PACKAGES = ("tables", "tasks")
MODULES = ("statistics", "ends", "vocabulary", "study.rows", "study.reading")
#: What keeps answers, and makes none.
KEEPERS = ("tables.stored", "tables.code_of")

_IMPORT = re.compile(r"^[ \t]*from cr_interp([\w.]*) import (\([^)]*\)|.+)$", re.MULTILINE)
#: A string that begins a line and ends one is a docstring, as a test holds.
_DOCSTRING = re.compile(r'^[ \t]*r?"""(?:[^\\]|\\.)*?"""[ \t]*$', re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)


@cache
def code_of(what: str) -> str:
    """Digest the code that makes the answers called ``what``; of a name that no function of a table has, all that makes any."""
    named = re.compile(rf"^def {re.escape(what)}\(", re.MULTILINE)
    makers = [name for name in _every_table() if named.search(_text(name))]
    if not makers:
        return digest_of([(name, _text(name)) for name in reached(_every_table())])
    return digest_of([(name, without_words(_text(name))) for name in reached(makers)])


def reached(start: list[str]) -> list[str]:
    """List the modules that compute, from ``start`` (names inside ``cr_interp``) and how a table is read along their imports."""
    found: set[str] = set()
    waiting = [*start, "study.reading"]
    while waiting:
        name = waiting.pop()
        if name in found or not _computes(name):
            continue
        found.add(name)
        for inside, names in _IMPORT.findall(_text(name)):
            module = inside.removeprefix(".")
            waiting += [module, *(f"{module}.{each}" for each in re.findall(r"\w+", names))]
    return sorted(found)


def without_words(text: str) -> str:
    """Drop docstrings, lines of comment and empty lines from Python code."""
    text = _COMMENT.sub("", _DOCSTRING.sub("", text))
    return "\n".join(line for line in text.splitlines() if line.strip())


def _computes(name: str) -> bool:
    if name in KEEPERS or not (name in MODULES or name.split(".")[0] in PACKAGES):
        return False
    return _file(name).is_file()


def _every_table() -> list[str]:
    files = sorted((ROOT / "tables").glob("*.py"))
    return [f"tables.{file.stem}" for file in files if file.stem != "__init__"]


def _file(name: str) -> Path:
    return ROOT.joinpath(*name.split(".")).with_suffix(".py")


@cache
def _text(name: str) -> str:
    return _file(name).read_text(encoding="utf-8")
