"""``cr-interp explain``: fill a study's tables of why answers flip, checkpoint by checkpoint.

Mental model. Everything that is needed stands in the study: the answers and their prompts in ``generations``, the context in
the manifest, the models beside them. For each checkpoint whose model is here: pick its answers, load it, compute the analyses
that have no rows yet, store them. What is stored says in ``made_of`` from which answers, weights and options it came, so
the command, typed again, goes on where it was stopped, and never mixes two experiments.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cr_interp.clock import VARIABLE, reads_clock
from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import COLUMN, made_of
from cr_interp.mechanism.answers import FLIPS, GROUPS, Answer, answers_of, chosen_answers
from cr_interp.mechanism.given import USUAL, Answers, Options, rendered
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, open_model
from cr_interp.models.named_models import model_digest
from cr_interp.models.templates import fix_template
from cr_interp.progress import tokens_progress
from cr_interp.study.analyses import Analysis, analyses, fill
from cr_interp.study.questions import contexts, no_context
from cr_interp.study.rows import last_step, rows_of
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes, digest_of
from cr_interp.system.notes import say

Checkpoint = tuple[str, int, int]
"""arm, seed, step"""


def explain(
    study: Study,
    names: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    options: Options = USUAL,
    again: bool = False,
) -> Study:
    """Fill the tables of the analyses ``names`` (all if none is named) for the last checkpoint of every run, and the base.

    Raises :class:`UserError` for a study without answers, checkpoints or flips, for names that do not exist, and for rows that
    were made otherwise (``again`` makes those, and all others, anew).
    """
    chosen = analyses("explain", names)
    for group in options.groups:
        if group not in GROUPS:
            raise unknown("group of answers", group, GROUPS)
    context = contexts(study).get("exact")
    if context is None:
        raise UserError(f"The manifest of {study.path} does not hold the context, so it cannot be given again.")
    generations = last_step(study.table("generations"))
    found = {
        checkpoint: answers_of(rows)
        for checkpoint, rows in _by_checkpoint(generations, arms, seeds)
    }  # fmt: skip
    models = _models(study, found)
    _check_flips(study, {each: found[each] for each in models}, options)
    with tokens_progress() as bar:
        for checkpoint, where in models.items():
            answers = chosen_answers(found[checkpoint], options.groups, options.examples)
            name = "{} seed {} step {}".format(*checkpoint)
            if not answers:
                say(
                    f"{study.name} {name}: no answers in the groups {', '.join(options.groups)}; nothing to explain."
                )
                continue
            files = model_digest(where)
            origins = {each.name: _parts(each, answers, options) for each in chosen}
            todo = _todo(study, chosen, checkpoint, origins, files, again)
            if not todo:
                continue
            study = _note(study, [origins[each.name] for each in todo])
            loaded = _loaded(study, where)
            pairs = rendered(loaded, answers, context, no_context(study))
            for analysis in todo:
                given = Answers(loaded, pairs, options, bar(f"{name} {analysis.name}"))
                origin = made_of(origins[analysis.name], files)
                arm, seed, step = checkpoint
                fill(study, [analysis], given, arm=arm, seed=seed, step=step, made_of=origin)
            del loaded, given  # before the next one comes beside it
    return study


def _by_checkpoint(
    generations: pd.DataFrame, arms: Sequence[str], seeds: Sequence[int]
) -> list[tuple[Checkpoint, pd.DataFrame]]:
    """The rows of the chosen arms and seeds. An arm that was run once, as the base, stays whatever the seeds."""
    for kind, wanted, column in (("arm", arms, "arm"), ("seed", seeds, "seed")):
        for each in wanted:
            if each not in set(generations[column]):
                raise unknown(kind, str(each), map(str, generations[column].unique()))
    kept = rows_of(generations, list(arms) or None, list(seeds) or None)
    return [
        ((str(arm), int(seed), int(step)), rows)
        for (arm, seed, step), rows in kept.groupby(["arm", "seed", "step"], sort=False)
    ]


def _models(study: Study, wanted: Sequence[Checkpoint] | dict[Checkpoint, Any]) -> dict[Checkpoint, str]:
    """Where the model of each checkpoint is, for those that are here."""
    runs = {(arm, seed, step): str(folder) for arm, seed, step, folder in study.checkpoints()}
    listed = study.manifest.get("arms")
    found: dict[Checkpoint, str] = {}
    for each in wanted:
        arm = each[0]
        told = listed.get(arm) if isinstance(listed, dict) else None
        where = told.get("model") if isinstance(told, dict) else None
        if where is None and arm == "base":
            where = study.manifest.get("model")
        if each in runs:
            found[each] = runs[each]
        elif isinstance(where, str) and (where.startswith("builtin:") or Path(where).is_dir() or arm == "base"):
            found[each] = where
    trained = [each for each in wanted if each[0] != "base"]
    if trained and not any(each in found for each in trained):
        raise UserError(
            f"{study.path} holds tables only: the checkpoints of {', '.join(sorted({each[0] for each in trained}))} are not "
            f"here, and explaining runs them. Make the study yourself (cr-interp reproduce), or explain where its runs are."
        )
    return found


def _check_flips(study: Study, found: dict[Checkpoint, list[Answer]], options: Options) -> None:
    """Refuse a study in which no answer of the groups flips; say what there is."""
    counts = {group: sum(each.group == group for many in found.values() for each in many) for group in GROUPS}
    asked = [group for group in options.groups if group in FLIPS]
    if any(counts[group] for group in asked):
        return
    other = [f"{counts[group]} {group}" for group in FLIPS if counts[group] and group not in asked]
    groups = ",".join(group for group in FLIPS if counts[group] and group not in asked)
    raise UserError(
        f"No answer of {study.name} flips when the context returns ({', '.join(asked) or 'no group of flips'}: 0 in "
        f"{len(found)} checkpoints), so there is nothing to explain. "
        + (
            f"There are {' and '.join(other)} answers: --groups {groups},kept."
            if other
            else "Choose other arms or seeds."
        )
    )


def _parts(analysis: Analysis, answers: Sequence[Answer], options: Options) -> Parts:
    """All that decides an analysis's rows, but for the checkpoint."""
    own = {name: getattr(options, name) for name in analysis.options}
    return {
        "analysis": analysis.name,
        "groups": list(options.groups),
        "examples": options.examples,
        **{name: value if isinstance(value, str | int | float) else sorted(value) for name, value in own.items()},
        "answers": digest_of([asdict(each) for each in answers]),
    }


