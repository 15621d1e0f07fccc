"""Is it the disk? Full, read-only, out of quota: recognised by the system's number of the error, or by trying.

Mental model. An ``OSError`` says by its ``errno`` what is the matter. Libraries that write in other languages (safetensors,
torch, arrow) raise errors of their own whose wording changes, so there the folder is asked instead: :func:`disk_trouble`
writes a little into it, and compares what is free with what was to be written. No wording is read anywhere.
"""

import errno
import math
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

#: What the disk, its quota or its permissions have against writing, in words.
REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk reports an error",
    errno.EFBIG: "the file is larger than is allowed there",
    errno.ENOTDIR: "a part of the path is a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ESTALE: "the network file system lost the folder",
}
#: So much is tried to be written; a disk that is full has no room for it.
_TRIAL = 1 << 20
_TEMPORARY = ".writing-"


def disk_trouble(error: BaseException, folder: Path, needed: int = _TRIAL) -> str | None:
    """Say why writing into ``folder`` failed, if it was the disk; None if it was something else.

    ``needed`` is roughly how many bytes were to be written. To be called before anything is cleaned up: what is half-written
    still takes the room that was lacking.
    """
    for each in chain(error):
        if isinstance(each, OSError) and each.errno in REASONS:
            return _words(each.errno)
    if isinstance(error, OSError) and error.errno is not None:
        return None  # the system said that it was something else
    return probe(folder, needed)


def _words(number: int) -> str | None:
    return f"{REASONS[number]}: {os.strerror(number)}" if number in REASONS else None


def refusal(error: OSError) -> str | None:
    """Explain in one paragraph what the system refused, wherever that happened; None for what only a mistake of ours can
    cause.
    """
    words = _words(error.errno or 0)
    if words is None:
        return None
    what = f" ({error.filename})" if error.filename else ""
    return (
        f"The system refused to read or write{what}: {words}. Free some space, or give a place where you may write; the same "
        f"command then continues."
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def probe(folder: Path, needed: int = _TRIAL) -> str | None:
    """Say what keeps one from writing ``needed`` bytes into a folder; None if nothing does."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    trial = folder / temporary_name()
    try:
        with open(trial, "xb") as file:
            file.write(os.urandom(_TRIAL))  # not zeros, which some file systems do not store
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return _words(error.errno or 0) or error.strerror or str(error)
    finally:
        remove(trial)
    if free < needed:
        return f"the disk is full: {free / 1e6:.0f} MB are free and about {needed / 1e6:.0f} MB are needed"
    return None


def remove(file: Path) -> None:
    """Take a file away, if that can be done: clean-up must not hide why it is needed."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


# -- temporary files -----------------------------------------------------------------------------------------


def temporary_name() -> str:
    """Name a file that is being written. The name says by which process and where, so that others can tell a left-over from
    it.
    """
    return f"{_TEMPORARY}{_here()}-{os.getpid()}-{uuid4().hex[:12]}"


def _here() -> str:
    return socket.gethostname().partition(".")[0][:63].replace("-", "_") or "here"


def _runs(process: int, written: float) -> bool:
    """Tell whether the process of this number that wrote something at ``written`` (seconds since 1970) still runs here.

    Numbers are given again, in minutes where many processes are started: one that began after the writing is another.
    """
    if os.name == "nt":
        return True  # there is no asking without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    began = _began(process)
    return began is None or began <= written + 1


def _began(process: int) -> float | None:
    """Tell when a process began, in seconds since 1970; None where the system does not tell. Exact to a hundredth."""
    try:
        told = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        ran = time.clock_gettime(time.CLOCK_BOOTTIME) - int(told[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return time.time() - ran


def sweep(folder: Path) -> None:
    """Remove temporary files directly in a folder whose process is gone: a kill in the middle of writing left them."""
    for file in folder.glob(f"{_TEMPORARY}*"):
        where, _, rest = file.name.removeprefix(_TEMPORARY).partition("-")
        process = rest.partition("-")[0]
        if where == _here() and process.isdecimal() and not _runs(int(process), _written(file)):
            remove(file)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # it has just been put in its place
        return math.inf
