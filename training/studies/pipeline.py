"""From a configuration to a finished study: distil, evaluate, capture. Every part can be stopped and continued.

A part that is already in the study's tables is not done again; so the same command, typed again, continues.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.clock import date_of
from cr_interp.configuration import validated
from cr_interp.confined import own
from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import made_of, note_asked
from cr_interp.measure.divergence import Own, Teacher
from cr_interp.measure.evaluate import Sampler
from cr_interp.measure.fitting import fitting
from cr_interp.measure.in_process_vllm import engine_for
from cr_interp.measure.pairs import OURS, is_address
from cr_interp.measure.readings import Readings
from cr_interp.measure.subject import Subject, behaviour_rows, own_responses, own_turns, with_tokens
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, fingerprint, here, tokenizer_fingerprint
from cr_interp.progress import tokens_progress, tracked
from cr_interp.provenance import now, provenance
from cr_interp.study.analyses import analyses, fill
from cr_interp.study.locking import writing
from cr_interp.study.places import is_study
from cr_interp.study.rows import last_step
from cr_interp.study.searching import open_study
from cr_interp.study.study import Study
from cr_interp.system.names import check_folder
from cr_interp.system.notes import say
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Task
from cr_interp.tasks.yours.described import DescribedTask
from training.run.checkpoints import checkpoints, step_of
from training.run.cores import use_threads
from training.run.distill import is_finished
from training.run.made_of import Making, different, discard, made_otherwise, refuse, sweep, term_texts
from training.run.plateau import final_step
from training.run.subject import check_cap, load_for
from training.settings import StudyConfig
from training.studies.workers import run_all
from training.task_of import study_task

__all__ = ["different"]

Checkpoint = tuple[str, int, int, str]
"""arm, seed, step, and where the model is."""


def open_or_create(config: StudyConfig, path: Path, again: bool = False) -> Study:
    """Open the study of this configuration, or create it. One that holds results which were made otherwise (with another
    configuration, terms, task, data or model) is refused, not mixed into; ``again`` discards those, so that they are made
    anew.
    """
    check_folder(path)
    if not is_study(path):
        manifest = _manifest(config)  # which takes a while
        with writing(path):
            if not is_study(path):  # or another process was faster
                return Study.create(path, manifest)
    study, making = Study.open(path), Making(config)
    sweep(study)
    found = made_otherwise(study, making)
    if found and not again:
        raise refuse(study, found)
    discard(study, found, config)
    if found or study.manifest.get("made_of", making.shared) != making.shared:
        # Nothing is left of what the manifest said.
        new, arms = _manifest(config), study.manifest.get("arms", {})
        kept = {
            "created": study.manifest.get("created"),
            "arms": {**arms, **new["arms"]},
            "seeds": sorted({*study.manifest.get("seeds", []), *config.seeds}),
        }
        study = study.update_manifest(**{**new, **kept})
    return study


def _manifest(config: StudyConfig) -> dict[str, Any]:
    base = load_for(config, config.model)
    making = Making(config)
    contexts = making.subject.contexts
    check_cap(contexts["exact"], base, config)
    teacher = load_for(config, config.teacher) if config.teacher else base
    return {
        "name": config.name,
        "created": now(),
        "finished": None,
        **provenance(),
        "task": config.task,
        "model": config.model,
        "teacher": config.teacher or config.model,
        "model_fingerprint": fingerprint(base.model, base.tokenizer),
        "teacher_fingerprint": fingerprint(teacher.model, teacher.tokenizer),
        "tokenizer_fingerprint": tokenizer_fingerprint(base.tokenizer),
        "no_context": config.no_context,
        "context": contexts["exact"].to_dict(),
        "date": date_of(base.tokenizer),
        "controls": {name: context.to_dict() for name, context in contexts.items()},
        "arms": {arm: {"terms": term_texts(arm, config)} for arm in config.arms},
        "seeds": list(config.seeds),
        "training": config.training.model_dump(mode="json"),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "made_of": making.shared,
    }


def reproduce(config: StudyConfig, path: Path, workers: int | None = None, again: bool = False) -> Study:
    """Distil every arm × seed, evaluate them and the base, capture their drift; returns the finished study."""
    use_threads(config.threads)
    study = open_or_create(config, path, again)
    run_all(config, study, workers)
    study = evaluate_study(study, config)
    return close(capture_study(study, config), config)


def close(study: Study, config: StudyConfig) -> Study:
    """Write into the manifest that, and with which arms and seeds, the study is finished; and by which command, if this one
    has added some and names all.
    """
    study = Study.open(study.path)
    arms, seeds = study.manifest["arms"], study.manifest["seeds"]
    terms = {arm: {"terms": term_texts(arm, config)} for arm in config.arms}
    added = set(terms) - set(arms) or set(config.seeds) - set(seeds)
    names_all = set(arms) <= set(terms) and set(seeds) <= set(config.seeds)
    return study.update_manifest(
        finished=now(),
        arms={**arms, **terms},
        seeds=sorted({*seeds, *config.seeds}),
        **({"command": provenance()["command"]} if added and names_all else {}),
    )


def study_checkpoints(study: Study, config: StudyConfig) -> list[Checkpoint]:
    """List the base (arm ``base``, seed 0, step 0) and the last checkpoint of every run that is finished: one that was
    stopped half-way must not stand in a table beside finished ones. With ``every_step`` the earlier ones, too.
    """
    found: list[Checkpoint] = [("base", 0, 0, study.manifest["model"])]
    for arm, seed in study.runs():
        if is_finished(study, arm, seed, config):
            for path in checkpoints(study.run_path(arm, seed)):
                step = step_of(path)
                last, every = final_step(study.run_path(arm, seed), config.training), config.training.save_every
                # One that was written because something broke is off the schedule, and of one run alone.
                if step == last or (config.every_step and step < last and step % every == 0):
                    found.append((arm, seed, step, str(path)))
    return found


def missing(study: Study, table: str, config: StudyConfig) -> list[Checkpoint]:
    """List checkpoints whose rows are not yet in a table."""
    there: set[tuple[str, int, int]] = set()
    if study.has_table(table):
        rows = study.table(table)[["arm", "seed", "step"]].drop_duplicates()
        there = {(str(a), int(s), int(t)) for a, s, t in rows.itertuples(index=False)}
    return [each for each in study_checkpoints(study, config) if each[:3] not in there]


def checked(study: Study, config: StudyConfig, again: bool = False) -> tuple[Study, Making]:
    """Note in the study what this configuration asks; refuses one that holds results which were made otherwise.

    With ``again`` rows are discarded to be made anew. A run is not: only ``reproduce`` and ``distill`` make those.
    """
    sweep(study)
    making = Making(config)
    found = made_otherwise(study, making)
    if found and (not again or any(each.run for each in found)):
        raise refuse(study, found)
    # Rows of every arm are made here, whichever arms the configuration names.
    runs = study.runs()
    every = {"arms": tuple(arm for arm, _ in runs), "seeds": tuple(seed for _, seed in runs)}
    discard(study, found, config.model_copy(update=every))
    return note_asked(Study.open(study.path), making.asked), making


def say_left_out(study: Study, task: Task, config: StudyConfig) -> None:
    """Say which rows of somebody's own data, and which runs, are in none of the tables."""
    going = [f"{arm} seed {seed}" for arm, seed in study.runs() if not is_finished(study, arm, seed, config)]
    if going:
        say(f"Not finished, so not measured: {', '.join(going)}.")
    if isinstance(task, DescribedTask):
        for told in task.left_out():
            say(f"{told}.")
        in_all, asked = len(task.examples(config.evaluation.split)), config.evaluation.examples
        if asked < in_all:
            say(
                f"{asked} of the {in_all} {config.evaluation.split} examples of {task.name} are asked (evaluation.examples)."
            )


