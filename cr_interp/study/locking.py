"""One writer at a time: whoever changes a study's tables or manifest reads what is there and writes the sum under its lock.

Mental model. Two processes may fill one study, each with other arms. To add rows is to read a table, to put rows beside its own
and to write it, and between the first and the last nobody else may have written. The lock is the system's, on the file
``.lock``, which is there only while somebody writes; it is let go when its process is gone, however that ended. Reading takes
none, since a table appears whole or not at all, so what cannot be written to can be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cr_interp.errors import UserError
from cr_interp.system.disk import disk_trouble
from cr_interp.system.notes import say

if TYPE_CHECKING:  # loaded by who writes: most commands only read
    from filelock import FileLock

LOCK = ".lock"
#: Seconds after which waiting is said, and after which it ends: writing takes a moment.
SAID_AFTER, PATIENCE = 3.0, 600.0


@contextmanager
def writing(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a study's lock; in one thread it may be taken again within.

    Raises :class:`UserError` where a lock cannot be made, and if another process holds it for longer than ``patience`` seconds.
    """
    lock = _lock(folder)
    try:
        _acquire(lock, folder, patience)
    except OSError as error:
        trouble = disk_trouble(error, folder) or error.strerror or error
        raise UserError(
            f"Could not write into {folder} ({trouble}). Nothing was changed; free some space, or copy the study to "
            "where you may write."
        ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # the last one out takes the file away; who waits for it then makes another
            with suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


def _lock(folder: Path) -> "FileLock":
    """Return the lock of this folder; nobody else's rights are taken from those who share it."""
    from filelock import FileLock

    with suppress(OSError):  # what keeps a folder from being made also keeps the lock from it, and is said there
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.resolve() / LOCK, is_singleton=True)


def _acquire(lock: "FileLock", folder: Path, patience: float) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=min(SAID_AFTER, patience))
        return
    except Timeout:
        say(f"Another process is writing into {folder}; this one waits for it.")
    try:
        lock.acquire(timeout=max(0.0, patience - SAID_AFTER))
    except Timeout as error:
        raise UserError(
            f"Another process has been writing into {folder} for {patience:.0f} seconds, and may have been stopped on the way. "
            f"End it (or let it go on), then run the same command again: it continues."
        ) from error
