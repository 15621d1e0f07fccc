"""Real children of a warm command, started as fast as it: what a command's jobs are where a test asks whose children they are.

Mental model. A command cannot fork itself for a job: it has imported this project and begun. So before it begins, it forks
a *nursery*, which waits. Asked for a job, the nursery forks one whose own parent ends at once: the system gives the orphan to
the command, who has said that it takes them (Linux: a subreaper). It is in the command's group and ends with it if it asks for
that, as a job that the command had started itself. The nursery ends when the command does, however that is.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import warm

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_line: socket.socket | None = None


def _say(option: int, value: Any) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def open_nursery(play: Callable[[list[str]], NoReturn]) -> None:
    """In a command that has not begun: from now on :class:`Child` gives it children. ``play`` runs what they are asked for."""
    global _line
    command = os.getpid()
    _say(_PR_SET_CHILD_SUBREAPER, 1)
    _line, there = socket.socketpair(socket.AF_UNIX)
    if os.fork():
        there.close()
        return  # and it is not waited for: it is killed with this process
    _say(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _say(_PR_SET_NAME, warm.NURSERY.encode())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the command, and its group hears it
        signal.signal(number, signal.SIG_IGN)
    _line.close()
    if os.getppid() == command:
        _raise_children(there, play)
    os._exit(0)


def _raise_children(line: socket.socket, play: Callable[[list[str]], NoReturn]) -> None:
    while True:
        length, files, _, _ = socket.recv_fds(line, 8, 2)
        if not length:
            return
        asked = json.loads(warm.received(line, int.from_bytes(length, "big")))
        told, tells = os.pipe()
        if not (between := os.fork()):
            between = os.getpid()
            if number := os.fork():
                os.write(tells, number.to_bytes(8, "big"))
                os._exit(0)
            for each in (told, tells):
                os.close(each)
            line.close()
            while os.getppid() == between:
                time.sleep(0.001)
            _become(asked, files, play)
        os.waitpid(between, 0)  # from then on it is the command's child, which may ask for its end at once
        line.sendall(os.read(told, 8))
        for each in (told, tells, *files):
            os.close(each)


def _become(asked: dict[str, Any], files: list[int], play: Callable[[list[str]], NoReturn]) -> NoReturn:
    _say(_PR_SET_NAME, b"python")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for target, file in enumerate(files, 1):
        os.dup2(file, target)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    play(asked["arguments"])


class Child(warm.Ended):
    """What :class:`subprocess.Popen` is to a command that waits for its job, ends it or kills it."""

    def __init__(self, args: Sequence[str], stdout: Any, stderr: Any, env: Mapping[str, str]):
        assert _line is not None
        self.args, self.returncode = list(args), None
        errors = stdout if stderr == subprocess.STDOUT else stderr
        asked = json.dumps({"arguments": self.args[1:], "env": dict(env)}).encode()
        socket.send_fds(_line, [len(asked).to_bytes(8, "big")], [stdout.fileno(), errors.fileno()])
        _line.sendall(asked)
        self.pid = int.from_bytes(warm.received(_line, 8), "big")

    def poll(self) -> int | None:
        if self.returncode is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        ends = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if ends is not None and time.monotonic() > ends:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.005)
        return code
