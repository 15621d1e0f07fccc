"""The server behind ``warm.py``: it imports libraries and nothing of this project, waits, and forks for each command.

A fork takes the command's arguments, environment, working directory and files, draws new random numbers, and runs a module
as ``python -m`` does, so this project's code is imported anew each time. It is a process of its own in a group of its own: a
kill is a kill. When whoever asked is gone, so is the process. ``torchrun`` is played: as many forks as it would start
processes, with its variables.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import warm

LIBRARIES = (
    "pandas", "pyarrow.parquet", "rich.progress", "typer", "yaml", "pydantic", "filelock", "scipy.stats", "plotly.graph_objects",
    "torch", "torch.distributed.fsdp", "torch.distributed.elastic", "transformers.trainer", "accelerate", "peft", "datasets",
    "transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.gemma2.modeling_gemma2", "transformers.models.gpt_neox.modeling_gpt_neox",
)  # fmt: skip
#: Read while the interpreter or a library starts, too early for a fork to follow. ``PYTHONPATH`` it can follow.
EARLY = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "HF_", "TRANSFORMERS_", "TORCH_", "ACCELERATE_")
#: Names the process that a job must not outlive; see ``cr_interp.system.stopping``.
PARENT = "CR_INTERP_PARENT"
#: The commands that start processes themselves.
WITH_JOBS = {"distill", "reproduce", "suite"}


def early(env: Any) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(EARLY) and name != "PYTHONPATH"}


STARTED_WITH = early(os.environ)
PLACES = os.environ.get("PYTHONPATH", "").split(os.pathsep)
#: Where packages are installed: without the script's own folder and without what ``PYTHONPATH`` adds.
INSTALLED = [place for place in sys.path[1:] if place not in PLACES]


class Server:
    def __init__(self, line: socket.socket):
        self.line = line
        self.running: dict[int, socket.socket] = {}
        self.ended, wakes = socket.socketpair()
        for each in (self.ended, wakes):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno())
        self.files = [line, self.ended, wakes]
        self.selector = selectors.DefaultSelector()
        self.selector.register(line, selectors.EVENT_READ, self.accept)
        self.selector.register(self.ended, selectors.EVENT_READ, self.reap)
        self.selector.register(0, selectors.EVENT_READ, self.stop)

    def serve(self) -> NoReturn:
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, _: Any) -> None:
        asking, _ = self.line.accept()
        length, files, _, _ = socket.recv_fds(asking, 8, 2)
        asked = json.loads(warm.received(asking, int.from_bytes(length, "big")))
        if early(asked["env"]) != STARTED_WITH:
            number = 0
        elif not (number := os.fork()):
            become(asked, files, self)
        for file in files:
            os.close(file)
        asking.sendall(number.to_bytes(8, "big"))
        if number:
            self.running[number] = asking
            self.selector.register(asking, selectors.EVENT_READ, self.gone)

    def reap(self, _: Any) -> None:
        self.ended.recv(4096)
        while self.running:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                return
            asking = self.running.pop(number)
            self.selector.unregister(asking)
            with suppress(OSError):  # nobody waits for it any more
                asking.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
            asking.close()

    def gone(self, asking: socket.socket) -> None:
        """Whoever asked has ended without waiting."""
        for number, each in self.running.items():
            if each is asking:
                kill_all_of(number)

    def stop(self, _: Any) -> None:
        for number in self.running:
            kill_all_of(number)
        os._exit(0)


def kill_all_of(number: int) -> None:
    """A fork and what it has started; it may have ended a moment ago, or not have become a group yet."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(number, signal.SIGKILL)


def become(asked: dict[str, Any], files: list[int], server: Server) -> NoReturn:
    """In the fork: be what was asked for."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server.selector.close()
    for each in [*server.files, *server.running.values()]:
        each.close()
    for target, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, target)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    if PARENT in os.environ:
        os.environ[PARENT] = str(os.getppid())  # which ends it when whoever asked has ended
    os.chdir(asked["cwd"])
    arguments = asked["arguments"]
    if arguments[:3] == warm.TORCHRUN:
        spread(int(arguments[3]), arguments[4:])
    else:
        play(arguments, asked["jobs"])


def spread(processes: int, arguments: list[str]) -> NoReturn:
    """As ``torchrun`` does: all of them, and none any more as soon as one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = set()
    for rank in range(processes):
        number = os.fork()
        if not number:
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "GROUP_RANK": "0",
                "ROLE_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "ROLE_WORLD_SIZE": str(processes),
            }
            play(arguments)
        ranks.add(number)
    failed = False
    while ranks:
        number, status = os.wait()
        ranks.discard(number)
        if status and not failed:
            failed = True
            for each in ranks:
                os.kill(each, signal.SIGTERM)
    os._exit(int(failed))


def play(arguments: list[str], jobs: bool = False) -> NoReturn:
    """Run ``-m MODULE …`` or ``SCRIPT …`` as a new interpreter would, to its end."""
    import numpy as np

    random.seed()
    np.random.seed()
    named = arguments[0] == "-m"
    sys.argv = arguments[1:] if named else arguments[:]
    own = os.getcwd() if named else str(Path(arguments[0]).resolve().parent)
    places = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [own, *map(os.path.abspath, places), *INSTALLED]
    code: Any = 0
    try:
        if jobs and arguments[:2] == ["-m", "cr_interp"] and WITH_JOBS.intersection(arguments[2:3]):
            start_jobs_warm()
        if named:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def start_jobs_warm() -> None:
    from cr_interp.system.house import put_first

    put_first()
    jobs = importlib.import_module("training.studies.jobs")
    jobs.start = warm.Popen


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm.address, listening = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    for library in LIBRARIES:
        importlib.import_module(library)
    assert not {"cr_interp", "training"} & sys.modules.keys()
    gc.collect()
    gc.freeze()
    Server(listening).serve()
