"""How a command ends when it is told to: with its message and its exit code, and with no worker left behind.

Mental model. Ctrl-C is Python's ``KeyboardInterrupt``. A terminal that is closed (SIGHUP) and a polite kill (SIGTERM) are made
an exception as well, :class:`Stopped`, so that whoever started something gets to end it. A parent that is killed outright
cannot do that: there a worker notices by itself (:func:`end_with_parent`), by the kernel where it offers that, else by looking.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

#: Names the process that a worker must not outlive.
PARENT = "CR_INTERP_PARENT"
MESSAGE = "Stopped. The same command continues where this one was."
_PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """A signal told this process to end; no ``Exception``, so that nothing takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def raise_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise :class:`Stopped` in the main thread from now on. One that is ignored (``nohup``) stays so.

    A worker keeps the system's way, which ends it at once: everything it writes appears whole or not at all.
    """
    if PARENT in os.environ or threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, _: object) -> NoReturn:
    for name in ("SIGTERM", "SIGHUP"):  # ending what runs must not be cut short by the next one
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise Stopped(number)


# -- workers -------------------------------------------------------------------------------------------------


def worker_of_this() -> Mapping[str, str]:
    """Give what to add to the environment of a process that has to end with this one."""
    return {PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """End this worker when the process that started it has ended, however it did. Outside a worker this does nothing."""
    told = os.environ.get(PARENT, "")
    if not told.isdecimal():
        return
    parent = int(told)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before this could be said
        os._exit(128 + signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(128 + signal.SIGTERM)
