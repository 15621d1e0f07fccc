"""Tables that are computed once and kept on disk, by the content that they are made of: for the app, the report, the docs.

Mental model: a bootstrap over a study's answers takes seconds and says the same each time. :func:`stored` makes a digest of
the files, the arguments, and the code of this package that an answer depends on, and looks for it in the user's cache. Only
an answer that is not there is computed, and put there. A study that is made again, or code that changes, has another name, so
nothing is ever out of date. Of the bundled examples some answers are shipped beside them (``computed/``), so that they open
at once; these carry no code in their name, and a test compares them with what is computed.

Beside somebody else's study nothing is read: its numbers are made from its tables, here. Parquet only; nothing is executed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import cr_interp
from cr_interp.confined import is_regular, own
from cr_interp.errors import UserError
from cr_interp.files import write_atomic
from cr_interp.study.schema import MOST_FILE
from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study
from cr_interp.system.digests import digest_of, file_digest
from cr_interp.system.unpacked import frame_of

#: Set to nothing (``CR_INTERP_STORED=``), nothing is kept; set to a folder, it is kept there.
VARIABLE = "CR_INTERP_STORED"
SHIPPED = "computed"
#: So many answers are kept; the oldest go.
MOST = 2000
#: Whether answers about bundled examples are put beside them: only while ``docs/tools/computed.py`` makes them.
_shipping: list[bool] = []


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
        if _shipping:
            shipping_now = _shipping.pop()  # what it is made from in turn is read, and need not lie there as well
            try:
                found = make()
            finally:
                _shipping.append(shipping_now)
            ship(what, files, arguments, found, home)
            return found
        found = _read(home / SHIPPED / f"{what}-{content[:16]}.parquet")
        if found is not None:
            return found
    place = folder()
    if place is None:
        return make()
    file = place / f"{what}-{digest_of([content, _code()])[:32]}.parquet"
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
    """Compute, inside, every answer about a bundled example, and put it beside the example."""
    _shipping.append(True)
    try:
        yield
    finally:
        _shipping.pop()


def peek(what: str, files: Sequence[Path], arguments: Any, home: Path | None = None) -> pd.DataFrame | None:
    """Give what :func:`stored` would return at once; None if it had to be computed."""

    def nothing() -> pd.DataFrame:
        raise LookupError

    try:
        return stored(what, files, arguments, nothing, home)
    except LookupError:
        return None


def ship(what: str, files: Sequence[Path], arguments: Any, table: pd.DataFrame, home: Path) -> Path:
    """Put an answer beside a bundled example; returns its file."""
    content = _content(what, files, arguments)
    if content is None:
        raise UserError(f"{what} cannot be shipped: one of {', '.join(map(str, files))} is missing.")
    file = home / SHIPPED / f"{what}-{content[:16]}.parquet"
    write_atomic(file, lambda out: table.to_parquet(out, index=False))
    return file


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


@cache
def _code() -> str:
    """Digest everything in this package that a table of answers can depend on."""
    root = Path(cr_interp.__file__).parent
    files = [*sorted((root / "tables").glob("*.py")), *sorted((root / "study").glob("*.py"))]
    files += [root / name for name in ("statistics.py", "vocabulary.py")] + sorted((root / "tasks").glob("*.py"))
    return digest_of([(file.name, file_digest(file)) for file in files])


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
