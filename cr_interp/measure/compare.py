"""Compare checkpoints that the user brings: evaluate and capture each, and write a study like a trained one.

Mental model. :func:`compare_checkpoints` turns typed words into a task, contexts and models. :func:`measure_checkpoints` goes
through the models twice. First all answer, because example-level CKA compares as many tokens of each response in every arm,
and that number depends on the shortest answers. Then the states of each are measured. ``continued.py`` decides what a folder
already holds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cr_interp.capture.sites import blocks
from cr_interp.clock import VARIABLE, date_of
from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import asked_parts, made_of
from cr_interp.measure.continued import (
    answers_of,
    begun,
    digest,
    earlier,
    finished,
    first_of_all,
    has,
    note_checkpoint,
    noted,
    warn_of_truncation,
)
from cr_interp.measure.divergence import Own, Teacher
from cr_interp.measure.evaluate import Sampler
from cr_interp.measure.fitting import fitting
from cr_interp.measure.in_process_vllm import engine_for
from cr_interp.measure.pairs import OURS, Question, arm_and_seed, choose_task, is_address, parse_pairs
from cr_interp.measure.readings import Readings
from cr_interp.measure.served import compare_served
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, behaviour_rows, own_responses, own_turns, with_tokens
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, fingerprint, open_model, tokenizer_fingerprint
from cr_interp.models.named_models import model_digest, tokenizer_of
from cr_interp.models.templates import fix_template
from cr_interp.progress import tokens_progress
from cr_interp.provenance import now, provenance
from cr_interp.study.analyses import analyses, fill
from cr_interp.study.study import Study
from cr_interp.system.digests import digest_of, flat
from cr_interp.system.names import check_folder
from cr_interp.system.notes import say
from cr_interp.tasks.base import Task
from cr_interp.tasks.yours.own import OwnTask
from cr_interp.views import NoContext

DTYPES = ("float32", "bfloat16", "float16")


def compare_checkpoints(
    checkpoints: Sequence[str],
    out: Path,
    task: str | None = None,
    prompts: Path | str | None = None,
    context: Path | None = None,
    examples: int = 256,
    max_new_tokens: int | None = None,
    no_context: Any = "empty_system",
    again: bool = False,
    today: str | None = None,
    engine: str = OURS,
    *,
    each: str | None = None,
    columns: Mapping[str, str] | None = None,
    grader: str | None = None,
    new_instruction: str | None = None,
    controls: Path | None = None,
    teacher: str | None = None,
    responses: str = "own",
    dtype: str = "float32",
    device_map: str | None = None,
) -> Study:
    """Measure ``ARM=MODEL`` (or ``ARM@SEED=MODEL``) pairs on a built-in task, a task file, or rows of the user's own.

    ``task`` to ``max_new_tokens`` and ``each`` to ``controls`` say what is asked: :class:`~cr_interp.measure.pairs.Question`.
    ``today`` is the date for a chat template that reads the clock. ``teacher`` is the model that fidelity is measured against
    (default: the arm ``base``). ``responses`` names the arm on whose answers all arms' drift is measured (default: each arm's
    own). Arms that a finished study does not have are added to it.

    ``engine`` says who answers: ``transformers``; ``vllm`` in this process, while states are read here; or the address of a
    server, which gives behaviour only (``served.py``).

    Returns the study. Raises :class:`UserError` for a malformed pair, a missing file, a task that does not exist, a context
    that reaches neither view, checkpoints whose tokenizers differ, or a folder with a study of something else.

    >>> from tempfile import TemporaryDirectory
    >>> import cr_interp as cr
    >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     study = cr.compare_checkpoints(
    ...         ["base=builtin:organism-rules"], Path(folder) / "mine", task="rules:shift", examples=4
    ...     )
    ...     table = cr.metric_table(study)
    base ... tok/s ...
    >>> table.set_index("metric")["estimate"][["acc_x", "acc_xc"]].unique().tolist()      # without and with the context
    [0.0, 1.0]
    """
    models = parse_pairs(checkpoints)
    asked = Question(
        task,
        None if prompts is None else str(prompts),
        context,
        each,
        columns or {},
        grader,
        new_instruction,
        controls,
        max_new_tokens,
    )
    chosen = choose_task(asked)
    if no_context not in ("empty_system", "template_default"):
        raise UserError(f"no_context is 'empty_system' or 'template_default', not '{no_context}'.")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if isinstance(chosen, OwnTask):
        for told in chosen.read_notes:
            say(f"{told}.")
    n = min(examples, len(chosen.examples("test")))
    only = isinstance(chosen, OwnTask) and chosen.context is not None and not chosen.others
    evaluation = Evaluation(
        examples=n, controls=("exact",) if only else Evaluation().controls, responses=responses
    )
    if is_address(engine):
        return compare_served(models, chosen, evaluation, out, engine, no_context, task, again)
    template: dict[str, bool | int | str] = {} if today is None else {VARIABLE: today}
    placed: dict[str, Any] = {"device_map": device_map} if device_map else {}

    def opened(name: str) -> Loaded:
        loaded = open_model(name, getattr(torch, dtype), **placed)
        fix_template(loaded, template)
        return loaded

    load = {
        name: value
        for name, value in (("dtype", dtype), ("device_map", device_map))
        if value not in (None, "float32")
    }
    study = measure_checkpoints(
        models,
        chosen,
        evaluation,
        out,
        no_context,
        opened,
        named=task,
        how=flat(load, "load."),
        template=template,
        again=again,
        teacher=teacher,
        engine=engine,
    )
    if load:
        study = study.update_manifest(load=load)
    return study


def measure_checkpoints(
    models: Mapping[str, str],
    task: Task,
    evaluation: Evaluation,
    out: Path,
    no_context: NoContext = "empty_system",
    opened: Callable[[str], Loaded] = open_model,
    across: bool = True,
    sites_per_pass: int | None = None,
    named: str | None = None,
    how: Mapping[str, Any] | None = None,
    template: Mapping[str, bool | int | str] | None = None,
    again: bool = False,
    teacher: str | None = None,
    engine: str = OURS,
) -> Study:
    """Evaluate and capture the models (arm → name), and write a study. Called again, continue where it stopped.

    ``teacher`` is the model that fidelity is measured against; None: the arm ``base``, if there is one. If
    ``evaluation.responses`` names an arm, all models are read on that arm's responses. With ``across`` each checkpoint gets a
    map against the first that is measured, which stays in memory meanwhile.

    ``opened`` loads a model by its name. ``how`` it is loaded, the variables of the chat ``template``, and the task's name
    (``named``) belong to what the study is made of. A folder that holds a study of anything else is refused, or begun anew
    with ``again``.
    """
    check_folder(out)
    before = None if again else finished(out)
    typed = next(iter(models))
    if before is not None:  # what is new is added to it
        models = {**earlier(before), **models}
    fixed = None if evaluation.responses == "own" else evaluation.responses
    arms = list(dict.fromkeys(arm_and_seed(name)[0] for name in models))
    if fixed is not None and fixed not in arms:
        raise unknown("checkpoint with responses", fixed, ["own", *arms])
    order = sorted(models, key=lambda name: arm_and_seed(name)[0] != fixed)
    in_all = len(task.examples(evaluation.split))
    if evaluation.examples < in_all:
        say(
            f"{evaluation.examples} of {in_all} examples of {task.name} are asked, drawn with seed {evaluation.seed}; "
            f"--examples {in_all} asks all."
        )
    taught = teacher or models.get("base") or models.get("base@0")
    if taught is None:
        say(
            "Fidelity is left out, for no teacher is known: call the model before training base=MODEL, or name one with "
            "--teacher."
        )
    new = [] if before is None else [name for name in order if name not in earlier(before)]
    tokenizer_first = tokenizer_of(models[order[0] if before is None else typed], template)
    subject = Subject.of(task, tokenizer_first, no_context, evaluation)
    if day := date_of(tokenizer_first):
        template = {**(template or {}), VARIABLE: day}
    asked = asked_parts(subject, named or task.name, no_context, template)
    if engine != OURS:
        how = {**(how or {}), "engine": engine}
    if teacher is not None:
        how = {**(how or {}), "teacher": model_digest(teacher)}
    teachers = Teacher(lambda name: place(opened(name)), taught)
    files = {name: digest(before, name, models[name]) for name in models}
    parts = {
        **asked,
        "list of checkpoints": [f"{name}={where}" for name, where in models.items()],
        **{f"checkpoint of {name}": found for name, found in files.items()},
        "across": across,
        **(how or {}),
    }
    told = {"task": task.name, "no_context": no_context, "evaluation": evaluation.told()}
    study = begun(out, told, parts, again, new)
    first: Loaded | None = None
    # All models answer before the first is measured: the number of tokens compared depends on the shortest answers.
    phases = (True,) if fixed or len(models) == 1 else (False, True)
    with tokens_progress() as bar:
        for measuring, name in ((phase, name) for phase in phases for name in order):
            where = models[name]
            arm, seed = arm_and_seed(name)
            if measuring and len(phases) > 1 and not across:
                teachers.forget()
            if (
                study is not None
                and not measuring
                and all(has(study, t, arm, seed) for t in ("generations", "divergence"))
            ):
                continue
            if study is not None and noted(study, name) == where:
                continue
            loaded = teachers.known(where) or place(opened(where))
            tokenizer = tokenizer_fingerprint(loaded.tokenizer)
            subject = Subject.of(task, loaded.tokenizer, no_context, evaluation)
            if study is None:
                manifest = {
                    "name": out.name,
                    "created": now(),
                    "finished": None,
                    **provenance(),
                    **told,
                    "arms": {},
                    "teacher": taught,
                    "examples_in_all": in_all,
                    "made_of": parts,
                    "asked": {digest_of(asked): asked},
                }
                context = subject.contexts["exact"].to_dict()
                seen = {
                    "seeds": [0],
                    "tokenizer_fingerprint": tokenizer,
                    "context": context,
                    "date": day,
                    "ends": sorted(loaded.eos_ids),
                }
                if len(subject.contexts) > 1:
                    seen["controls"] = {control: each.to_dict() for control, each in subject.contexts.items()}
                study = Study.create(out, manifest | seen)
            if tokenizer != study.manifest["tokenizer_fingerprint"]:
                raise UserError(
                    f"{where} ({name}) has another tokenizer or chat template than the first checkpoint, so their views "
                    f"cannot be compared token by token. Give checkpoints of one model family."
                )
            ends = sorted(loaded.eos_ids)
            if ends != study.manifest.get("ends", ends):
                raise UserError(
                    f"{where} ({name}) ends its turns with {_words(loaded, ends)}, the checkpoints before it with "
                    f"{_words(loaded, study.manifest['ends'])}, so their answers would be cut in different places. "
                    f"Give all the same eos_token_id in generation_config.json."
                )
            origin = made_of(asked, files[name])
            if not has(study, "generations", arm, seed):
                sampler = engine_for(engine, where)
                rows = _put_answers(study, loaded, subject, arm, seed, origin, sampler)
                del sampler  # and the memory that it holds
                warn_of_truncation(rows, name, loaded, task)
            if not has(study, "divergence", arm, seed):
                _put_divergence(study, loaded, subject, arm, seed, origin, teachers.of(loaded, where))
            if not measuring:
                continue
            generations = study.table("generations")
            study = with_tokens(study, generations, fixed or "own")
            if across and first is None and name != order[0]:  # it was measured before
                first = first_of_all(models[order[0]], order[0], teachers, lambda path: place(opened(path)))
            # There is no map between models of different depth: their layers have no counterparts.
            alike = first is not None and len(blocks(first.model)) == len(blocks(loaded.model))
            answers = answers_of(generations, fixed or arm, None if fixed else seed)
            given = Readings(
                loaded,
                subject,
                own_responses(answers),
                first if alike else None,
                sites_per_pass,
                progress=bar(name),
                turns=own_turns(answers),
                example_tokens=study.manifest["example_tokens"],
            )
            _put_readings(
                study, given, arm, seed, made_of(asked, files[name], files[order[0]] if fixed else None)
            )
            if across and name == order[0]:
                first = loaded
            study = note_checkpoint(study, name, where, fingerprint(loaded.model, loaded.tokenizer))
            del loaded, given  # before the next one comes beside it
    assert study is not None
    notes: list[str] = getattr(task, "notes", list)()
    for each in notes:
        say(f"{each}.")
    return study.update_manifest(finished=now(), **({"grading": {"notes": notes}} if notes else {}))


def _put_answers(
    study: Study, loaded: Loaded, subject: Subject, arm: str, seed: int, origin: str, sampler: Sampler | None
) -> pd.DataFrame:
    rows = fitting(subject, lambda some: behaviour_rows(loaded, some, arm, seed, 0, sampler))
    study.put("generations", rows.assign(made_of=origin))
    return rows


def _put_divergence(
    study: Study, loaded: Loaded, subject: Subject, arm: str, seed: int, origin: str, teacher: Loaded | None
) -> None:
    answers = answers_of(study.table("generations"), arm, seed)
    own = Own(loaded, subject, own_responses(answers), own_turns(answers), teacher)
    place_of = {"arm": arm, "seed": seed, "step": 0, "made_of": origin}
    fitting(subject, lambda some: fill(study, analyses("evaluate"), replace(own, subject=some), **place_of))


def _put_readings(study: Study, given: Readings, arm: str, seed: int, origin: str) -> None:
    place_of = {"arm": arm, "seed": seed, "step": 0, "made_of": origin}
    fitting(
        given.subject, lambda some: fill(study, analyses("capture"), replace(given, subject=some), **place_of)
    )


def _words(loaded: Loaded, ids: Sequence[int]) -> str:
    """Spell token ids as the tokenizer's vocabulary does."""
    return ", ".join(map(str, loaded.tokenizer.convert_ids_to_tokens(list(ids))))
