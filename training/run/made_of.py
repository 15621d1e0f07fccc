"""What a configuration's results are made of, and which results of a study were made otherwise.

Mental model. A run notes beside its log, in ``made_of.json``, what it is trained with: settings, terms, code of the task,
rows, context, the files of student and teacher. Rows of tables carry a digest (``cr_interp/measure/asked.py``). :class:`Making`
works the same out from the configuration of today, without loading weights, and :func:`made_otherwise` compares. What
differs is never continued unsaid: the command refuses, or, told ``--again``, has it removed by :func:`discard` and made anew.

A study of before this was noted is judged by what its manifest tells: its configuration and its arms' terms.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
from pydantic import ValidationError

from cr_interp.errors import UserError
from cr_interp.files import write_json
from cr_interp.measure.asked import asked_parts, context_parts, made_of, row_changes, rows_made_of, task_parts
from cr_interp.measure.subject import Subject
from cr_interp.models.named_models import model_digest, tokenizer_of
from cr_interp.study.analyses import analyses
from cr_interp.study.places import EVERY_CHECKPOINT, RUNS, checkpoint_of, note_of, run_in, runs_of
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes, digest_of, flat, folder_digest, rows_digest
from cr_interp.system.text_files import read_json
from cr_interp.tasks.base import Task
from cr_interp.views import Given, context_length
from training.objectives import arm_terms
from training.settings import StudyConfig
from training.task_of import study_task, training_examples

_ASIDE = ".removed-"
#: Tables whose rows a checkpoint gives, with the columns ``arm, seed, step``; those of which it is asked here whether they
#: would come out alike, and all, which go when their checkpoint goes.
TABLES = ("generations", *(table for each in analyses() if each.command != "explain" for table in each.tables))
EVERY_TABLE = ("generations", *(table for each in analyses() for table in each.tables))

#: Parts of a run that another run of the same study has otherwise.
_OF_A_RUN = ("objective", "seed", "training data")


class Making:
    """The parts that the results of a configuration are made of, as files and code are at this moment."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.task: Task = study_task(config)
        self._tokenizer = tokenizer_of(config.model, config.template)
        self._rows: dict[int, str] = {}

    @cached_property
    def subject(self) -> Subject:
        """Name what is evaluated. A run alone does not ask: its task may have fewer test examples than are evaluated."""
        return Subject.of(self.task, self._tokenizer, self.config.no_context, self.config.evaluation)

    @cached_property
    def exact(self) -> Given:
        count = partial(context_length, self._tokenizer, no_context=self.config.no_context)
        return self.task.contexts(count)["exact"]

    @cached_property
    def base(self) -> str:
        return model_digest(self.config.model)

    @cached_property
    def shared(self) -> Parts:
        """List what all results of a study have in common; its manifest says it."""
        run = self.run("base", 0, terms=[])
        return {**self.asked, **{key: value for key, value in run.items() if key not in _OF_A_RUN}}

    @cached_property
    def asked(self) -> Parts:
        return asked_parts(self.subject, self.config.task, self.config.no_context, self.config.template)

    def checkpoint(self, study: Study, arm: str, seed: int, step: int) -> str | None:
        """Return the digest of a study's checkpoint, or of its base; None if the checkpoint is not on disk."""
        folder = checkpoint_of(study.run_path(arm, seed), step)
        return self.base if arm == "base" else folder_digest(folder) if folder.is_dir() else None

    def run(self, arm: str, seed: int, terms: Sequence[str] | None = None) -> Parts:
        """Return the parts of a run. ``terms`` stands for those of an arm that the configuration does not name."""
        config, chosen = self.config, self.config.training
        if seed not in self._rows:
            rows = training_examples(self.task, chosen.steps * chosen.batch_size, seed)
            self._rows[seed] = rows_digest(rows)
        settings = flat(chosen.model_dump(mode="json"), "training.")
        # Where a server is may change; that there is one decides the random numbers of the rollouts.
        settings["training.vllm"] = "a server" if chosen.vllm else None
        return {
            "objective": list(terms) if terms is not None else term_texts(arm, config),
            "seed": seed,
            **task_parts(self.task, config.task),
            "no_context": config.no_context,
            **flat(dict(config.template), "template."),
            **context_parts({"exact": self.exact}),
            "training data": self._rows[seed],
            "validation data": self._validation,
            "model": self.base,
            "teacher": model_digest(config.teacher) if config.teacher else self.base,
            "threads": config.threads,
            **settings,
        }

    @cached_property
    def _validation(self) -> str:
        return rows_digest(self.task.examples("validation", self.config.training.eval_examples, 0))


