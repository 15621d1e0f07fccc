"""Run what a preregistration says: screen its candidates, choose, confirm. Typed again, each goes on where it was stopped.

Mental model. ``OUT/screening/SETTING-lrRATE`` are ordinary studies of the baseline; what was found of a setting stays in
``OUT/screened`` (``screened.py``), and with that those studies are not needed any more. ``OUT/adaptive/SETTING`` are studies in
which the adaptive arm's form is chosen, ``OUT/SETTING`` and ``OUT/sentinels/NAME`` those of the confirmation;
``OUT/preregistration.json`` says which file all of them belong to. The whole grid is in ``OUT/screening.csv``, the choice and its
reasons in ``OUT/choice.csv``, the sentinels in ``OUT/sentinels.csv``. Nothing here chooses: the rules are in ``screening.py``.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.errors import UserError, unknown
from cr_interp.files import write_atomic, write_json
from cr_interp.measure.drawn import digest_of_items, drawn
from cr_interp.study.places import is_study
from cr_interp.study.study import Study
from cr_interp.system.text_files import read_json
from cr_interp.tables.behaviour import metrics
from cr_interp.tables.metrics import metric_table
from cr_interp.tasks import get_task
from training.settings import StudyConfig
from training.studies.choice import CHOICE, read_choice, read_sentinels
from training.studies.jobs import run_jobs
from training.studies.pipeline import evaluate_study, open_or_create
from training.studies.preregistration import Preregistration
from training.studies.screened import read_screened, write_screened
from training.studies.screening import (
    CURVE,
    best_form,
    choose,
    chosen_rates,
    is_settled,
    judged,
    plateaus,
    sentinels,
)
from training.studies.suite import check_teachers, run_suite, teacher_accuracy
from training.studies.workers import default_workers, run_here, run_list, run_together

NOTE, CONFIRMED = "preregistration.json", "confirmed.json"


def note(plan: Preregistration, out: Path, confirming: bool = False) -> None:
    """Note in ``out`` which preregistration its studies belong to.

    The terms of ``nca_adaptive`` are chosen after the screening, so they are noted apart, when the confirmation begins. Raises
    :class:`UserError` where another one stands there: a file that was changed after the first run is another experiment.
    """
    _note(plan.before_choice, out, NOTE)
    if confirming:
        _note(plan, out, CONFIRMED)


def _note(plan: Preregistration, out: Path, name: str) -> None:
    path, said = out / name, json.loads(plan.model_dump_json())
    if path.is_file():
        before = read_json(path, "a note of a preregistration")
        before = before if isinstance(before, dict) else {}
        if before.get("digest") == plan.digest:
            return
        there = before.get("preregistration")
        changed = [key for key, value in said.items() if not isinstance(there, dict) or there.get(key) != value]
        raise UserError(
            f"{out} was begun with another preregistration: {', '.join(changed)} changed since. Put the file back as it was "
            f"committed, or begin anew in another folder (--out) and report both."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"digest": plan.digest, "preregistration": said})


def screen(
    plan: Preregistration, out: Path, settings: Sequence[str] = (), workers: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train the baseline of these candidates at every rate, and say which are eligible.

    If none is named, candidates are taken in the hash's order until what has been screened decides the choice
    (:func:`~training.studies.screening.is_settled`): what comes after could not change it.

    Returns the grid (a row per setting and rate, with what the rules said of it) and the choice (a row per setting); both are
    written beside the studies.
    """
    note(plan, out)
    groups = plan.settings()
    for name in settings:
        if name not in groups:
            raise unknown("setting", name, groups)
    waiting = list(settings) or sorted(groups, key=plan.order)
    at_once = workers or default_workers(1)
    unknown_yet = [name for name in waiting if read_screened(plan, out, name) is None]
    check_teachers(
        {config.name: config for config in _asked(plan, unknown_yet).values() if not _is_there(out, config)}
    )
    parts: list[tuple[pd.DataFrame, ...]] = []
    while True:
        some, waiting = waiting[:at_once], waiting[at_once:]
        parts.append(_screened(plan, out, some, workers))
        curves, grid, rows = (pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True))
        found = _chosen(rows, plan)
        beside = sentinels(found, plan)
        tables = {"curves": curves, "screening": grid, "choice": found, "sentinels": beside}
        for name, table in tables.items():
            _write(out / f"{name}.csv", table)
        taken, harmless = found.loc[found["chosen"], "setting"], beside["kind"] == "harmless"
        if not waiting or (not settings and is_settled(taken.tolist(), int(harmless.sum()), plan)):
            return grid, found


