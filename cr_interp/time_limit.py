"""End Python code of somebody else's that takes too long, in whatever thread it runs.

Mental model: a timer asks the interpreter to raise an exception in the thread that waits. It arrives between two
instructions of Python, so a single call into C is not cut short.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cr_interp.errors import UserError


class _Late(BaseException):
    """No Exception, so that nothing on the way takes it for one of its own."""


@contextmanager
def limited(seconds: float, told: str) -> Iterator[None]:
    """Raise :class:`UserError` with ``told`` if the block does not end in time."""
    thread, lock = threading.get_ident(), threading.Lock()
    done = sent = arrived = False

    def send() -> None:
        nonlocal sent
        with lock:
            if not done:
                sent = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Late))

    timer = threading.Timer(seconds, send)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        except _Late:
            arrived = True
        with lock:
            done = True
        while sent and not arrived:  # it is under way, and must not arrive somewhere else
            time.sleep(0.001)
    except _Late:
        arrived = True
    finally:
        done = True
        timer.cancel()
    if arrived:
        raise UserError(told)
