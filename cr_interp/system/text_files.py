"""Files of text that somebody else wrote: bytes to text, text to JSON, and a sentence where that does not go.

Mental model. A text file is UTF-8, with or without a byte order mark; UTF-16 and UTF-32 are read where a mark says so, as
Windows writes it. Anything else is refused: a guessed encoding is a changed prompt. The lines of a JSONL end with a line
feed and with nothing else, for JSON may have U+2028, U+2029 and U+0085 inside a text, where ``str.splitlines`` would cut.
Every reader of such files goes through here, so that they agree on both.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cr_interp.confined import LARGEST, LARGEST_JSON, content
from cr_interp.errors import UserError

#: Lists and objects within each other, at most: what is deeper was not written for us, and breaks what reads it later.
DEEPEST = 64
#: Longest first: UTF-32's mark begins like UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, wanted: str = "a text file", limit: int = LARGEST) -> str:
    """Read the text of a file of at most ``limit`` bytes, its lines ended by ``\\n`` as Python does it.

    ``wanted`` says in an error what to give instead. Raises :class:`UserError` for a file that cannot be read or is not text.
    """
    return _text(path, wanted, limit).replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes, where: object) -> str:
    """Decode bytes to text. Raises :class:`UserError` with the first byte that is not UTF-8 and its line.

    >>> decoded(b"\\xef\\xbb\\xbfcaf\\xc3\\xa9", "a") == "caf\\u00e9"
    True
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{where} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x} where none can be. Save it as UTF-8 "
            f"(from Latin-1: iconv -f latin1 -t utf-8 FILE)."
            if encoding.startswith("utf-8")
            else f"{where} begins like {encoding.upper()} and does not go on so. Save it as UTF-8."
        ) from error
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise UserError(
            f"{where} is no text: line {line} has a zero byte, as in UTF-16 without a mark or in a binary file. Save it as "
            f"UTF-8."
        )
    return text


def read_json(path: Path, wanted: str = "a JSON file") -> Any:
    """Read what a JSON file holds. Raises :class:`UserError`, also for a file that nests too deep."""
    return parsed(_text(path, wanted, LARGEST_JSON), f"{path} is not valid JSON")


def json_lines(path: Path, wanted: str = "a JSONL file") -> Iterator[tuple[int, Any]]:
    """Yield the values of a JSONL file with the numbers of their lines, from 1; blank lines are passed over."""
    for number, line in enumerate(_text(path, wanted).split("\n"), start=1):
        if line.strip():
            yield number, parsed(line, f"{path}, line {number}, is not JSON")


def parsed(text: str, problem: str) -> Any:
    """Parse JSON into a value. ``problem`` begins the error.

    A text in it that is no Unicode (half a surrogate pair) can be neither tokenised nor stored, so it is refused.
    """
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise UserError(
            f"{problem} with Unicode texts: it has half of a surrogate pair (\\u{half:04x})."
        ) from error
    except RecursionError as error:
        raise UserError(f"{problem} that can be read: it nests too deep.") from error
    except ValueError as error:
        raise UserError(f"{problem} ({error}).") from error
    if text.count("[") + text.count("{") > DEEPEST and deeper(value, DEEPEST):
        raise UserError(f"{problem} that can be read: it nests too deep (more than {DEEPEST} levels).")
    return value


def deeper(value: Any, levels: int) -> bool:
    """Do lists and objects nest deeper than so many levels? Asked level by level, so that no depth is too much to ask about.

    >>> deeper([[1]], 1), deeper({"a": [1]}, 2)
    (True, False)
    """
    here = [value]
    for _ in range(levels + 1):
        here = [each for each in here if isinstance(each, dict | list)]
        if not here:
            return False
        here = [inner for each in here for inner in (each.values() if isinstance(each, dict) else each)]
    return True


def _text(path: Path, wanted: str, limit: int = LARGEST) -> str:
    return decoded(content(path, wanted, limit), path)