def _asked(plan: Preregistration, settings: Iterable[str]) -> dict[tuple[str, float], StudyConfig]:
    groups = plan.settings()
    return {(name, rate): plan.screened(name, rate) for name in settings for rate in groups[name].rates}


def _screened(
    plan: Preregistration, out: Path, settings: Sequence[str], workers: int | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Screen what is left of these settings; return their curves, their part of the grid, and a row each: are they eligible?"""
    if left := [name for name in settings if read_screened(plan, out, name) is None]:
        _train(plan, out, left, workers)
    found = [each for name in settings if (each := read_screened(plan, out, name))]
    curves, outcomes = (pd.concat(each, ignore_index=True) for each in zip(*found, strict=True))
    return (curves, *judged(curves, outcomes, plan))


def _train(plan: Preregistration, out: Path, settings: Sequence[str], workers: int | None) -> None:
    """Train the baseline of these settings at every rate, and write what it came to."""
    asked = _asked(plan, settings)
    studies = {key: open_or_create(config, _folder(out, config)) for key, config in asked.items()}
    if workers == 1:
        run_here([(config, studies[key]) for key, config in asked.items()])
    else:
        jobs = [job for key, config in asked.items() for job in run_together(config, studies[key])]
        run_jobs(jobs, workers or default_workers(1))
    for name in settings:
        keys = [key for key in asked if key[0] == name]
        curves = pd.concat([_curve(studies[key], key, asked[key]) for key in keys], ignore_index=True)
        (rate,) = chosen_rates(plateaus(curves, plan.screening), plan.screening)["rate"]
        outcomes = _outcomes(studies[name, rate], asked[name, rate], name, rate)
        write_screened(plan, out, name, curves, outcomes)


def _chosen(found: pd.DataFrame, plan: Preregistration) -> pd.DataFrame:
    taken = choose(found.loc[found["eligible"].astype(bool), "setting"].tolist(), plan)
    found = found.assign(chosen=found["setting"].isin(taken), order=found["setting"].map(plan.order))
    return found.sort_values("order", ignore_index=True)


def choose_form(plan: Preregistration, out: Path, workers: int | None = None) -> pd.DataFrame:
    """Train the baseline, ``nca`` and every form of ``nca_adaptive`` on the screening seeds; return the forms, the chosen first.

    Some of the chosen settings are trained as they will be, and those sentinels that are stopped early. Validation items only.
    """
    note(plan, out)
    chosen = [row for row in read_choice(out, plan) if row.chosen][: plan.adaptive.settings]
    kinds = {row.setting: ("harmed", plan.tried(row.setting, row.rate, row.train_steps)) for row in chosen}
    for beside in read_sentinels(out, plan):
        if beside.kind == "early":
            config = plan.tried(beside.setting, beside.rate, beside.train_steps)
            kinds[beside.name] = "early", config.model_copy(update={"name": beside.name})
    studies = {name: open_or_create(config, out / "adaptive" / name) for name, (_, config) in kinds.items()}
    jobs = [job for name, (_, config) in kinds.items() for job in run_list(config, studies[name])]
    if jobs:
        run_jobs(jobs, workers or default_workers(1))
    rows = []
    for name, (kind, config) in kinds.items():
        table = metric_table(evaluate_study(studies[name], config))
        for row in table[table["seed"].isna()].itertuples():
            rows.append((kind, name, row.arm, row.metric, row.estimate))
    tried = pd.DataFrame(rows, columns=["kind", "setting", "arm", "metric", "estimate"])
    forms = best_form(tried, plan.adaptive, plan.screening.arm)
    _write(out / "tried.csv", tried)
    _write(out / "adaptive.csv", forms)
    return forms


def confirm(plan: Preregistration, out: Path, workers: int | None = None) -> list[str]:
    """Run every arm on the chosen settings and return their names; the sentinels after them, in a folder of their own.

    Raises :class:`UserError` before all has been screened, and where the test items are not those that were committed to.
    """
    screened, beside = read_choice(out, plan), read_sentinels(out, plan)
    note(plan, out, confirming=True)
    chosen = [row for row in screened if row.chosen]
    if not chosen:
        raise UserError(
            f"None of the {len(screened)} candidates is eligible, so there is nothing to confirm ({out / CHOICE})."
        )
    if plan.confirmation.items_sha256 and (now := digest_of_all_items(plan)) != plan.confirmation.items_sha256:
        raise UserError(
            f"The test items are not those that {plan.name} commits to (SHA-256 {now[:16]}…, committed "
            f"{plan.confirmation.items_sha256[:16]}…): a task or its data has changed. Go back to the version that was committed."
        )
    run_suite(
        {row.setting: plan.confirmed(row.setting, row.rate, row.train_steps) for row in chosen}, out, workers
    )
    others = {row.name: plan.confirmed(row.setting, row.rate, row.train_steps, row.name) for row in beside}
    if others:
        run_suite(others, out / "sentinels", workers)
    return [row.setting for row in chosen]


def digest_of_all_items(plan: Preregistration) -> str:
    """Compute the SHA-256 of the test items of every candidate, a line each: setting and digest of its ids."""
    lines = []
    for setting in plan.settings():
        _, task, _ = plan.parts(setting)
        lines.append(f"{setting} {digest_of_items(drawn(get_task(task), plan.test_items(setting)))}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _write(path: Path, table: pd.DataFrame) -> None:
    text = table.to_csv(index=False).encode()
    write_atomic(path, lambda file: file.write(text))


def _folder(out: Path, config: StudyConfig) -> Path:
    return out / "screening" / config.name


def _is_there(out: Path, config: StudyConfig) -> bool:
    return is_study(_folder(out, config))


def _curve(study: Study, key: tuple[str, float], config: StudyConfig) -> pd.DataFrame:
    (arm,) = config.arms
    rows: list[tuple[Any, ...]] = []
    for seed in config.seeds:
        for row in study.train_rows(arm, seed):
            if row.get("kind") == "eval":
                rows.append((*key, seed, row["step"], row["acc_x"]))
    return pd.DataFrame(rows, columns=CURVE)


def _outcomes(study: Study, config: StudyConfig, setting: str, rate: float) -> pd.DataFrame:
    """Return a row per seed at the chosen rate, on validation items: plateau accuracy, Harm, Harm behind the irrelevant
    context.
    """
    answers = evaluate_study(study, config).table("generations")
    (arm,) = config.arms
    found = {}
    for control in ("exact", "irrelevant"):
        table = metrics(answers[answers["arm"] == arm], control, split="validation")
        found[control] = table[table["seed"].notna()].set_index(["metric", "seed"])["estimate"]
    return pd.DataFrame(
        {
            "setting": setting,
            "rate": rate,
            "seed": list(config.seeds),
            "acc_x": [found["exact"]["acc_x", seed] for seed in config.seeds],
            "harm": [found["exact"]["harm", seed] for seed in config.seeds],
            "harm_irrelevant": [found["irrelevant"]["harm", seed] for seed in config.seeds],
            "teacher": teacher_accuracy(config, config.evaluation.examples),
        }
    )