def _todo(
    study: Study,
    chosen: Sequence[Analysis],
    checkpoint: Checkpoint,
    origins: dict[str, Parts],
    files: str,
    again: bool,
) -> list[Analysis]:
    """The analyses without rows of this checkpoint. Rows that were made otherwise are refused."""
    todo = []
    for analysis in chosen:
        mine = pd.DataFrame()
        if study.has_table(analysis.table) and not again:
            rows = study.table(analysis.table)
            mine = rows[
                (rows["arm"] == checkpoint[0]) & (rows["seed"] == checkpoint[1]) & (rows["step"] == checkpoint[2])
            ]
        if mine.empty:
            todo.append(analysis)
            continue
        found = str(mine[COLUMN].iloc[0]) if COLUMN in mine else ""
        if found != made_of(origins[analysis.name], files):
            told = (study.manifest.get("asked") or {}).get(f"#{found.split('-')[0]}")
            why = changes(told, origins[analysis.name]) if isinstance(told, dict) else []
            raise UserError(
                f"The table '{analysis.table}' of {study.path} has rows of {checkpoint[0]} seed {checkpoint[1]} that were made "
                f"with another {', another '.join(why or ['checkpoint'])}. Type the command with --again to make them anew."
            )
    return todo


def _note(study: Study, asked: Sequence[Parts]) -> Study:
    """Write out in the manifest what the rows were asked, before there are any."""
    there = study.manifest.get("asked")
    there = there if isinstance(there, dict) else {}
    new = {digest_of(parts): parts for parts in asked}
    return study if new.keys() <= there.keys() else study.update_manifest(asked={**there, **new})


def _loaded(study: Study, where: str) -> Loaded:
    """The model as the study loads it: its precision, where its layers lie, its chat template's variables and date."""
    told = {key: study.manifest.get(key) for key in ("config", "case_study")}
    settings: dict[str, Any] = next((each for each in told.values() if isinstance(each, dict)), {})
    how = settings.get("load")
    how = how if isinstance(how, dict) else {}
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(str(how.get("dtype")), torch.float32)
    placed = {"device_map": how["device_map"]} if isinstance(how.get("device_map"), str) else {}
    loaded = place(open_model(where, dtype, **placed))
    template, date = settings.get("template"), study.manifest.get("date")
    # A saved checkpoint's template has its date already.
    fixed = {VARIABLE: date} if isinstance(date, str) and reads_clock(loaded.tokenizer) else {}
    fix_template(loaded, {**(template if isinstance(template, dict) else {}), **fixed})
    return loaded
