"""The runs of a study as jobs: one process per arm and seed.

Small models gain more from two runs side by side than from two threads in one run. A run is
``cr-interp distill … --arms A --seeds S``, so that anything seen here can be repeated by hand; its progress is read
from its ``train.jsonl``, and killing everything loses at most the steps since the last checkpoint.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cr_interp.files import write_atomic
from cr_interp.models.devices import visible_gpus
from cr_interp.progress import tracked
from cr_interp.study.study import Study
from cr_interp.system.notes import say
from training.run.checkpoints import passed_over
from training.run.distill import distill, is_finished
from training.settings import StudyConfig
from training.studies.jobs import Job, run_jobs


def run_all(config: StudyConfig, study: Study, workers: int | None = None) -> None:
    """Run every arm × seed of ``config``, at most ``workers`` at a time; those already finished are skipped. With a vLLM
    server it is one at a time, whose weights the server has.

    Raises :class:`~cr_interp.errors.UserError` with the run's own message if one fails; the others are stopped and can be
    resumed.
    """
    jobs = run_list(config, study)
    if jobs:
        run_jobs(jobs, 1 if config.training.vllm else workers or default_workers(config.threads))


def default_workers(threads: int) -> int:
    """Choose as many workers as there are GPUs; without one, as many as the cores allow with so many threads each."""
    return len(visible_gpus()) or max(1, (os.cpu_count() or 1) // threads)


def run_list(config: StudyConfig, study: Study) -> list[Job]:
    """List the runs that are not finished, a job each."""
    config_file = _written(config, study)
    return [
        Job(
            f"{config.name} {arm} seed {seed}",
            _command(config_file, study, [arm], [seed]),
            study.run_path(arm, seed) / "worker.log",
            config.training.steps,
            partial(_progress, study, arm, seed),
            threads=config.threads,
        )
        for arm, seed in _unfinished(config, study)
    ]


def run_together(config: StudyConfig, study: Study) -> list[Job]:
    """List all runs that are not finished as one job, so that short ones pay once for a process; none if all are finished."""
    left = list(_unfinished(config, study))
    if not left:
        return []
    command = _command(_written(config, study), study, config.arms, config.seeds)
    return [Job(config.name, command, study.path / "worker.log", threads=config.threads)]


def run_here(studies: Iterable[tuple[StudyConfig, Study]]) -> None:
    """Run what is left of several studies in this process, one run after the other: what they have in common (imports, prompts)
    is done once. A run that fails ends it; those before are finished, and the next call goes on.
    """
    left = [(config, study, arm, seed) for config, study in studies for arm, seed in _unfinished(config, study)]
    for config, study, arm, seed in tracked(left, "runs"):
        distill(config, arm, seed, study)


def _written(config: StudyConfig, study: Study) -> Path:
    config_file = study.path / "config.json"
    write_atomic(config_file, lambda file: file.write(config.model_dump_json(indent=2).encode()))
    return config_file


def _unfinished(config: StudyConfig, study: Study) -> Iterator[tuple[str, int]]:
    for seed in config.seeds:
        for arm in config.arms:
            if is_finished(study, arm, seed, config):
                continue
            if told := passed_over(study.run_path(arm, seed)):
                say(told)
            yield arm, seed


def _command(config_file: Path, study: Study, arms: Iterable[str], seeds: Iterable[int]) -> list[str]:
    command = [sys.executable, "-m", "cr_interp", "distill", str(config_file)]
    return [
        *command,
        *("--arms", ",".join(arms), "--seeds", ",".join(map(str, seeds))),
        *("--out", str(study.path), "--in-process", "--resume"),
    ]


def _progress(study: Study, arm: str, seed: int) -> dict[str, Any]:
    rows = study.train_rows(arm, seed)
    steps = [row["step"] for row in rows if row.get("kind") == "train"]
    evals = [row for row in rows if row.get("kind") == "eval"]
    found: dict[str, Any] = {"completed": max(steps, default=0)}
    if evals and evals[-1].get("acc_x") is not None:
        last = evals[-1]
        harm = "–" if last.get("harm") is None else f"{last['harm']:.0%}"
        cut = max(last.get("truncated_x") or 0, last.get("truncated_xc") or 0)
        note = f"Acc_x {last['acc_x']:.2f}  Acc_xc {last['acc_xc']:.2f}  Harm {harm}"
        return {**found, "note": note + (f"  {cut} of {last['n']} truncated" if cut and "n" in last else "")}
    return found
