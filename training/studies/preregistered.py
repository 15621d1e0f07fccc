"""Run what a preregistration says: screen its candidates, choose, confirm. Typed again, each goes on where it was stopped.

Mental model. ``OUT/screening/SETTING-lrRATE`` are ordinary studies of the baseline, ``OUT/SETTING`` those of the confirmation;
``OUT/preregistration.json`` says which file all of them belong to. The whole grid stays in ``OUT/screening.csv``, the choice with
its reasons in ``OUT/choice.csv``. Nothing here chooses: the rules are in ``screening.py``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from cr_interp.configuration import Strict, validated
from cr_interp.errors import UserError, unknown
from cr_interp.files import write_atomic, write_json
from cr_interp.study.study import Study
from cr_interp.system.text_files import read_json
from cr_interp.tables.behaviour import metrics
from cr_interp.tasks.yours.local_rows import read_local
from training.settings import MOST, StudyConfig
from training.studies.jobs import run_jobs
from training.studies.pipeline import evaluate_study, open_or_create
from training.studies.preregistration import Preregistration
from training.studies.screening import choose, chosen_rates, eligibility, plateaus
from training.studies.suite import check_teachers, run_suite, teacher_accuracy
from training.studies.workers import default_workers, run_list

NOTE = "preregistration.json"


def note(plan: Preregistration, out: Path) -> None:
    """Note in ``out`` which preregistration its studies belong to.

    Raises :class:`UserError` where another one stands there: a file that was changed after the first run is another experiment.
    """
    path, said = out / NOTE, json.loads(plan.model_dump_json())
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
    """Train the baseline of these candidates (all if none is named) at every rate, and say which are eligible.

    Returns the grid (a row per setting and rate, with what the rules said of it) and the choice (a row per setting); both are
    written beside the studies.
    """
    note(plan, out)
    groups = plan.settings()
    for name in settings:
        if name not in groups:
            raise unknown("setting", name, groups)
    asked = {
        (name, rate): plan.screened(name, rate) for name in settings or groups for rate in groups[name].rates
    }
    check_teachers({config.name: config for config in asked.values() if not _is_there(out, config)})
    studies = {key: open_or_create(config, _folder(out, config)) for key, config in asked.items()}
    jobs = [job for key, config in asked.items() for job in run_list(config, studies[key])]
    if jobs:
        run_jobs(jobs, workers or default_workers(1))
    curves = pd.concat([_curve(studies[key], key, config) for key, config in asked.items()], ignore_index=True)
    grid = plateaus(curves, plan.screening)
    rates = chosen_rates(grid, plan.screening)
    outcomes = [
        _outcomes(studies[name, rate], asked[name, rate], name)
        for name, rate in zip(rates["setting"], rates["rate"], strict=True)
    ]
    found = rates.drop(columns="acc_x").merge(
        eligibility(pd.concat(outcomes), plan.eligible), on="setting", how="left"
    )
    taken = choose(found.loc[found["eligible"].astype(bool), "setting"].tolist(), plan)
    found = found.assign(chosen=found["setting"].isin(taken), order=found["setting"].map(plan.order))
    found = found.sort_values("order", ignore_index=True)
    for name, table in (("curves.csv", curves), ("screening.csv", grid), ("choice.csv", found)):
        text = table.to_csv(index=False).encode()
        write_atomic(out / name, lambda file, text=text: file.write(text))
    return grid, found


def confirm(plan: Preregistration, out: Path, workers: int | None = None) -> list[str]:
    """Run every arm on the chosen settings and return their names. Raises :class:`UserError` before all has been screened."""
    note(plan, out)
    path = out / "choice.csv"
    screened = read_choice(path, plan) if path.is_file() else []
    left = [name for name in plan.settings() if name not in {each.setting for each in screened}]
    if left:
        raise UserError(
            f"{len(left)} of {len(plan.settings())} candidates have not been screened ({', '.join(left[:3])}, …), and the choice "
            f"is among all of them. Run --screen first."
        )
    chosen = [each for each in screened if each.chosen]
    if not chosen:
        raise UserError(
            f"None of the {len(screened)} candidates is eligible, so there is nothing to confirm ({path})."
        )
    configs = {each.setting: plan.confirmed(each.setting, each.rate, each.train_steps) for each in chosen}
    run_suite(configs, out, workers)
    return list(configs)


class Chosen(Strict):
    """A row of ``choice.csv``, as far as it decides what is run."""

    setting: str
    rate: float = Field(gt=0, le=100)
    train_steps: int = Field(gt=0, le=MOST)
    chosen: bool


def read_choice(path: Path, plan: Preregistration) -> list[Chosen]:
    """What screening chose among the candidates. Raises :class:`UserError` for a file that it has not written so."""
    rows = read_local(path)
    names = [name for name in Chosen.model_fields if name not in rows.column_names]
    if names:
        raise UserError(f"{path} lacks the columns {', '.join(names)}. Run --screen again, which writes it.")
    found = []
    for number in range(len(rows)):
        given = {name: rows[name][number] for name in Chosen.model_fields}
        row = validated(Chosen, given, path.with_name(f"{path.name}, {rows.place(number)}"))
        plan.parts(row.setting)  # or it is no candidate
        found.append(row)
    if len({row.setting for row in found}) < len(found):
        raise UserError(f"{path} names a setting twice. Run --screen again, which writes it.")
    return found


def _folder(out: Path, config: StudyConfig) -> Path:
    return out / "screening" / config.name


def _is_there(out: Path, config: StudyConfig) -> bool:
    return (_folder(out, config) / "manifest.json").is_file()


def _curve(study: Study, key: tuple[str, float], config: StudyConfig) -> pd.DataFrame:
    (arm,) = config.arms
    rows: list[tuple[Any, ...]] = []
    for seed in config.seeds:
        for row in study.train_rows(arm, seed):
            if row.get("kind") == "eval":
                rows.append((*key, seed, row["step"], row["acc_x"]))
    return pd.DataFrame(rows, columns=["setting", "rate", "seed", "step", "acc_x"])


def _outcomes(study: Study, config: StudyConfig, setting: str) -> pd.DataFrame:
    """A row per seed at the chosen rate, on validation items: plateau accuracy, Harm, Harm behind the irrelevant context."""
    answers = evaluate_study(study, config).table("generations")
    (arm,) = config.arms
    found = {}
    for control in ("exact", "irrelevant"):
        table = metrics(answers[answers["arm"] == arm], control, split="validation")
        found[control] = table[table["seed"].notna()].set_index(["metric", "seed"])["estimate"]
    return pd.DataFrame(
        {
            "setting": setting,
            "seed": list(config.seeds),
            "acc_x": [found["exact"]["acc_x", seed] for seed in config.seeds],
            "harm": [found["exact"]["harm", seed] for seed in config.seeds],
            "harm_irrelevant": [found["irrelevant"]["harm", seed] for seed in config.seeds],
            "teacher": teacher_accuracy(config, config.evaluation.examples),
        }
    )
