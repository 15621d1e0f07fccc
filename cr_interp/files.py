"""Write files whole or not at all, and read logs that a kill may have torn.

Mental model: a file is written beside its place under another name, flushed to the disk, and renamed. A log only grows, a
line a row; whoever reads one skips what is torn. Nothing read here is executed.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cr_interp.disk import disk_trouble, remove, temporary_name
from cr_interp.errors import UserError


def write_atomic(path: Path, write: Any) -> None:
    """Write a file so that it is either the old one or the whole new one, even if the machine stops.

    ``write`` takes an open binary file. A full disk or a read-only folder is a :class:`UserError`.
    """
    # Not by tempfile, whose files only their owner may read: a study is shared with others.
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """Rows by (step, kind), the last written winning: a resumed run repeats the steps after its checkpoint.

    Lines that are no row with a step are skipped: a kill can leave one torn.
    """
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for row in _lines(path):
        step = row.get("step", 0)
        if isinstance(step, int | float) and 0 <= step < 2**53:  # neither NaN nor infinite
            rows[(int(step), str(row.get("kind", "")))] = row
    return [rows[key] for key in sorted(rows)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    # Lines end with a line feed only: what str.splitlines takes for ends as well may stand inside a text.
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row