def term_texts(arm: str, config: StudyConfig) -> list[str]:
    return [str(term) for term in arm_terms(arm, config.own_arms)]


# -- a run's note --------------------------------------------------------------------------------------------


def noted(run_path: Path) -> Parts | None:
    """Read what a run was made of; None for one of before this was noted, or whose note is damaged."""
    try:
        told = read_json(note_of(run_path), "a note")["parts"]
    except (UserError, KeyError, TypeError):
        return None
    return told if isinstance(told, dict) else None


def note(run_path: Path, parts: Parts) -> None:
    write_json(note_of(run_path), {"made_of": digest_of(parts), "parts": parts})


def refuse_other(run_path: Path, parts: Parts) -> None:
    """Refuse to continue a run that was begun with something else."""
    before = noted(run_path)
    if before is not None and (differing := changes(before, parts)):
        raise UserError(
            f"{run_path} was begun with another {', another '.join(differing)}. It is not continued, since its log and its "
            f"checkpoints would be of two experiments: type the command with --again to make it anew, or give another folder."
        )


# -- what was made otherwise ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Otherwise:
    """A result that was made of something else than it would be now: a run, or a checkpoint's rows in the tables."""

    arm: str
    seed: int
    why: tuple[str, ...]
    run: bool

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}"


def made_otherwise(study: Study, making: Making) -> list[Otherwise]:
    """List every run and every checkpoint's rows that this configuration would make otherwise."""
    older = _older_changes(study, making.config)
    runs: dict[tuple[str, int], Otherwise] = {}
    for arm, seed, folder in _run_folders(study):
        why = _run_changes(study, making, arm, seed, folder, older)
        if why:
            runs[arm, seed] = Otherwise(arm, seed, tuple(why), True)
    rows = [each for each in _rows_otherwise(study, making, older) if (each.arm, each.seed) not in runs]
    return [*runs.values(), *rows]


def _run_folders(study: Study) -> Iterable[tuple[str, int, Path]]:
    for folder in runs_of(study.path):
        run = run_in(folder)
        if run and (note_of(folder).is_file() or any(folder.glob(EVERY_CHECKPOINT))):
            yield *run, folder


def _run_changes(study: Study, making: Making, arm: str, seed: int, folder: Path, older: list[str]) -> list[str]:
    config = making.config
    before = noted(folder)
    asked_for = arm in config.arms or arm in config.own_arms
    if before is None:
        noted_arm = (study.manifest.get("arms") or {}).get(arm)
        told = noted_arm.get("terms") if isinstance(noted_arm, dict) else None
        now = term_texts(arm, config) if asked_for else told
        return [*older, *changes({"objective": told or now}, {"objective": now})]
    terms = None if asked_for else before.get("objective")
    return changes(before, making.run(arm, seed, terms))


def _rows_otherwise(study: Study, making: Making, older: list[str]) -> Iterable[Otherwise]:
    found: dict[tuple[str, int], list[str]] = {}
    for table in TABLES:
        if not study.has_table(table):
            continue
        for (arm, seed, step), origins in rows_made_of(study.table(table)).items():
            for origin in origins:
                why = older
                if origin is not None:
                    _, checkpoint, *read = origin.split("-") if origin.count("-") else (origin, "")
                    # Of a checkpoint that is gone, what was asked is all that can be compared.
                    now = making.checkpoint(study, arm, seed, step) or checkpoint
                    why = row_changes(study, origin, made_of(making.asked, now, *read), making.asked)
                if why:
                    found.setdefault((arm, seed), []).extend(why)
    for (arm, seed), why in found.items():
        yield Otherwise(arm, seed, tuple(dict.fromkeys(why)), False)


