"""The server behind ``warm.py``: it imports libraries and this project, waits, and forks for each command.

A fork takes the command's arguments, environment, working directory and files, draws new random numbers, and runs a module
as ``python -m`` does. Where a new process might find other code than the server has (a folder named ``training`` in the
working directory, say), or this project would be imported with other settings, the fork forgets the project's modules and
imports them anew. It is a process of its own in a group of its own: a kill is a kill. When whoever asked is gone, so is the
process. ``torchrun`` is played: as many forks as it would start processes, with its variables.
"""

import atexit
import gc
import importlib
import importlib.util
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import warm
import warm_children

LIBRARIES = (
    "pandas", "pyarrow.parquet", "rich.progress", "typer", "yaml", "pydantic", "filelock", "scipy.stats", "plotly.graph_objects",
    "torch", "torch.distributed.fsdp", "torch.distributed.elastic", "transformers.trainer", "accelerate", "peft", "datasets",
    "transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.gemma2.modeling_gemma2", "transformers.models.gpt_neox.modeling_gpt_neox",
)  # fmt: skip
#: This project's packages, and what its commands import when they are called.
PROJECT = ("cr_interp", "training", "app")
COMMANDS = (
    "cr_interp.cli", "training.commands", "training.studies.suite", "training.studies.pipeline", "training.run.distill",
    "training.run.gradients", "cr_interp.commands.measuring", "cr_interp.mechanism.explain", "cr_interp.report.mechanism",
)  # fmt: skip
#: Read while the interpreter or a library starts, too early for a fork to follow. ``PYTHONPATH`` it can follow.
EARLY = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "HF_", "TRANSFORMERS_", "TORCH_", "ACCELERATE_")
#: Read while this project is imported: ``rich`` looks at them when it makes a console.
EARLY_OF_OURS = ("COLUMNS", "LINES", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TTY_", "JUPYTER_")
#: Names the process that a job must not outlive; see ``cr_interp.system.stopping``.
PARENT = "CR_INTERP_PARENT"
#: The commands that start processes themselves.
WITH_JOBS = {"distill", "reproduce", "suite"}


def early(env: Any, names: tuple[str, ...] = EARLY) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(names) and name != "PYTHONPATH"}


STARTED_WITH = early(os.environ)
OURS_STARTED_WITH = early(os.environ, EARLY_OF_OURS)
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


def root() -> str:
    """The folder that this project was imported from."""
    return str(Path(sys.modules["cr_interp"].__file__ or "").resolve().parent.parent)


def is_ours(places: list[str]) -> bool:
    """Would a new process import what this one has? ``places`` come before those where packages are installed."""
    found = [
        os.path.realpath(place)
        for place in places
        if any((Path(place) / ending).exists() for name in PROJECT for ending in (name, f"{name}.py"))
    ]
    return set(found or [INSTALLED_ROOT]) == {root()} and early(os.environ, EARLY_OF_OURS) == OURS_STARTED_WITH


def forget_the_project() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in PROJECT:
            del sys.modules[name]


def play(arguments: list[str], jobs: str = "") -> NoReturn:
    """Run ``-m MODULE …`` or ``SCRIPT …`` as a new interpreter would, to its end; ``jobs``: see :class:`warm.Popen`."""
    import numpy as np

    if jobs == "own" and sys.platform != "linux":
        jobs = "executed"  # which is slower
    with_jobs = arguments[:2] == ["-m", "cr_interp"] and WITH_JOBS.intersection(arguments[2:3])
    if with_jobs and jobs == "own":
        warm_children.open_nursery(play)
    random.seed()
    np.random.seed()
    named = arguments[0] == "-m"
    sys.argv = arguments[1:] if named else arguments[:]
    own = os.getcwd() if named else str(Path(arguments[0]).resolve().parent)
    places = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    first = [own, *map(os.path.abspath, places)]
    sys.path[:] = [*first, *INSTALLED]
    if not is_ours(first):
        forget_the_project()
    code: Any = 0
    try:
        if with_jobs and jobs in ("beside", "own"):
            start_jobs_warm(jobs)
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


def start_jobs_warm(jobs: str) -> None:
    from cr_interp.system.house import put_first

    put_first()
    importlib.import_module("training.studies.jobs").start = warm.Popen if jobs == "beside" else start_child


def start_child(args: list[str], stdout: Any, stderr: Any, env: dict[str, str]) -> Any:
    warm_there = args[0] == sys.executable and args[1] != "-c" and early(env) == STARTED_WITH
    return (warm_children.Child if warm_there else subprocess.Popen)(args, stdout=stdout, stderr=stderr, env=env)


def installed_root() -> str:
    """Where this project is found if no place before the packages' has it."""
    before = sys.path[:]
    sys.path[:] = INSTALLED
    try:
        found = importlib.util.find_spec("cr_interp")
    finally:
        sys.path[:] = before
    return str(Path(found.origin).resolve().parent.parent) if found and found.origin else ""


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm.address, listening = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    for library in LIBRARIES:
        importlib.import_module(library)
    INSTALLED_ROOT = installed_root()
    importlib.import_module("cr_interp.system.house").put_first()
    for command in COMMANDS:
        importlib.import_module(command)
    # Made at the first load of any model, out of some thousand patterns.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")
    gc.collect()
    gc.freeze()
    Server(listening).serve()
