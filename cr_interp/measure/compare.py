"""Compare checkpoints that the user brings: evaluate and capture each, and write a study like a trained one.

Mental model. :func:`compare_checkpoints` turns typed words into a task, contexts and models. :func:`measure_checkpoints` goes
through the models twice. First all answer, because example-level CKA compares as many tokens of each response in every arm,
and that number depends on the shortest answers. Then the states of each are measured. ``continued.py`` decides what a folder
already holds, and ``comparing.py`` takes one model at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cr_interp.clock import VARIABLE, date_of
from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import asked_parts
from cr_interp.measure.comparing import Comparison
from cr_interp.measure.continued import LIST, begun, digest, earlier, finished
from cr_interp.measure.divergence import Teacher
from cr_interp.measure.pairs import OURS, Question, arm_and_seed, choose_task, is_address, parse_pairs
from cr_interp.measure.served import compare_served
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, open_model
from cr_interp.models.named_models import model_digest, tokenizer_of
from cr_interp.models.templates import fix_template
from cr_interp.progress import tokens_progress
from cr_interp.provenance import now
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
    order = _order(models, fixed)
    in_all = _say_how_many(task, evaluation)
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
    files = {name: digest(before, name, models[name]) for name in models}
    parts = {
        **asked,
        LIST: [f"{name}={where}" for name, where in models.items()],
        **{f"checkpoint of {name}": found for name, found in files.items()},
        "across": across,
        **(how or {}),
        **({"engine": engine} if engine != OURS else {}),
        **({"teacher": model_digest(teacher)} if teacher is not None else {}),
    }
    told = {"task": task.name, "no_context": no_context, "evaluation": evaluation.told()}

    def placed(name: str) -> Loaded:
        return place(opened(name))

    comparison = Comparison(
        models=models,
        order=order,
        files=files,
        task=task,
        no_context=no_context,
        evaluation=evaluation,
        asked=asked,
        told={
            **told,
            "arms": {},
            "teacher": taught,
            "examples_in_all": in_all,
            "made_of": parts,
            "asked": {digest_of(asked): asked},
            "date": day,
        },
        out=out,
        opened=placed,
        teachers=Teacher(placed, taught),
        fixed=fixed,
        across=across,
        sites_per_pass=sites_per_pass,
        engine=engine,
        study=begun(out, told, parts, again, new),
    )
    return _finished(_compared(comparison), task)


def _order(models: Mapping[str, str], fixed: str | None) -> list[str]:
    """Order the names as they are measured: first the arm on whose responses all are read, if there is one."""
    arms = list(dict.fromkeys(arm_and_seed(name)[0] for name in models))
    if fixed is not None and fixed not in arms:
        raise unknown("checkpoint with responses", fixed, ["own", *arms])
    return sorted(models, key=lambda name: arm_and_seed(name)[0] != fixed)


def _say_how_many(task: Task, evaluation: Evaluation) -> int:
    """Count a task's examples, and say so if not all are asked."""
    in_all = len(task.examples(evaluation.split))
    if evaluation.examples < in_all:
        say(
            f"{evaluation.examples} of {in_all} examples of {task.name} are asked, drawn with seed {evaluation.seed}; "
            f"--examples {in_all} asks all."
        )
    return in_all


def _compared(comparison: Comparison) -> Study:
    """Have all models answer before the first is measured: the number of tokens compared depends on the shortest answers."""
    answers_first = not comparison.fixed and len(comparison.order) > 1
    with tokens_progress() as bar:
        for name in comparison.order if answers_first else ():
            comparison.answer(name)
        for name in comparison.order:
            if answers_first and not comparison.across:
                comparison.teachers.forget()
            comparison.measure(name, bar)
    assert comparison.study is not None
    return comparison.study


def _finished(study: Study, task: Task) -> Study:
    """Note that all is measured, and say what grading has to tell."""
    notes: list[str] = getattr(task, "notes", list)()
    for each in notes:
        say(f"{each}.")
    return study.update_manifest(finished=now(), **({"grading": {"notes": notes}} if notes else {}))
