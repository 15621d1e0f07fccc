"""Training logs that may still be written: read further instead of anew, and thinned to what a line can show.

Mental model: ``train.jsonl`` only grows. A :class:`RunLog` remembers how far it has read one and takes in what came
since, whole lines only; :class:`StudyLogs` holds one for each run of a study and makes them one table. A line of a figure
needs no more than :data:`POINTS` points, so long logs become means over equally many steps, the same for all runs.

    logs = StudyLogs(study)
    logs.read()     # all there is
    logs.read()     # a moment later: opens each file, reads the new lines
"""

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from cr_interp.confined import LARGEST, own
from cr_interp.files import log_row
from cr_interp.study.study import Study

#: A line of a figure gets at most so many points.
POINTS = 500
#: So much of a file is in memory as text at a time; a line that is longer is no row of a log.
BLOCK = 16 << 20
#: So many bytes before the place where reading stopped show that a file is still the one that was read.
_TAIL = 64
#: Names of numbers that are taken in at most, a row's kind being a word: a file of other names in every line is no log.
COLUMNS, _KIND = 256, 64
#: Columns that this module and the name of the run's folder give, whatever the file says.
_OWN = ("arm", "seed", "averaged")


class RunLog:
    """One ``train.jsonl``: ``rows`` is what it said when it was last read, ``unreadable`` counts lines that were no rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._forget()

    def _forget(self) -> None:
        self.rows = _no_rows()
        self.unreadable = 0
        self._offset, self._tail = 0, b""

    def read(self) -> bool:
        """Take in the lines that were written since the last time; whether ``rows`` changed.

        A half-written last line is left for the next time. A file that does not continue what was read (it shrank, or
        another was put in its place) is read anew.
        """
        before = self.rows
        try:
            if self.path.exists() and not own(self.path.parent.parent.parent, self.path):
                raise OSError(0, "it is no file of the study's own")
            if self.path.exists() and self.path.stat().st_size > LARGEST:
                raise OSError(0, "it is larger than a log can be")
            with open(self.path, "rb") as file:
                self.problem = None
                if not self._continues(file):
                    self._forget()
                parts = list(self._fresh(file))
        except OSError as error:
            self._forget()
            self.problem = error.strerror or type(error).__name__
            return len(before) > 0
        parts = [part for part in parts if len(part)]
        if parts:
            self.rows = _in_order(pd.concat([self.rows, *parts] if len(self.rows) else parts, ignore_index=True))
        return self.rows is not before

    def _continues(self, file: BinaryIO) -> bool:
        file.seek(self._offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _fresh(self, file: BinaryIO) -> Iterator[pd.DataFrame]:
        while block := self._next(file):
            whole = block.rfind(b"\n") + 1
            if not whole and len(block) < BLOCK:
                return
            block = block[: whole or BLOCK]
            self._offset += len(block)
            self._tail = (self._tail + block)[-_TAIL:]
            rows, unreadable = parse(block)
            self.unreadable += unreadable
            yield rows

    def _next(self, file: BinaryIO) -> bytes:
        file.seek(self._offset)
        return file.read(BLOCK)


class StudyLogs:
    """The logs of all runs of a study as one table. May be shared by threads."""

    def __init__(self, study: Study, points: int = POINTS) -> None:
        self._study, self._points = study, points
        self._logs: dict[tuple[str, int], RunLog] = {}
        self._thinned: dict[tuple[str, int], tuple[pd.DataFrame, dict[str, int], pd.DataFrame]] = {}
        self._table = self._join()
        self._lock = Lock()

    def read(self) -> pd.DataFrame:
        """Read the logs into columns ``arm, seed, kind, step, averaged, …``, sorted by run and step; the same frame while no
        log grew.

        Nested values have dotted names, as in :meth:`cr_interp.study.study.Study.training`. Where a run has more rows of a
        kind than ``points``, a row is the mean over ``averaged`` logged steps and stands at the last step they can have.
        """
        with self._lock:
            runs = self._study.runs()
            logs = {run: self._logs.get(run) or RunLog(self._study.log_path(*run)) for run in runs}
            grown = [log.read() for log in logs.values()]
            if any(grown) or list(logs) != list(self._logs):
                self._logs = logs
                self._table = self._join()
            return self._table

    def problems(self) -> list[str]:
        """Say what of the files could not be read, a sentence each."""
        with self._lock:
            found = []
            for (arm, seed), log in self._logs.items():
                if log.problem:
                    found.append(f"The log of {arm} seed {seed} cannot be read ({log.problem}).")
                elif log.unreadable:
                    lines = "1 line" if log.unreadable == 1 else f"{log.unreadable} lines"
                    found.append(f"{lines} of {arm} seed {seed} could not be read and were left out.")
            return found

    def written(self) -> datetime | None:
        """Tell when the last row was written, in this machine's time."""
        times = []
        for run in self._logs:
            try:
                times.append(self._study.log_path(*run).stat().st_mtime)
            except OSError:
                continue
        return datetime.fromtimestamp(max(times)) if times else None

    def _join(self) -> pd.DataFrame:
        widths = bin_widths([log.rows for log in self._logs.values()], self._points)
        parts = {}
        for run, log in self._logs.items():
            rows, with_widths, thinned = self._thinned.get(run, (None, None, None))
            if rows is not log.rows or with_widths != widths or thinned is None:
                thinned = thin(log.rows, widths)
                thinned.insert(0, "arm", run[0])
                thinned.insert(1, "seed", run[1])
            parts[run] = (log.rows, widths, thinned)
        self._thinned = parts
        tables = [thinned for *_, thinned in parts.values() if len(thinned)]
        if not tables:
            return _no_rows().reindex(columns=["arm", "seed", "kind", "step", "averaged"])
        return pd.concat(tables, ignore_index=True)


