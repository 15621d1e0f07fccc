"""Read a table of a study from disk, look at it once, and keep it while the file stays the same.

Mental model: a table may come from anybody, so its size, its columns and its outcomes are looked at behind one door. A report
asks for the same table many times (a suite: ten times for each setting), so what was read is kept, up to :data:`MOST_KEPT`
bytes. Callers get a shallow copy: under pandas' copy-on-write a change of the copy never reaches what is kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from cr_interp.configuration import brief
from cr_interp.errors import UserError
from cr_interp.study.schema import COLUMNS, MOST_BYTES, MOST_COLUMNS, MOST_ROWS, wrong_columns, wrong_rows
from cr_interp.system.unpacked import frame_of, memory, unpacked
from cr_interp.vocabulary import OUTCOMES, UNGRADED, VIEWS

#: Bytes of tables that are kept in memory; the table that was asked for least recently goes first.
MOST_KEPT = 256 << 20

_Identity = tuple[int, ...]
_kept: "OrderedDict[tuple[str, str, str], tuple[_Identity, pd.DataFrame, int]]" = OrderedDict()
_lock = threading.Lock()


def read_table(file: Path, name: str, task: str) -> pd.DataFrame:
    """Read the table ``name`` from a Parquet file, or give what was read from the same file before.

    ``task`` is the study's; answers that were written without their ``cluster`` get it from their ids, if the task is a
    built-in one. Raises :class:`UserError` if the file is unreadable, too large, or not such a table.
    """
    key, found = (str(file.resolve()), name, task), _identity(file)
    with _lock:
        before, frame, _ = _kept.get(key, ((), None, 0))
        if frame is not None and before == found:
            _kept.move_to_end(key)
            return frame.copy(deep=False)
    frame = _checked(file, name, task)
    if _identity(file) == found:
        _keep(key, found, frame)
    return frame.copy(deep=False)


def _keep(key: tuple[str, str, str], identity: _Identity, frame: pd.DataFrame) -> None:
    size = int(frame.memory_usage().sum())
    with _lock:
        _kept.pop(key, None)
        if size > MOST_KEPT:
            return
        _kept[key] = identity, frame, size
        while sum(each for _, _, each in _kept.values()) > MOST_KEPT:
            _kept.popitem(last=False)


def _identity(file: Path) -> _Identity:
    """Tell one state of a file from another: a table is written to a new file and renamed, so its inode changes."""
    told = file.stat()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def _checked(file: Path, name: str, task: str) -> pd.DataFrame:
    try:
        _check_size(file)
        frame = frame_of(file)
    except UserError:
        raise
    except Exception as error:  # pyarrow raises many kinds
        said = " ".join(str(error).split())[:300]
        raise UserError(f"{file} is not readable as Parquet ({said}). Make the table again.") from error
    missing = [column for column in COLUMNS.get(name, ()) if column not in frame.columns]
    if missing:
        raise UserError(f"{file} lacks the columns {missing}; it was damaged or written by something else.")
    refuse_wrong(file, wrong_columns(frame) or wrong_rows(frame, name))
    if name == "generations":
        _check_outcomes(file, frame)
        if "cluster" not in frame:
            from cr_interp.tasks.clusters import clusters_of

            ids = frame["example_id"].drop_duplicates()
            frame["cluster"] = frame["example_id"].map(dict(zip(ids, clusters_of(task, ids), strict=True)))
    return frame


def refuse_wrong(file: Path, wrong: Sequence[str]) -> None:
    """Raise :class:`UserError` if anything is wrong with a table, or with the part of it that was read."""
    if wrong:
        raise UserError(
            f"{file} was damaged or written by something else: {', '.join(wrong[:4])}. Make it again."
        )


def _check_outcomes(file: Path, frame: pd.DataFrame) -> None:
    if not len(frame):
        raise UserError(f"{file} holds no answers. It was damaged, or its evaluation was stopped; fill it anew.")
    if gaps := int(frame["outcome"].isna().sum()):
        raise UserError(
            f"{file} has {gaps} answers without outcome, which cannot be counted. It was damaged, or written by something "
            f"else; fill it anew."
        )
    for column, known in (("outcome", (*OUTCOMES, UNGRADED)), ("view", VIEWS)):
        if unknown := sorted(set(frame[column].unique()) - {*known}):
            raise UserError(
                f"{file} has {column}s that are not known here ({', '.join(map(brief, unknown[:4]))}); known are "
                f"{', '.join(known)}. It was damaged, or written by a newer cr_interp."
            )


def _check_size(file: Path) -> None:
    """Refuse a table that unpacks into more than can be: a small file may say that it does."""
    told = pq.ParquetFile(file).metadata
    sound = told.num_rows <= MOST_ROWS and told.num_columns <= MOST_COLUMNS
    most = min(MOST_BYTES, memory())
    size = (
        unpacked(file, most)
        if sound
        else sum(told.row_group(n).total_byte_size for n in range(told.num_row_groups))
    )
    if not sound or size > most:
        raise UserError(
            f"{file} says it has {told.num_rows} rows of {told.num_columns} columns, {size / 1e9:.1f} GB or more when they are "
            f"unpacked; {most / 1e9:.1f} GB are the most that is read here. Make the table again."
        )
