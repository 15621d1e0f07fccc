"""Run several distillations at once, each in a process of its own, with one display of their progress.

Small models gain more from two runs side by side than from two threads in one run. A run is
``cr-interp distill … --arms A --seeds S``, so that anything seen here can be repeated by hand; its progress is read
from its ``train.jsonl``, and killing everything loses at most the steps since the last checkpoint.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cr_interp.errors import UserError
from cr_interp.study import Study, write_atomic
from training.config import StudyConfig
from training.distill import is_finished

#: glibc hands large blocks back to the kernel after every tensor; faulting them in again can cost more than the
#: arithmetic. Keeping them changes no number.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def worker_environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), **KEEP_MEMORY}


def run_all(config: StudyConfig, study: Study, workers: int | None = None) -> None:
    """Every arm × seed of ``config``, at most ``workers`` at a time; those already finished are skipped.

    Raises :class:`UserError` with the run's own message if one fails; the others are stopped and can be resumed.
    """
    waiting = [
        (arm, seed) for seed in config.seeds for arm in config.arms if not is_finished(study, arm, seed, config)
    ]
    if not waiting:
        return
    workers = workers or max(1, (os.cpu_count() or 1) // config.threads)
    config_file = study.path / "config.json"
    write_atomic(config_file, lambda file: file.write(config.model_dump_json(indent=2).encode()))
    running: dict[tuple[str, int], tuple[subprocess.Popen[bytes], TaskID]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}")) as progress:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    arm, seed = waiting.pop(0)
                    bar = progress.add_task(
                        f"{config.name} {arm} seed {seed}", total=config.training.steps, note=""
                    )
                    running[arm, seed] = (_start(config_file, study, arm, seed, config.threads), bar)
                time.sleep(0.5)
                for (arm, seed), (process, bar) in list(running.items()):
                    progress.update(bar, **_progress(study, arm, seed))
                    if process.poll() is None:
                        continue
                    del running[arm, seed]
                    if process.returncode != 0:
                        raise UserError(_last_words(study.run_path(arm, seed) / "worker.log", arm, seed))
                    progress.update(bar, completed=config.training.steps)
        finally:
            for process, _ in running.values():
                process.terminate()


def _start(config_file: Path, study: Study, arm: str, seed: int, threads: int) -> subprocess.Popen[bytes]:
    run_path = study.run_path(arm, seed)
    run_path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cr_interp", "distill", str(config_file)]
    command += ["--arms", arm, "--seeds", str(seed), "--out", str(study.path), "--in-process", "--resume"]
    with open(run_path / "worker.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=worker_environment(threads))


def _progress(study: Study, arm: str, seed: int) -> dict[str, Any]:
    rows = study.train_rows(arm, seed)
    steps = [row["step"] for row in rows if row.get("kind") == "train"]
    evals = [row for row in rows if row.get("kind") == "eval"]
    found: dict[str, Any] = {"completed": max(steps, default=0)}
    if evals and evals[-1].get("acc_x") is not None:
        last = evals[-1]
        harm = "–" if last.get("harm") is None else f"{last['harm']:.0%}"
        return {**found, "note": f"Acc_x {last['acc_x']:.2f}  Acc_xc {last['acc_xc']:.2f}  Harm {harm}"}
    return found


def _last_words(log: Path, arm: str, seed: int) -> str:
    """The end of a failed run's output; a one-paragraph error of ours is already the whole story."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    marked = [line for line in lines if line.startswith("error: ")]
    told = marked[-1].removeprefix("error: ") if marked else "Its output ends: " + " | ".join(lines[-3:])
    return f"The run {arm} with seed {seed} stopped. {told} (whole output: {log})"
