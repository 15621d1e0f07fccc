"""Python processes that start warm: the part of :mod:`subprocess` that the tests use, with a server's forks behind it.

Mental model. Starting ``cr-interp`` costs five seconds, all of them in ``import torch`` and its like, and the tests start it a
hundred times. ``warm_server.py`` (one for each process of pytest, started by the first that asks) has imported the libraries; a
fork of it runs the command. What a fork cannot do as a new process would is started cold: ``-c``, a program that is not this
interpreter, an environment of which libraries read something else while they are imported (the server says so).
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import psutil

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node"]
#: What makes a command's own warm children is called that; see ``warm_children.py``.
NURSERY = "nursery"
_server: subprocess.Popen | None = None
_folder: tempfile.TemporaryDirectory | None = None
#: Where the server listens. Its forks know it from birth, so that the processes they start are warm too.
address: str | None = None


def listening() -> str:
    """Start the server, if it is not there; it ends with this process."""
    global _server, _folder, address
    if address is None:
        _folder = tempfile.TemporaryDirectory(prefix="warm-")
        address = str(Path(_folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as line:
            line.bind(address)
            line.listen(16)
            program = Path(__file__).with_name("warm_server.py")
            _server = subprocess.Popen(
                [sys.executable, str(program), address, str(line.fileno())],
                pass_fds=[line.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                # Without what C code has set (readline: the terminal's size), which no command is told.
                env=dict(os.environ),
            )
    return address


def received(line: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = line.recv(length - len(found))
        if not part:
            raise EOFError("the other side is gone")
        found += part
    return found


class Ended:
    """A process that is ended by its number, while it is there."""

    pid: int

    def poll(self) -> int | None:
        raise NotImplementedError

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Popen(Ended):
    """A process on its way. ``stdout`` and ``stderr`` are open files; it has no standard input.

    ``cold``: in an interpreter of its own. ``jobs``, what a command starts itself: ``beside`` it, as warm children of the
    server's; its ``own``, warm too (``warm_children.py``); or ``executed``, in interpreters of their own as it does elsewhere.
    """

    def __init__(
        self,
        args: Sequence[str],
        *,
        stdout: Any,
        stderr: Any,
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        cold: bool = False,
        jobs: Literal["beside", "own", "executed"] = "beside",
    ):
        self.args, self.returncode = list(args), None
        self._cold: subprocess.Popen | None = None
        stdout = open(os.devnull, "wb") if stdout == subprocess.DEVNULL else stdout  # noqa: SIM115
        errors = stdout if stderr == subprocess.STDOUT else stderr
        self.pid = 0 if cold else self._start_warm(stdout, errors, cwd, env, jobs)
        if not self.pid:
            self._cold = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=env
            )
            self.pid = self._cold.pid

    def _start_warm(self, stdout: Any, stderr: Any, cwd: Any, env: Mapping[str, str] | None, jobs: str) -> int:
        """Its number, or 0 if it has to be started otherwise."""
        if self.args[0] != sys.executable or self.args[1] == "-c":
            return 0
        asked = json.dumps(
            {
                "arguments": [os.fsdecode(word) for word in self.args[1:]],
                "cwd": str(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                "jobs": jobs,
            }
        ).encode()
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(listening())
        socket.send_fds(self._line, [len(asked).to_bytes(8, "big")], [stdout.fileno(), stderr.fileno()])
        self._line.sendall(asked)
        return int.from_bytes(received(self._line, 8), "big")

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._cold is not None:
            try:
                self.returncode = self._cold.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
        if self.returncode is None:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self._line, selectors.EVENT_READ)
                if not waiting.select(timeout):
                    return None
            self.returncode = int.from_bytes(received(self._line, 8), "big", signed=True)
            self._line.close()
        return self.returncode

    def children(self) -> list[psutil.Process]:
        """All that it has started, and that are still there; what makes warm ones is none of them."""
        found = []
        for each in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if each.name() != NURSERY:
                    found.append(each)
        return found


def run(
    args: Sequence[str],
    *,
    cwd: Any = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """As :func:`subprocess.run` that captures its output as text; a process that takes longer is killed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Popen(args, stdout=out, stderr=err, cwd=cwd, env=env, cold=cold)
        try:
            process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(args), process.returncode, out.read(), err.read())