def parse(block: bytes) -> tuple[pd.DataFrame, int]:
    """Parse some whole lines into rows of numbers and ``kind``. Returns as well how many lines were no rows with a step.

    Nested values have dotted names. What is no finite number is missing.
    """
    kinds: list[str] = []
    columns: dict[str, list[float]] = {"step": []}
    lines = 0
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        lines += 1
        row = log_row(line)
        if row is None or "step" not in row:
            continue
        at = len(kinds)
        kind = row.pop("kind", None)
        kinds.append("" if kind is None else str(kind)[:_KIND])
        for name, value in _flat(row):
            column = columns.get(name)
            if column is None:
                if name in _OWN or len(columns) >= COLUMNS:
                    continue
                column = columns.setdefault(name, [])
            if len(column) <= at:  # of a name that stands there twice, the first
                column.extend([np.nan] * (at - len(column)))
                column.append(value)
    n = len(kinds)
    frame = pd.DataFrame(
        {
            "kind": pd.Series(kinds, dtype=str),
            **{name: np.array(values + [np.nan] * (n - len(values))) for name, values in columns.items()},
        }
    )
    return frame.astype({"step": "int64"}), lines - n


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        name = prefix + key
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif value is None:
            yield name, np.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, _finite(value)


def _finite(value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        return np.nan
    return number if math.isfinite(number) else np.nan


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame({"kind": pd.Series(dtype=str), "step": pd.Series(dtype="int64")})


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort by step; of a step that a resumed run repeated, keep the row that was written last."""
    rows = rows.drop_duplicates(["step", "kind"], keep="last")
    return rows.sort_values(["step", "kind"], ignore_index=True)


def bin_widths(runs: list[pd.DataFrame], points: int = POINTS) -> dict[str, int]:
    """Choose, per kind of row, over how many steps is averaged: 1, or the round number that leaves at most ``points``."""
    last = max((int(rows["step"].max()) for rows in runs if len(rows)), default=0)
    most: dict[str, int] = {}
    for rows in runs:
        for kind, count in rows["kind"].value_counts().items():
            most[str(kind)] = max(most.get(str(kind), 0), int(count))
    return {kind: round_up(-(-last // points)) if count > points else 1 for kind, count in most.items()}


def round_up(steps: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, …

    >>> [round_up(n) for n in (0, 1, 3, 6, 11, 201)]
    [1, 1, 5, 10, 20, 500]
    """
    decade = 1
    while True:
        for head in (1, 2, 5):
            if head * decade >= steps:
                return head * decade
        decade *= 10


def thin(rows: pd.DataFrame, widths: dict[str, int]) -> pd.DataFrame:
    """Compute the mean over each (n − 1)·width < step ≤ n·width, at n·width, with ``averaged``, the number of its rows.

    The bins do not depend on the run, so that means over seeds can be taken; step 0 has one to itself.
    """
    width = rows["kind"].map(widths).fillna(1).astype("int64") if len(rows) else 1
    rows = rows.assign(step=-(-rows["step"] // width) * width)
    keys = ["step", "kind"]
    if not rows.duplicated(keys).any():
        rows.insert(2, "averaged", 1)
        return rows
    grouped = rows.groupby(keys, sort=True)
    found = grouped.mean()
    found.insert(0, "averaged", grouped.size())
    found = found.reset_index()
    return found[["kind", "step", *(name for name in found if name not in keys)]]
