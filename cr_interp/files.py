"""Write files whole or not at all, and read logs that a kill may have torn.

Mental model: a file is written beside its place under another name, flushed to the disk, and renamed. A log only grows, a
line a row; whoever reads one skips what is torn. Nothing read here is executed.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cr_interp.confined import LARGEST, is_regular
from cr_interp.errors import UserError
from cr_interp.system.disk import disk_trouble, remove, sweep, temporary_name
from cr_interp.system.text_files import deeper

#: A row of a log has a few dozen numbers: more bytes, or more objects within each other, are no row of ours.
LONGEST_LINE, DEEPEST_ROW = 1 << 20, 8


def write_atomic(path: Path, write: Any) -> None:
    """Write a file so that it is either the old one or the whole new one, even if the machine stops.

    ``write`` takes an open binary file. A full disk or a read-only folder is a :class:`UserError`, and so is what stands in the
    file's place and is none: a device would be gone.
    """
    _refuse_special(path)
    # Not by tempfile, whose files only their owner may read: a study is shared with others.
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)  # what a kill left there takes room, and is nobody's
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        trouble = disk_trouble(error, path.parent) if isinstance(error, Exception) else None
        remove(temporary)
        if trouble is None and isinstance(error, OSError):
            trouble = error.strerror or str(error)
        if trouble is None:
            raise  # a mistake in what writes, or a stop
        raise UserError(
            f"Could not write {path} ({trouble}). What was there before is untouched; free some "
            f"space or choose a folder that can be written, then run the same command again."
        ) from error


def _refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of a folder, a pipe or a device. A link is replaced itself, not what it leads to."""
    with suppress(OSError, ValueError):
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise UserError(f"{path} is no file but a folder, a pipe or a device. Give a file's name.")


def write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False, sort_keys=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode("utf-8")))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row as one line; a line that a kill left torn is first closed with a newline."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
    except OSError as error:
        trouble = disk_trouble(error, path.parent) or error.strerror or error
        raise UserError(
            f"Could not append to {path} ({trouble}); the rows written so far are kept. Free some "
            f"space or make the folder writable, then resume."
        ) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a log's rows, one for each (step, kind), the last written winning: a resumed run repeats the steps after its
    checkpoint.

    Lines that are no row with a step are skipped: a kill can leave one torn.
    """
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for line in lines_of(path):
        if (row := log_row(line)) is not None:
            rows[(int(row.get("step", 0)), str(row.get("kind", "")))] = row
    return [rows[key] for key in sorted(rows)]


def log_row(line: bytes) -> dict[str, Any] | None:
    """Parse a line of a log into a row. None for a line that is no row: not JSON, not an object, with a step that is no
    number, half a surrogate pair in a name, or larger and deeper than a row can be.

    The one reader of such lines. It is Python's own, which refuses what nests too deep: a native reader ends the process.
    """
    if len(line) > LONGEST_LINE:
        return None
    try:
        row = json.loads(line.decode("utf-8", errors="replace").removeprefix("\ufeff"))
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or (
        line.count(b"{") + line.count(b"[") > DEEPEST_ROW and deeper(row, DEEPEST_ROW)
    ):
        return None
    step = row.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 <= step < 2**53:  # NaN neither
        return None
    return row


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file, each as long as a row can be at most; nothing for anything else."""
    if not is_regular(path):
        return
    if path.stat().st_size > LARGEST:
        raise UserError(
            f"{path} has {path.stat().st_size / 1e9:.1f} GB; {LARGEST / 1e9:.1f} GB are the most that a log has."
        )
    # Lines end with a line feed only: what str.splitlines takes for ends as well may stand inside a text.
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            yield line
