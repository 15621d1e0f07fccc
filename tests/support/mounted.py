"""Small disks and read-only ones, for real: file systems in memory that are mounted for one test.

Whoever may not mount skips what needs it.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """An empty disk of so many kilobytes at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    if not _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)):
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def grow(place: Path, kilobytes: int) -> None:
    assert _mount("-o", f"remount,size={kilobytes}k", str(place))


@contextmanager
def read_only(folder: Path, place: Path) -> Iterator[Path]:
    """A folder's content at ``place``, where nothing can be written."""
    place.mkdir(parents=True)
    if not _mount("--bind", str(folder), str(place)):
        pytest.skip("mounting is not allowed here")
    try:
        assert _mount("-o", "remount,ro,bind", str(place))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
