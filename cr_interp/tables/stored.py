"""Tables that are computed once and kept on disk, by the content that they are made of: for the app, the report, the docs.

Mental model: a bootstrap over a study's answers takes seconds and says the same each time. :func:`stored` makes a digest of
the files, the arguments, and the code of this package that an answer depends on, and looks for it in the user's cache. Only
an answer that is not there is computed, and put there. A study that is made again, or code that changes, has another name, so
nothing is ever out of date. Of the bundled examples some answers are shipped beside them (``computed/``), so that they open
at once. Which code made them stands in one file for all (``computed.json``, by the function's name); where the code is another
one by now, they are passed over and computed as for any study. What code that is, is told in ``code_of.py``.

Beside somebody else's study nothing is read: its numbers are made from its tables, here. Parquet only; nothing is executed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.confined import is_regular, own
from cr_interp.errors import UserError
from cr_interp.files import write_atomic, write_json
from cr_interp.study.schema import MOST_FILE
from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study
from cr_interp.system.digests import digest_of, file_digest
from cr_interp.system.text_files import read_json
from cr_interp.system.unpacked import frame_of
from cr_interp.tables.code_of import code_of

#: Set to nothing (``CR_INTERP_STORED=``), nothing is kept; set to a folder, it is kept there.
VARIABLE = "CR_INTERP_STORED"
SHIPPED = "computed"
#: In the folder of all examples: function → the code that made its answers.
MADE_BY = "computed.json"
#: So many answers are kept; the oldest go.
MOST = 2000
#: The answers about bundled examples that were put beside them so far: only while ``docs/tools/computed.py`` makes them.
_shipping: list[set[Path]] = []


def folder() -> Path | None:
    """Tell where answers are kept; None: nowhere."""
    own = os.environ.get(VARIABLE)
    if own is not None:
        return Path(own) if own else None
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cr_interp" / "tables"


def stored(
    what: str, files: Sequence[Path], arguments: Any, make: Callable[[], pd.DataFrame], home: Path | None = None
) -> pd.DataFrame:
    """Return the table that ``make`` returns, made once for these files, arguments and this code.

    ``what`` names the function; ``arguments`` can be written as JSON; ``home`` is the study's folder, beside which a bundled
    example has some answers. What cannot be kept (a full disk, a folder that may not be written) is computed each time.
    """
    content = _content(what, files, arguments, home)
    if content is None:  # a file that is missing, or not to be read: the function says so itself
        return make()
    if home is not None and home.resolve().is_relative_to(BUNDLED.resolve()):
        file = home / SHIPPED / f"{what}-{content[:16]}.parquet"
        found = _read(file) if shipped_by().get(what) == code_of(what) else None
        if _shipping:
            _shipping[-1].add(file.resolve())
            return _ship(file, make) if found is None else found
        if found is not None:
            return found
    place = folder()
    if place is None:
        return make()
    file = place / f"{what}-{digest_of([content, code_of(what)])[:32]}.parquet"
    found = _read(file)
    if found is None:
        found = make()
        _write(file, found)
    return found


def of_study(
    what: str, study: Study, tables: Sequence[str], arguments: Sequence[Any], make: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """Return :func:`stored` for what is made from some of a study's tables, as far as it has them, and from the task it names."""
    files = [study.table_path(name) for name in tables if study.has_table(name)]
    return stored(what, files, [*arguments, str(study.manifest.get("task"))], make, study.path)


@contextmanager
def shipping() -> Iterator[None]:
    """Put beside the bundled examples every answer about them that is asked for inside.

    What lies there and was made by today's code is kept. At the end the answers that nobody asked for are removed, and
    :data:`MADE_BY` is written.
    """
    _shipping.append(set())
    try:
        yield
        asked = _shipping[-1]
    finally:
        _shipping.pop()
    for file in BUNDLED.rglob(f"{SHIPPED}/*.parquet"):
        if file.resolve() not in asked:
            file.unlink()
    write_json(BUNDLED / MADE_BY, {what: code_of(what) for what in sorted({name_of(file) for file in asked})})


def shipped_by() -> dict[str, str]:
    """Return function → digest of the code that made its shipped answers; empty where none is known."""
    try:
        return dict(read_json(BUNDLED / MADE_BY))
    except (UserError, OSError, ValueError, TypeError):
        return {}


def name_of(file: Path) -> str:
    """Name the function that made an answer, from the answer's file."""
    return file.stem.rpartition("-")[0]


def peek(what: str, files: Sequence[Path], arguments: Any, home: Path | None = None) -> pd.DataFrame | None:
    """Give what :func:`stored` would return at once; None if it had to be computed."""

    def nothing() -> pd.DataFrame:
        raise LookupError

    try:
        return stored(what, files, arguments, nothing, home)
    except LookupError:
        return None


def _ship(file: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Put an answer beside a bundled example. What it is made from in turn is read, and need not lie there as well."""
    asked = _shipping.pop()
    try:
        table = make()
    finally:
        _shipping.append(asked)
    write_atomic(file, lambda out: table.to_parquet(out, index=False))
    return table


def _content(what: str, files: Sequence[Path], arguments: Any, home: Path | None = None) -> str | None:
    """Name what is asked by what it is made from; None if one of the files is missing, a pipe, or a link out of ``home``."""
    if not all(is_regular(file) and (home is None or own(home, file)) for file in files):
        return None
    try:
        if any(file.stat().st_size > MOST_FILE for file in files):
            return None  # whoever reads it says so; a digest of it would take hours
        return digest_of([what, arguments, [(file.name, file_digest(file)) for file in files]])
    except OSError:
        return None


def _read(file: Path) -> pd.DataFrame | None:
    """Read the table, or None if there is none or it cannot be read; then it is made again."""
    try:
        return frame_of(file)
    except FileNotFoundError:
        return None
    except Exception:  # half of a file, another program's: whatever it is, it is no answer
        return None


def _write(file: Path, table: pd.DataFrame) -> None:
    try:
        _sweep(file.parent)
        write_atomic(file, lambda out: table.to_parquet(out, index=False))
    except (UserError, OSError, ValueError, TypeError):
        return  # what cannot be kept was computed nevertheless


def _sweep(place: Path) -> None:
    """Remove the oldest answers where there are too many."""
    if not place.is_dir():
        return
    files = list(place.glob("*.parquet"))
    if len(files) <= MOST:
        return
    for old in sorted(files, key=lambda each: each.stat().st_mtime)[: len(files) - MOST // 2]:
        old.unlink(missing_ok=True)