def evaluate_study(study: Study, config: StudyConfig, again: bool = False) -> Study:
    """Fill ``generations`` and ``divergence`` for every checkpoint that has no rows there."""
    study, making = checked(study, config, again)
    study = _note_engine(study, config)
    unanswered = missing(study, "generations", config)
    compared = missing(study, "divergence", config)
    todo = [each for each in study_checkpoints(study, config) if each in unanswered or each in compared]
    if unanswered:
        say_left_out(study, making.task, config)
    teachers = Teacher(
        lambda name: place(load_for(config, name)),
        str(study.manifest.get("teacher") or config.teacher or config.model),
    )
    for arm, seed, step, where in tracked(todo, f"{config.name} generations"):
        loaded = teachers.known(where) or place(load_for(config, where))
        subject = _subject(loaded, config)
        origin = made_of(making.asked, str(making.checkpoint(study, arm, seed, step)))
        if (arm, seed, step, where) in unanswered:
            sampler = engine_for(config.evaluation.engine, where)
            put_answers(study, loaded, subject, arm, seed, step, origin, sampler)
            del sampler  # and the memory that it holds
        answers = _answers_of(study.table("generations"), arm, seed, step, "own")
        given = Own(loaded, subject, own_responses(answers), own_turns(answers), teachers.of(loaded, where))
        put_divergence(study, given, arm, seed, step, origin)
        del loaded, given  # before the next one comes beside it
    return study


