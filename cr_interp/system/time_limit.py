"""End Python code of somebody else's that takes too long, in whatever thread it runs.

Mental model: one watching thread for the process, which sleeps until the earliest deadline and then asks the interpreter to
raise an exception in the thread that is late. The exception arrives between two instructions of Python, so a single call into C
is not cut short. Entering and leaving cost two dictionary writes: a run renders tens of thousands of prompts under a limit, and
a timer of its own for each, which is a thread, cost a fifth of the run.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from cr_interp.errors import UserError


class _Late(BaseException):
    """No Exception, so that nothing on the way takes it for one of its own."""


class _Block:
    """One limited block: whose it is, when it is late, and whether the exception was sent."""

    __slots__ = ("deadline", "sent", "thread")

    def __init__(self, seconds: float):
        self.thread, self.deadline, self.sent = threading.get_ident(), time.monotonic() + seconds, False


class _Watch:
    """The thread that watches, started by the first block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earlier = threading.Condition(self._lock)
        self._blocks: dict[int, _Block] = {}
        self._numbers = count()
        self._wakes: float | None = None
        """When the thread looks next; None: there is no thread."""

    def enter(self, block: _Block) -> int:
        with self._lock:
            number = next(self._numbers)
            self._blocks[number] = block
            if self._wakes is None:
                self._wakes = block.deadline
                threading.Thread(target=self._look, name="time limits", daemon=True).start()
            elif block.deadline < self._wakes:
                self._wakes = block.deadline
                self._earlier.notify()
        return number

    def leave(self, number: int) -> None:
        """Send nothing any more."""
        with self._lock:
            self._blocks.pop(number, None)

    def _look(self) -> None:
        with self._lock:
            while self._wakes is not None:
                now = time.monotonic()
                if now < self._wakes:
                    self._earlier.wait(self._wakes - now)
                    continue
                for block in self._blocks.values():
                    if block.deadline <= now and not block.sent:
                        block.sent = True
                        late, thread = ctypes.py_object(_Late), ctypes.c_ulong(block.thread)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, late)
                # A thread that nobody needs ends, and the next block starts another.
                self._wakes = min(
                    (each.deadline for each in self._blocks.values() if not each.sent), default=None
                )


_watch = _Watch()


def _fresh() -> None:
    """Begin anew in a forked process, which has this one's memory without its threads."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_fresh)


@contextmanager
def limited(seconds: float, told: str) -> Iterator[None]:
    """Raise :class:`UserError` with ``told`` if the block does not end in time."""
    block, watch = _Block(seconds), _watch
    number, arrived = watch.enter(block), False
    try:
        try:
            yield
        except _Late:
            arrived = True
        watch.leave(number)
        while block.sent and not arrived:  # it is under way, and must not arrive somewhere else
            time.sleep(0.001)
    except _Late:
        arrived = True
    finally:
        watch.leave(number)
    if arrived:
        raise UserError(told)