def different(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List keys of two written configurations that decide numbers and differ. Arms and seeds may grow: a study may be
    continued with more of them.
    """
    free = {"arms", "seeds", "name", "own_arms", "every_step", "report_to", "context_cap"}
    old = _with_defaults(old)
    return [key for key in new if key not in free and old.get(key) != new[key]]


def _with_defaults(old: dict[str, Any]) -> dict[str, Any]:
    """Add the keys that an older study lacks, with their defaults of now: it was made with what these are."""
    with suppress(ValidationError):  # a key that is gone: then it differs, and is shown as it was
        return StudyConfig.model_validate(old).model_dump(mode="json")
    return old


def _older_changes(study: Study, config: StudyConfig) -> list[str]:
    """Say what differs between the configuration in a manifest and this one, as far as it decides numbers."""
    old, new = study.manifest.get("config"), config.model_dump(mode="json")
    if not isinstance(old, dict):
        return []
    keys = different(old, new)
    old = _with_defaults(old)
    return changes(flat({key: old.get(key) for key in keys}), flat({key: new[key] for key in keys}))


# -- making room ---------------------------------------------------------------------------------------------


def refuse(study: Study, found: Sequence[Otherwise]) -> UserError:
    """Make the error that says what was made otherwise, and what to do."""
    why = list(dict.fromkeys(reason for each in found for reason in each.why))
    return UserError(
        f"{study.path} was made with another configuration: another {', another '.join(why[:6])}"
        + (f" and {len(why) - 6} more" if len(why) > 6 else "")
        + f". Of that are the {_listed(found)}. Type the command with --again to discard these and make them anew, or give "
        f"another folder or name to keep them; with the same settings, files and data it continues."
    )


def _listed(found: Sequence[Otherwise]) -> str:
    runs = [str(each) for each in found if each.run]
    rows = [str(each) for each in found if not each.run]
    return " and the ".join(
        f"{what} of {', '.join(names[:6])}" + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        for what, names in (("runs", runs), ("tables' rows", rows))
        if names
    )


def discard(study: Study, found: Sequence[Otherwise], config: StudyConfig) -> None:
    """Remove results that this configuration makes anew.

    Raises :class:`UserError` before anything is removed if it would not make one of them: what only somebody else could make
    again is not thrown away.
    """
    made = {("base", 0), *((arm, seed) for arm in config.arms for seed in config.seeds)}
    lost = [each for each in found if (each.arm, each.seed) not in made]
    if lost:
        raise UserError(
            f"--again would discard results that this command does not make anew: {', '.join(map(str, lost))} in {study.path}, "
            f"which were made otherwise ({', '.join(lost[0].why[:3])}). Name these arms and seeds as well, or give another "
            f"folder or name."
        )
    gone = {(each.arm, each.seed) for each in found}
    for table in EVERY_TABLE:
        study.keep(
            table,
            lambda rows: pd.Series(
                [pair not in gone for pair in zip(rows["arm"], rows["seed"], strict=True)],
                index=rows.index,
                dtype=bool,
            ),
        )
    for each in found:
        if each.run:
            remove_run(study.run_path(each.arm, each.seed))


def sweep(study: Study) -> None:
    """Remove what a kill left of files being written and of runs being removed."""
    study.sweep()
    for aside in (study.path / RUNS).glob(f"{_ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)


def remove_run(run_path: Path) -> None:
    """Take a run's folder away at once, so that a kill leaves no part of it in its place."""
    aside = run_path.parent / f"{_ASIDE}{uuid4().hex}"
    if run_path.is_dir():
        os.replace(run_path, aside)
    shutil.rmtree(aside, ignore_errors=True)
