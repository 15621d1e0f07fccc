"""``cr-interp explain``: fill a study's tables of why answers flip, checkpoint by checkpoint.

Mental model. Everything that is needed stands in the study: the answers and their prompts in ``generations``, the context in
the manifest, the models beside them. For each checkpoint whose model is here: pick its answers, load it, compute the analyses
that have no rows yet, store them. What is stored says in ``made_of`` from which answers, weights and options it came, so
the command, typed again, goes on where it was stopped, and never mixes two experiments.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import COLUMN, made_of
from cr_interp.mechanism.answers import FLIPS, GROUPS, Answer, answers_of, chosen_answers
from cr_interp.mechanism.given import USUAL, Answers, Options, Pair, Weights, rendered
from cr_interp.mechanism.material import Material, prompts_of
from cr_interp.mechanism.whereabouts import BASE, Checkpoint, base_of, models_of, opened, teacher_of
from cr_interp.models.loading import Loaded
from cr_interp.models.named_models import model_digest
from cr_interp.progress import tokens_progress
from cr_interp.study.analyses import Analysis, analyses, fill
from cr_interp.study.questions import contexts, histories, no_context
from cr_interp.study.rows import last_step, rows_of
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes, digest_of, rows_digest
from cr_interp.system.notes import say
from cr_interp.tasks.base import Example


def explain(
    study: Study,
    names: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    options: Options = USUAL,
    again: bool = False,
    every_step: bool = False,
) -> Study:
    """Fill the tables of the analyses ``names`` (all if none is named) for the last checkpoint of every run, and the base.

    ``every_step``: those that can be followed along training also for the checkpoints that a run keeps on its way.

    Raises :class:`UserError` for a study without answers, checkpoints or flips, for names that do not exist, and for rows that
    were made otherwise (``again`` makes those, and all others, anew).
    """
    chosen = analyses("explain", names)
    chosen = chosen if names else _possible(study, chosen)
    for group in options.groups:
        if group not in GROUPS:
            raise unknown("group of answers", group, GROUPS)
    context = contexts(study).get("exact")
    if context is None:
        raise UserError(f"The manifest of {study.path} does not hold the context, so it cannot be given again.")
    generations = last_step(study.table("generations"))
    found = {checkpoint: answers_of(rows) for checkpoint, rows in _by_checkpoint(generations, arms, seeds)}
    models = models_of(study, found)
    if any(each.needs == "answers" for each in chosen):
        _check_flips(study, {each: found[each] for each in models}, options)
    if every_step and any(each.along for each in chosen):
        models |= _on_the_way(study, models)
    bench = _Bench(study, models, options)
    with tokens_progress() as bar:
        for checkpoint, where in models.items():
            answers = chosen_answers(found.get(checkpoint, []), options.groups, options.examples)
            name = "{} seed {} step {}".format(*checkpoint)
            mine = [each for each in chosen if _applies(each, checkpoint, checkpoint in found, bool(answers))]
            if checkpoint in found and not answers and any(each.needs == "answers" for each in chosen):
                say(
                    f"{study.name} {name}: no answers in the groups {', '.join(options.groups)}; nothing to explain."
                )
            files = model_digest(where)
            origins = {each.name: bench.parts(each, answers) for each in mine}
            todo = _todo(study, mine, checkpoint, origins, files, again)
            if not todo:
                continue
            study = _note(study, [origins[each.name] for each in todo])
            bench.at(checkpoint, where, answers)
            for analysis in todo:
                given = bench.given(analysis.needs, bar(f"{name} {analysis.name}"))
                origin = made_of(origins[analysis.name], files)
                arm, seed, step = checkpoint
                fill(study, [analysis], given, arm=arm, seed=seed, step=step, made_of=origin)
                del given
            bench.leave()  # before the next one comes beside it
    return study


def _possible(study: Study, chosen: list[Analysis]) -> list[Analysis]:
    """Pick the analyses that the study allows; says what the others lack. One that is named is refused instead."""
    try:
        base_of(study)
    except UserError as lacking:
        left = [each for each in chosen if each.needs in ("weights", "material")]
        if left:
            say(f"Without {', '.join(each.name for each in left)}: {lacking}")
        return [each for each in chosen if each not in left]
    return chosen


def _applies(analysis: Analysis, checkpoint: Checkpoint, last: bool, answers: bool) -> bool:
    """Tell whether an analysis says something of a checkpoint. The base has no update; on the way there are no answers."""
    if analysis.needs == "weights" and checkpoint[0] == BASE:
        return False
    return (last or analysis.along) and (answers or analysis.needs != "answers")


def _on_the_way(study: Study, models: dict[Checkpoint, str]) -> dict[Checkpoint, str]:
    """Return the earlier checkpoints of the runs that are explained."""
    runs = {(arm, seed) for arm, seed, _ in models}
    return {
        (arm, seed, step): str(folder)
        for arm, seed, step, folder in study.checkpoints()
        if (arm, seed) in runs and (arm, seed, step) not in models
    }


class _Bench:
    """A bench that gives analyses what they need of one checkpoint after the other; each thing is made when first asked for."""

    def __init__(self, study: Study, models: dict[Checkpoint, str], options: Options) -> None:
        self.study, self.models, self.options = study, models, options
        self._kept: dict[str, Loaded] = {}
        self._prompts: list[Example] | None = None
        self.leave()

    def at(self, checkpoint: Checkpoint, where: str, answers: Sequence[Answer]) -> None:
        self.checkpoint, self.where, self.answers = checkpoint, where, answers

    def leave(self) -> None:
        self._loaded: Loaded | None = None
        self._pairs: list[Pair] | None = None
        self._material: Material | None = None

    def given(self, needs: str, progress: Callable[[int, int], None]) -> Any:
        """Make what an analysis that ``needs`` it is called with."""
        if needs == "weights":
            return Weights(self.where, self.base, self._others(), progress)
        if needs == "material":
            if self._material is None:
                self._material = Material.of(
                    self.study,
                    self.loaded,
                    base=lambda: self._open(self.base),
                    pairs=self.pairs,
                    teacher=lambda: self._open(teacher_of(self.study)),
                    prompts=self.prompts,
                    is_base=self.checkpoint[0] == BASE,
                    options=self.options,
                )
            self._material.progress = progress
            return self._material
        return Answers(self.loaded, self.pairs, self.options, progress)

    @property
    def base(self) -> str:
        return base_of(self.study)

    @property
    def loaded(self) -> Loaded:
        if self._loaded is None:
            kept = self._kept.get(self.where)
            self._loaded = kept or opened(self.study, self.where)
            if self.checkpoint[0] == BASE:
                self._kept[self.where] = self._loaded
        return self._loaded

    @property
    def pairs(self) -> list[Pair]:
        if self._pairs is None:
            context = contexts(self.study)["exact"]
            self._pairs = rendered(
                self.loaded, self.answers, context, no_context(self.study), histories(self.study)
            )
        return self._pairs

    @property
    def prompts(self) -> list[Example]:
        if self._prompts is None:
            self._prompts = prompts_of(self.study, self.options.prompts)
        return self._prompts

    def parts(self, analysis: Analysis, answers: Sequence[Answer]) -> Parts:
        """List all that decides an analysis's rows, except the checkpoint."""
        own = {name: getattr(self.options, name) for name in analysis.options}
        parts: Parts = {
            "analysis": analysis.name,
            **analysis.rules,
            **{
                name: value if isinstance(value, str | int | float) else sorted(value)
                for name, value in own.items()
            },
        }
        if analysis.needs in ("weights", "material"):
            parts["base"] = model_digest(self.base)
        if analysis.needs == "material":
            parts["teacher"] = model_digest(teacher_of(self.study))
            parts["training prompts"] = rows_digest(self.prompts)
        if analysis.needs == "answers" or "groups" in analysis.options:
            parts["groups"] = list(self.options.groups)
            parts["examples"] = self.options.examples
            parts["answers"] = digest_of([asdict(each) for each in answers])
        return parts

    def _open(self, where: str) -> Loaded:
        if where not in self._kept:
            self._kept[where] = opened(self.study, where)
        return self._kept[where]

    def _others(self) -> dict[tuple[str, int], str]:
        """Map arm and seed → the last checkpoint of every other trained run."""
        last: dict[tuple[str, int], tuple[int, str]] = {}
        for (arm, seed, step), where in self.models.items():
            if arm != BASE and (arm, seed) != self.checkpoint[:2] and step >= last.get((arm, seed), (-1, ""))[0]:
                last[arm, seed] = step, where
        return {run: where for run, (_, where) in last.items()}


def _by_checkpoint(
    generations: pd.DataFrame, arms: Sequence[str], seeds: Sequence[int]
) -> list[tuple[Checkpoint, pd.DataFrame]]:
    """Return the rows of the chosen arms and seeds. An arm that was run once, as the base, stays whatever the seeds."""
    for kind, wanted, column in (("arm", arms, "arm"), ("seed", seeds, "seed")):
        for each in wanted:
            if each not in set(generations[column]):
                raise unknown(kind, str(each), map(str, generations[column].unique()))
    kept = rows_of(generations, list(arms) or None, list(seeds) or None)
    return [
        ((str(arm), int(seed), int(step)), rows)
        for (arm, seed, step), rows in kept.groupby(["arm", "seed", "step"], sort=False)
    ]


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
        + f" No flips are needed by --analyses {','.join(each.name for each in analyses('explain') if each.needs != 'answers')}."
    )


def _todo(
    study: Study,
    chosen: Sequence[Analysis],
    checkpoint: Checkpoint,
    origins: dict[str, Parts],
    files: str,
    again: bool,
) -> list[Analysis]:
    """List the analyses without rows of this checkpoint. Rows that were made otherwise are refused."""
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
