"""End a short command at once: taking the interpreter apart would take a fifth of its time.

Mental model. Python ends by clearing every module and object, which frees memory that the system frees anyway. A command that has
only looked at tables has nothing else to end: what was to be called at the end is called, what was printed is flushed, and the
process ends. One that has loaded torch, or has threads, ends in Python's own way.
"""

import atexit
import os
import sys
import threading
from typing import NoReturn


def leave(end: SystemExit) -> NoReturn:
    """End the process with the code of this exit. Raises the exit itself where Python has to end in its own way."""
    if not isinstance(end.code, int | None) or "torch" in sys.modules or threading.active_count() > 1:
        raise end
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):  # a full disk, a reader that is gone: Python says so
        raise end from None
    os._exit(end.code or 0)
