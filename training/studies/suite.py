"""The suite: twelve settings that mirror the paper's, each a study of its own, run side by side.

A setting is a configuration in ``configs/suite/``; its study is ``SUITE/<setting>``, an ordinary one. Runs, then the
evaluation, then the capture of a setting are jobs that wait for each other only within the setting, so that all cores
are busy until the end. Everything can be killed at any time: typed again, the command lists what is left.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.errors import UserError
from cr_interp.measure.evaluate import evaluate
from cr_interp.study.places import is_study
from cr_interp.study.study import Study
from training.run.subject import exact_context, load_for
from training.settings import StudyConfig, suite_configs
from training.studies.jobs import Job, run_jobs
from training.studies.pipeline import close, missing, open_or_create
from training.studies.workers import default_workers, run_list
from training.task_of import study_task

#: The learning rates among which each setting's is chosen, by the validation accuracy of ``opd`` alone.
RATES = (3e-4, 1e-3, 3e-3)
#: A teacher is asked so many validation prompts, and has to be right in this share of them with the context.
ASKED, FOLLOWS = 64, 0.5


def check_teachers(configs: dict[str, StudyConfig]) -> None:
    """Refuse settings whose teacher is missing, or does not do what the context says: nothing could be internalised.

    Asked on validation examples, greedily; one message for all settings, so that one knows which can be run.
    """
    cannot, known = {}, dict[tuple[Any, ...], str]()
    for name, config in configs.items():
        # Settings that differ in how the student learns have one teacher.
        asked = min(ASKED, config.training.eval_examples)
        key = (config.task, config.model, config.teacher, config.no_context, config.max_turns, asked)
        if key not in known:
            known[key] = _why_not(config, asked)
        if known[key]:
            cannot[name] = known[key]
    if cannot:
        able = ",".join(name for name in configs if name not in cannot)
        listed = "; ".join(f"{name} ({why})" for name, why in cannot.items())
        raise UserError(
            f"Settings that cannot be run: {listed}. A teacher has to follow the context in at least {FOLLOWS:.0%}; "
            f"`cr-interp pretrain` makes organisms. "
            + (f"The others run with --settings {able}." if able else "None of those asked for is left.")
        )


def _why_not(config: StudyConfig, asked: int) -> str:
    """Say why a setting's teacher is none; nothing if it is one."""
    try:
        load_for(config, config.model)
        right = teacher_accuracy(config, asked)
    except UserError as error:
        return str(error).partition(". ")[0]
    where = config.teacher or config.model
    return "" if right >= FOLLOWS else f"{where} is right in {right:.0%} of {asked} prompts with the context"


def teacher_accuracy(config: StudyConfig, asked: int = ASKED) -> float:
    """Return the share of validation prompts that the teacher gets right with the context, greedily."""
    task = study_task(config)
    teacher = load_for(config, config.teacher or config.model)
    contexts = {"exact": exact_context(task, teacher, config)}
    rows = evaluate(teacher, task, task.examples("validation", asked), contexts)
    return float((rows.loc[rows["view"] == "with_context", "outcome"] == "right").mean())


def run_suite(
    configs: dict[str, StudyConfig], out: Path, workers: int | None = None, again: bool = False
) -> None:
    """Distil, evaluate and capture every setting into ``out/<setting>``; what is there already is kept, or, with ``again``
    and if it was made otherwise, made anew.

    Raises :class:`~cr_interp.errors.UserError` before anything is made, if the teacher of a new setting is no teacher.
    """
    check_teachers({name: config for name, config in configs.items() if not is_study(out / name)})
    jobs: list[Job] = []
    studies: dict[str, Study] = {}
    for name, config in configs.items():
        study = studies[name] = open_or_create(config, out / name, again)
        runs = run_list(config, study)
        answers = _measure("evaluate", name, study, tuple(runs))
        states = _measure("capture", name, study, (answers,))
        jobs += runs
        if runs or any(missing(study, table, config) for table in ("generations", "divergence", "drift")):
            jobs += [answers, states]
    if jobs:
        run_jobs(jobs, workers or default_workers(max(config.threads for config in configs.values())))
    for name, study in studies.items():
        close(study, configs[name])


def _measure(command: str, name: str, study: Study, after: tuple[Job, ...]) -> Job:
    return Job(
        f"{name} {command}",
        [sys.executable, "-m", "cr_interp", command, str(study.path)],
        study.path / f"{command}.log",
        after=after,
    )


def tune_suite(
    settings: Sequence[str], out: Path, workers: int | None = None, rates: Sequence[float] = RATES
) -> pd.DataFrame:
    """Run ``opd`` with seed 0 at every rate and return what validation said at every evaluated step.

    Columns ``setting, lr, step, acc_x, acc_xc, harm``. The rule: of the rates, the one with the highest ``acc_x`` at
    the last step; of equal ones the lowest. ``nca`` is not looked at.
    """
    jobs, studies = [], {}
    check_teachers(suite_configs(settings, ["opd"]))
    for rate in rates:
        for name, config in suite_configs(settings, ["opd"], [f"training.lr={rate}", "seeds=[0]"]).items():
            study = studies[name, rate] = open_or_create(config, out / f"{name}-lr{rate:g}")
            jobs += run_list(config.model_copy(update={"name": f"{name} lr {rate:g}"}), study)
    if jobs:
        run_jobs(jobs, workers or default_workers(1))
    rows = []
    for (name, rate), study in studies.items():
        for row in study.train_rows("opd", 0):
            if row.get("kind") == "eval":
                rows.append(
                    {"setting": name, "lr": rate} | {k: row.get(k) for k in ("step", "acc_x", "acc_xc", "harm")}
                )
    return pd.DataFrame(rows).sort_values(["setting", "lr", "step"], ignore_index=True)


def chosen_rates(tuning: pd.DataFrame) -> dict[str, float]:
    """Map setting → learning rate, by the rule of :func:`tune_suite`."""
    last = tuning[tuning["step"] == tuning.groupby(["setting", "lr"])["step"].transform("max")]
    best = last.sort_values(["setting", "acc_x", "lr"], ascending=[True, False, True])
    return {str(name): float(rate) for name, rate in best.groupby("setting")["lr"].first().items()}
