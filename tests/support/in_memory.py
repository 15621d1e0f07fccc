"""Where tests write: in memory, if the system has a place for that and it has room, since a sync or a removal waits for a disk.

Mental model. Pytest makes its temporary folders below ``PYTEST_DEBUG_TEMPROOT``. It gets a folder of this run's own, which ends
with the run; those of runs that were killed end with the next one. Who says where (``--basetemp``, or that variable) is
obeyed, and finds what tests wrote after the run.
"""

import atexit
import os
import shutil
from pathlib import Path

import psutil

PLACE = Path("/dev/shm")
NAME = "cr-interp-tests-"
#: All tests write about 1.5 GB.
ROOM = 8 << 30
VARIABLE = "PYTEST_DEBUG_TEMPROOT"


def write_in_memory(place: Path = PLACE, room: int = ROOM) -> Path | None:
    """Let this process of pytest, and those it starts, make their folders there; gives the folder, if there is room."""
    if VARIABLE in os.environ or not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return None
    remove_of_the_dead(place)
    if min(shutil.disk_usage(place).free, psutil.virtual_memory().available) < room:
        return None
    folder = place / f"{NAME}{os.getpid()}"
    folder.mkdir(mode=0o700)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[VARIABLE] = str(folder)
    return folder


def remove_of_the_dead(place: Path) -> None:
    for folder in place.glob(f"{NAME}*"):
        number = folder.name.removeprefix(NAME)
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
