"""Kill a run again and again at random moments, and continue it each time: what is left has to be as if nothing had happened.

A moment is a step, drawn at random, and a random part of a second after it was logged: so it is in the middle of a rollout, of
an update or of a checkpoint being written, on fast machines and on slow ones. ``CR_INTERP_KILLS=10`` (``make kills``) asks for
more kills.
"""

import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import warm

KILLS = int(os.environ.get("CR_INTERP_KILLS", "3"))


def kill(process: warm.Popen) -> None:
    """With its children, and without a warning."""
    for each in [process, *process.children()]:
        each.kill()
    process.wait()


def ran_until(
    command: list[str], log: Path, stop: Callable[[], bool] = lambda: False, cold: bool = False
) -> bool:
    """Whether it ended by itself, rather than being killed as soon as ``stop`` was true; it has to end well."""
    with log.open("w") as output:
        process = warm.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent, cold=cold)
        ends = time.monotonic() + 300
        while process.poll() is None:
            if stop():
                kill(process)
                return False
            if time.monotonic() > ends:
                kill(process)
                raise AssertionError("no end after 300 seconds: " + log.read_text())
            time.sleep(0.02)
        code = process.returncode
    assert code == 0, log.read_text()
    return True


def killed_on_its_way(command: list[str], out: Path, run: str, steps: int) -> int:
    """Start, kill and continue a run until it has ended; returns how often it was killed."""
    rng = random.Random(0)
    kills = 0
    for step in sorted(rng.choices(range(1, steps), k=KILLS)):
        moment = _Moment(out / "runs" / run / "train.jsonl", step, rng.uniform(0, 0.3))
        kills += not ran_until(command, out.parent / "log", moment.has_come)
    ran_until(command, out.parent / "log")
    return kills


class _Moment:
    """``delay`` seconds after a start has written of ``step``, or of a later one."""

    def __init__(self, train: Path, step: int, delay: float):
        self.train, self.step, self.delay = train, step, delay
        self.before = train.stat().st_size if train.is_file() else 0
        self.seen: float | None = None

    def has_come(self) -> bool:
        if self.seen is None:
            if not self.train.is_file():
                return False
            written = self.train.read_bytes()[self.before :].decode()
            steps = re.findall(r'"kind": "train", "step": (\d+),', written)
            if max(map(int, steps), default=0) < self.step:
                return False
            self.seen = time.monotonic()
        return time.monotonic() >= self.seen + self.delay
