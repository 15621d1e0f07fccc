"""Run commands side by side, each in a process of its own, with one display of their progress.

Mental model: a :class:`Job` is a command that can be repeated by hand, what has to be finished before it, and a way to
read from disk how far it is. Nothing is kept in memory that a kill would lose: type the same command again, and jobs
that are done are not made again by whoever lists them. Where there are GPUs a job sees one of them; workers beyond their number
share.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TimeRemainingColumn

from cr_interp.errors import UserError
from cr_interp.models.devices import visible_gpus
from cr_interp.progress import Words, bars
from cr_interp.system.stopping import worker_of_this

#: glibc hands large blocks back to the kernel after every tensor; faulting them in again can cost more than the
#: arithmetic. Keeping them changes no number.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


#: How a job's process begins. Whoever puts something else here (a scheduler, a pool) takes and returns what ``Popen`` does.
start: Callable[..., Any] = subprocess.Popen


@dataclass(frozen=True, eq=False)
class Job:
    """``total`` and ``progress`` (its ``completed`` and ``note``) are for the display only."""

    name: str
    command: Sequence[str]
    log: Path
    total: int = 1
    progress: Callable[[], dict[str, Any]] = dict
    after: tuple["Job", ...] = ()
    threads: int = 1


def worker_environment(threads: int, gpu: str | None = None) -> dict[str, str]:
    seen = {"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}
    return {**os.environ, "OMP_NUM_THREADS": str(threads), **KEEP_MEMORY, **seen, **worker_of_this()}


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """Run all jobs, at most ``workers`` at a time, in order but for those that wait for another.

    Raises :class:`UserError` with the job's own message if one fails; those still running are stopped, and whoever listed the
    jobs can list what is left.
    """
    waiting, finished = list(jobs), set[Job]()
    running: dict[Job, tuple[subprocess.Popen[bytes], TaskID, int, int]] = {}
    gpus, places = visible_gpus(), list(range(workers))
    columns = (Words(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bars(*columns, Words("{task.fields[note]}")) as progress:
        whole = progress.add_task("all", total=len(jobs), note="", visible=len(jobs) > 1)
        try:
            while waiting or running:
                ready = [job for job in waiting if finished.issuperset(job.after)]
                for job in ready[: workers - len(running)]:
                    waiting.remove(job)
                    place = places.pop(0)
                    begins = job.log.stat().st_size if job.log.is_file() else 0
                    process = _start(job, gpus[place % len(gpus)] if gpus else None)
                    running[job] = process, progress.add_task(job.name, total=job.total, note=""), place, begins
                _pause([process for process, *_ in running.values()])
                for job, (process, bar, place, begins) in list(running.items()):
                    progress.update(bar, **job.progress())
                    if process.poll() is None:
                        continue
                    del running[job]
                    places.append(place)
                    if process.returncode != 0:
                        raise UserError(_last_words(job, process.returncode, begins))
                    finished.add(job)
                    progress.update(bar, completed=job.total, visible=len(jobs) <= 2 * workers)
                    progress.advance(whole)
        finally:
            end([process for process, *_ in running.values()])


def _pause(processes: Sequence[subprocess.Popen[bytes]], seconds: float = 0.2) -> None:
    """Wait so long, or until one of the processes has ended: the next job begins at once then."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and all(process.poll() is None for process in processes):
        time.sleep(0.02)


def end(processes: Sequence[subprocess.Popen[bytes]], patience: float = 5.0) -> None:
    """End processes, politely first; none is left when this returns, even if it is interrupted again."""
    try:
        for process in processes:
            process.terminate()
        ends = time.monotonic() + patience
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, ends - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start(job: Job, gpu: str | None) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        return start(
            list(job.command), stdout=log, stderr=subprocess.STDOUT, env=worker_environment(job.threads, gpu)
        )


def _last_words(job: Job, code: int, begins: int) -> str:
    """Return the end of a failed job's output; a one-paragraph error of ours is already the whole story.

    The log goes on over all starts of a job, so what it said before it was started this time (``begins``, in bytes) is left
    out.
    """
    written = job.log.read_bytes()[begins:] if job.log.is_file() else b""
    lines = re.split(r"[\r\n]+", written.decode("utf-8", errors="replace").strip())
    marked = [line for line in lines if line.startswith("error: ")]
    if marked:
        told = marked[-1].removeprefix("error: ")
    elif any(lines):
        told = f"Its output ends ({_ended(code)}): " + " | ".join(lines[-3:])
    else:
        told = f"It said nothing ({_ended(code)})."
    return f"{job.name} stopped. {told} (whole output: {job.log})"


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
