"""Rows of a JSONL, JSON, CSV or Parquet file beside a task's description, without the hub's packages.

Mental model: a table of named columns, each a list. Cells of a CSV are text as they stand there: ``007``, ``NA`` and
``4.50`` are answers, not a number, a gap and another number. Damage is told with its line.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cr_interp.errors import UserError
from cr_interp.system.text_files import json_lines, parsed, read_text
from cr_interp.system.unpacked import memory, unpacked

WANTED = "a JSONL, Parquet or CSV file, or a hub id"
#: A share or a number of the rows, as ``datasets`` writes it: train[:80%], train[100:200].
SLICE = re.compile(r"train\[(-?[0-9]{1,15})?(%)?:(-?[0-9]{1,15})?(%)?\]")


@dataclass(frozen=True)
class LocalRows:
    columns: dict[str, list[Any]]
    lines: tuple[int, ...] = ()
    """Of every row, where it stands in its file; empty for a file without lines."""

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int) -> str:
        """Return ``line 7`` of a text file, ``row 6`` of another: where a reader finds the row."""
        return f"line {self.lines[row]}" if self.lines else f"row {row}"


def read_local(path: Path, split: str = "train") -> LocalRows:
    """Read all rows of a file, or those of ``split`` = ``train[a:b]``: a file has no other split.

    Raises :class:`UserError` for a missing or damaged file, and for another split.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give {WANTED}.")
    try:
        rows = READERS[path.suffix.lower()](path)
    except UserError as error:
        raise UserError(f"{path} could not be read as a dataset: {error}") from error
    first, last = _slice(path, split, len(rows))
    return LocalRows({name: values[first:last] for name, values in rows.columns.items()}, rows.lines[first:last])


def _slice(path: Path, split: str, n: int) -> tuple[int, int]:
    if split == "train":
        return 0, n
    found = SLICE.fullmatch(split)
    if found is None:
        raise UserError(
            f"{path} has no split '{split}': a file's rows are 'train', a part of them 'train[:80%]'."
        )
    first, first_share, last, last_share = found.groups()

    def place(value: str | None, share: str | None, otherwise: int) -> int:
        if value is None:
            return otherwise
        at = round(int(value) * n / 100) if share else int(value)
        return min(n, max(0, at + n if at < 0 else at))

    return place(first, first_share, 0), place(last, last_share, n)


def _jsonl(path: Path) -> LocalRows:
    return _from_objects(list(json_lines(path, WANTED)), "line")


def _json(path: Path) -> LocalRows:
    """Read one list of objects, or a line for each as in a JSONL."""
    text = read_text(path, WANTED)
    if not text.lstrip().startswith("["):
        return _jsonl(path)
    return _from_objects(list(enumerate(parsed(text, "it is not JSON"))), "row")


def _from_objects(rows: Sequence[tuple[int, Any]], unit: str) -> LocalRows:
    names: dict[str, None] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError(
                f"{unit} {number} holds a {type(row).__name__}, not an object with the columns' names."
            )
        names.update(dict.fromkeys(row))
    lines = tuple(number for number, _ in rows) if unit == "line" else ()
    return LocalRows({name: [row.get(name) for _, row in rows] for name in names}, lines)


def _csv(path: Path) -> LocalRows:
    reader = csv.reader(io.StringIO(read_text(path, WANTED), newline=""), strict=True)
    try:
        head = next(reader, [])
        if len(set(head)) < len(head):
            raise UserError(f"its first line names a column twice ({', '.join(head)}).")
        columns: list[list[Any]] = [[] for _ in head]
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(head):
                raise UserError(f"line {reader.line_num} has {len(row)} cells, the first one {len(head)}.")
            for cells, cell in zip(columns, row, strict=True):
                cells.append(cell)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} is not CSV ({error}).") from error
    return LocalRows(dict(zip(head, columns, strict=True)), tuple(lines))


def _parquet(path: Path) -> LocalRows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        size, most = unpacked(path, memory()), memory()
        if size > most:
            raise UserError(
                f"its rows take {size / 1e9:.1f} GB or more when unpacked; {most / 1e9:.1f} GB are the most that is read."
            )
        table = parquet.read_table(path)
        return LocalRows({name: table[name].to_pylist() for name in table.column_names})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"it is not readable as Parquet ({str(error).splitlines()[0]}).") from error


READERS: dict[str, Callable[[Path], LocalRows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": _csv,
}
