"""Names and files that came from elsewhere: one place decides which file a name may stand for, and how much of it is read.

Mental model. A study, a task's description and a checkpoint are folders that people pass around, and what they say is not
trusted: a name in them means a file *in that folder*. It is no path out, no link that leads out, no pipe or device (which
would keep a reader waiting for ever), and no larger than its kind can be. What a person types is theirs and may be anywhere.

    inside     a name from a file → the regular file of that folder, or a sentence
    own        is this path of a folder one of its regular files?
    content    the bytes of a regular file, bounded
"""

import os
import stat
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.system.visible import visible

#: Bytes. A text with rows may be a data set; a configuration or a manifest never is.
LARGEST, LARGEST_JSON, LARGEST_YAML = 1 << 30, 128 << 20, 512 << 10


def inside(folder: Path, name: str, what: str) -> Path:
    """Find the regular file that ``name``, read from a file of ``folder``, stands for. ``what`` begins the error.

    Raises :class:`UserError` for an absolute path, one that leads out (also by a link), and what is no regular file.
    """
    told = visible(repr(name))[:160]
    if "\x00" in name or os.path.isabs(name) or os.path.splitdrive(name)[0]:
        raise UserError(
            f"{what} names the file {told}. A name that comes from a file is relative to that file's folder and stays in it; "
            f"copy the file into {folder} and name it there."
        )
    path = folder / name
    if not leads_inside(folder, path):
        raise UserError(
            f"{what} names the file {told}, which is outside {folder}. Copy it into that folder and name it there."
        )
    if not is_regular(path):
        raise UserError(f"{what} names the file {told}. There is no file of this name in {folder}.")
    return path


def leads_inside(folder: Path, path: Path) -> bool:
    """Tell whether a path lies in a folder, the links of both followed. False for a path that cannot be followed."""
    try:
        return _is_plain(str(folder), str(path)) or path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop, a name too long, a zero byte
        return False


def _is_plain(folder: str, path: str) -> bool:
    """Tell whether a path goes from the folder down without a link, so that nothing has to be followed: a suite has hundreds."""
    at, down = folder, path.removeprefix(folder + os.sep)
    if down == path or os.pardir in down or "\x00" in down:
        return False
    for part in down.split(os.sep):
        at = f"{at}{os.sep}{part}"
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                return False
        except FileNotFoundError:
            return True
        except OSError:  # a name too long, a file where a folder is asked for
            return False
    return True


def is_regular(path: Path) -> bool:
    """Tell whether there is a regular file, links followed. False for a path that cannot be asked about."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def own(folder: Path, path: Path) -> bool:
    """Tell whether a path is a regular file of this folder, to which no link out leads."""
    return is_regular(path) and leads_inside(folder, path)


def content(path: Path, wanted: str, limit: int = LARGEST) -> bytes:
    """Read the bytes of a regular file of at most ``limit``. Raises :class:`UserError` for anything else, without waiting for
    it.
    """
    try:
        # A pipe without a writer would block on opening.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise UserError(f"{path} is no regular file but a pipe or a device. Give {wanted}.")
            # As much memory as is asked for is taken at once: the file's size, and one byte to see that it did not grow.
            data = file.read(found.st_size + 1) if found.st_size <= limit else b""
            if found.st_size > limit or len(data) > limit:
                raise UserError(
                    f"{path} has {found.st_size / 1e6:.1f} MB; {limit / 1e6:.1f} MB are the most that is read. Give {wanted}."
                )
            return data
    except (OSError, ValueError) as error:  # a zero byte in a name is a ValueError
        raise UserError(
            f"Could not read {path} ({getattr(error, 'strerror', None) or error}). Give {wanted}."
        ) from error