def _note_engine(study: Study, config: StudyConfig) -> Study:
    """Write into the manifest who answers, where that is said anew: what is measured later goes by it."""
    noted = study.manifest.get("config")
    if (
        not isinstance(noted, dict)
        or (noted.get("evaluation") or {}).get("engine", OURS) == config.evaluation.engine
    ):
        return study
    told = {**noted, "evaluation": config.evaluation.model_dump(mode="json")}
    return study.update_manifest(config=told, evaluation=told["evaluation"])


def put_answers(
    study: Study,
    loaded: Loaded,
    subject: Subject,
    arm: str,
    seed: int,
    step: int,
    origin: str,
    sampler: Sampler | None = None,
) -> None:
    """Add a checkpoint's answers, asked so many at a time as fit into memory."""
    rows = fitting(subject, lambda some: behaviour_rows(loaded, some, arm, seed, step, sampler))
    study.put("generations", rows.assign(made_of=origin))


def put_divergence(study: Study, given: Own, arm: str, seed: int, step: int, origin: str) -> None:
    """Add how far apart a checkpoint's distributions are, likewise."""
    of = {"arm": arm, "seed": seed, "step": step, "made_of": origin}
    fitting(given.subject, lambda some: fill(study, analyses("evaluate"), replace(given, subject=some), **of))


def capture_study(
    study: Study,
    config: StudyConfig,
    sites_per_pass: int | None = None,
    save_states: Path | None = None,
    backend: str = "hooks",
    again: bool = False,
) -> Study:
    """Fill ``drift``, ``token_drift`` and ``cka_map``, on each checkpoint's own no-context responses or on one arm's.

    The options are those of :func:`cr_interp.measure.drift.measure_drift`; ``save_states`` is a folder that gets one of its
    own for each checkpoint. ``again`` measures checkpoints that have rows, too.
    """
    generations = study.table("generations")
    fixed = config.evaluation.responses
    if fixed != "own" and fixed not in set(generations["arm"]):
        raise unknown("arm with responses", fixed, ["own", *generations["arm"].unique()])
    study, making = checked(study, config, again)
    generations = study.table("generations")
    todo = study_checkpoints(study, config) if again else missing(study, "drift", config)
    base = place(load_for(config, study.manifest["model"])) if todo else None
    if todo:
        study = with_tokens(study, generations, fixed, anew=again)
    with tokens_progress() as bar:
        for arm, seed, step, where in todo:
            loaded = place(load_for(config, where))
            answers = _answers_of(generations, arm, seed, step, fixed)
            read = None if fixed == "own" else _digest_of_answers(making, study, answers)
            origin = made_of(making.asked, str(making.checkpoint(study, arm, seed, step)), read)
            given = Readings(
                loaded,
                _subject(loaded, config),
                own_responses(answers),
                None if arm == "base" else base,
                sites_per_pass,
                save_states / f"{arm}-s{seed}-{step}" if save_states else None,
                bar(f"{config.name} {arm} seed {seed}"),
                backend,
                own_turns(answers),
                study.manifest["example_tokens"],
            )
            at_the_end = arm == "base" or step == final_step(study.run_path(arm, seed), config.training)
            chosen = [each for each in analyses("capture") if at_the_end or not each.last_step]
            fill(study, chosen, given, arm=arm, seed=seed, step=step, made_of=origin)
            del loaded, given
    return study


