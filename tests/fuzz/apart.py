"""Do something in a fork with limits of time and memory, and say how that ended.

Mental model. This process has imported everything; a fork of it does one case, in a working directory of its own, and writes to
two files. Whatever happens there, a segmentation fault or a loop without end, happens there only and is counted here.

    accepted   exit code 0, or 1 where that is an answer (`plan` found a problem, `check` one that failed)
    clean      exit code 2 and one paragraph that begins with `error:`
    traceback  anything else that Python ended by itself, and an error of more than one paragraph
    hang       more time than is given
    crash      a signal that nobody here sent: a segmentation fault, an abort, memory that is exhausted
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

#: Seconds of computing, seconds altogether, and bytes beyond what this process has.
COMPUTING, ALTOGETHER, MEMORY = 60, 300, 4 << 30
ANSWERED = 1
PARAGRAPH = 4000


@dataclass(frozen=True)
class Ended:
    kind: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        return self.err.strip()[-3000:]


def apart(act: Callable[[], None], folder: Path, logs: Path) -> Ended:
    """Run ``act`` in a fork whose working directory is ``folder``; it prints into ``logs``."""
    out, err = logs / "out", logs / "err"
    started = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if not number:
        _become(act, folder, out, err)
    status = _waited(number, started + ALTOGETHER)
    seconds = time.monotonic() - started
    said = [file.read_bytes().decode("utf-8", errors="replace") for file in (out, err)]
    if status is None:
        return Ended("hang", 0, *said, seconds)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Ended("hang" if -code == signal.SIGXCPU else "crash", code, *said, seconds)
    return Ended(kind_of(code, said[1]), code, *said, seconds)


def kind_of(code: int, err: str) -> str:
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if "Traceback (most recent call last)" in err:
        return "traceback"
    if code == 0 or (code == ANSWERED and not errors):
        return "accepted"
    if code != 2:
        return "traceback"
    usage = err.lstrip().startswith("Usage: ")
    whole = len(errors) == 1 and len(errors[0]) <= PARAGRAPH and err.rstrip().endswith(errors[0].rstrip())
    return "clean" if whole or usage else "traceback"


def _waited(number: int, ends: float) -> int | None:
    pause = 0.002
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > ends:
            os.killpg(number, signal.SIGKILL)
            os.waitpid(number, 0)
            return None
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)


def _become(act: Callable[[], None], folder: Path, out: Path, err: Path) -> NoReturn:
    code = 99
    try:
        os.setsid()
        for target, file in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), target)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (COMPUTING, COMPUTING + 5))
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))
        os.chdir(folder)
        act()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