def _answers_of(generations: pd.DataFrame, arm: str, seed: int, step: int, fixed: str) -> pd.DataFrame:
    """Return a checkpoint's own answers, or those of the arm ``fixed``: its first seed's, at the last step."""
    if fixed == "own":
        mine = (generations["arm"] == arm) & (generations["seed"] == seed) & (generations["step"] == step)
        return generations[mine]
    of_arm = last_step(generations[generations["arm"] == fixed])
    return of_arm[of_arm["seed"] == of_arm["seed"].min()]


def _digest_of_answers(making: Making, study: Study, answers: pd.DataFrame) -> str | None:
    """Digest the checkpoint that gave the answers."""
    arm, seed, step = answers[["arm", "seed", "step"]].iloc[0]
    return making.checkpoint(study, str(arm), int(seed), int(step))


def _subject(loaded: Loaded, config: StudyConfig) -> Subject:
    return Subject.of(study_task(config), loaded.tokenizer, config.no_context, config.evaluation)


def config_of(
    name_or_path: str, every_step: bool = False, task_file: str | None = None, engine: str | None = None
) -> tuple[Study, StudyConfig]:
    """Return a study with the configuration that made it; ``every_step`` and ``engine`` add to what that says.

    A study may come from anybody, so a Python file that it names as its task is not run: the user names it, with
    ``task_file``, or is told to.
    """
    study = open_study(name_or_path)
    if "config" not in study.manifest:
        raise UserError(f"{study.path} was not made by `distill` or `reproduce`, so it has no runs to measure.")
    config = validated(StudyConfig, study.manifest["config"], study.manifest_path)
    named = [config.model, config.teacher, study.manifest.get("model"), study.manifest.get("teacher")]
    for model in dict.fromkeys(each for each in named if each):
        here(model, f"The study {study.name}")
    if task_file is not None:
        config = config.model_copy(update={"task": task_file})
    elif Path(config.task).suffix == ".py":
        raise UserError(
            f"The task of {study.path} is the Python file {config.task}, and what a study names is not run. Name it "
            f"yourself if you trust it: --task {config.task}"
        )
    elif Path(config.task).suffix in (".yaml", ".yml") and not own(study.path, Path(config.task)):
        raise UserError(
            f"The task of {study.path} is the file {config.task}, which is not in the study's folder, and what a study "
            f"names elsewhere is not read. Name it yourself if you trust it: --task {config.task}"
        )
    elif (far := _reaching(config.task)) is not None:
        raise UserError(
            f"The task of {study.path} is the file {config.task}, {far}, which is not done for what a study names. Name it "
            f"yourself if you trust it: --task {config.task}"
        )
    if engine is not None:
        if is_address(engine):
            raise UserError(
                f"A server has one model, and a study has one for each run, so {engine} cannot answer for them. Serve one "
                f"and compare: cr-interp compare student=NAME --engine {engine} …"
            )
        evaluation = config.evaluation.model_copy(update={"engine": engine})
        config = config.model_copy(update={"evaluation": evaluation})
    return study, config.model_copy(update={"every_step": every_step or config.every_step})


def _reaching(name: str) -> str | None:
    """Say what a described task would run or ask if somebody trusted it; None for other tasks, and if it does neither."""
    task = get_task(name)
    return task.reaches_out() if isinstance(task, DescribedTask) and Path(name).is_file() else None
