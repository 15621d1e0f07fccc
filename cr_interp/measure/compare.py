"""Compare checkpoints that the user brings: the same measurements as for our own, written as a study."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cr_interp.capture.sites import blocks
from cr_interp.clock import VARIABLE, date_of
from cr_interp.errors import UserError, unknown
from cr_interp.measure.asked import asked_parts, made_of
from cr_interp.measure.divergence import Own, Teacher
from cr_interp.measure.in_process_vllm import InProcessVllm
from cr_interp.measure.pairs import OURS, choose_task, is_address, parse_pairs
from cr_interp.measure.readings import Readings
from cr_interp.measure.served import compare_served
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, behaviour_rows, own_responses, own_turns, with_tokens
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, fingerprint, open_model, resolve, tokenizer_fingerprint
from cr_interp.models.named_models import model_digest, tokenizer_of
from cr_interp.models.templates import fix_template
from cr_interp.progress import tokens_progress
from cr_interp.provenance import now, provenance
from cr_interp.study.analyses import analyses, fill
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes, digest_of
from cr_interp.system.names import check_folder
from cr_interp.system.notes import say
from cr_interp.tasks.base import Task
from cr_interp.tasks.yours.own import OwnTask
from cr_interp.views import NoContext


def compare_checkpoints(
    checkpoints: Sequence[str],
    out: Path,
    task: str | None = None,
    prompts: Path | None = None,
    context: Path | None = None,
    examples: int = 256,
    max_new_tokens: int = 32,
    no_context: Any = "empty_system",
    again: bool = False,
    today: str | None = None,
    engine: str = OURS,
) -> Study:
    """Measure ``ARM=MODEL`` pairs on a built-in task, a task file, or prompts and a context of the user's own.

    ``today`` is the date for a chat template that reads the clock. ``engine`` answers: ``transformers``, ``vllm`` in this process
    (states are read here all the same), or the address of a server (``served.py``: behaviour only). Returns the study.

    Raises :class:`UserError` for a malformed pair, a missing file, a task that does not exist, a context that is in neither view,
    checkpoints whose tokenizers differ from the first one's, or a folder with a study of something else.
    """
    models = parse_pairs(checkpoints)
    chosen = choose_task(task, prompts, context, max_new_tokens)
    if no_context not in ("empty_system", "template_default"):
        raise UserError(f"no_context is 'empty_system' or 'template_default', not '{no_context}'.")
    n = min(examples, len(chosen.examples("test")))
    evaluation = Evaluation(
        examples=n, controls=("exact",) if isinstance(chosen, OwnTask) else Evaluation().controls
    )
    if is_address(engine):
        return compare_served(models, chosen, evaluation, out, engine, no_context, task, again)
    template: dict[str, bool | int | str] = {} if today is None else {VARIABLE: today}

    def opened(name: str) -> Loaded:
        loaded = open_model(name)
        fix_template(loaded, template)
        return loaded

    return measure_checkpoints(
        models,
        chosen,
        evaluation,
        out,
        no_context,
        opened,
        named=task,
        template=template,
        again=again,
        engine=engine,
    )


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
    """Evaluate and capture the models (arm → name), and write a study; called again, it continues.

    ``teacher`` is the model that fidelity is to; None: the arm ``base``, if there is one.

    If ``evaluation.responses`` names an arm, all are read on that one's responses. Maps ``across`` checkpoints are against
    the first that is measured, which stays in memory for them. ``opened`` loads a model by its name; ``how`` it does that, and
    the variables of the chat ``template`` that it fixes, belong to what the study is made of, as does the task as it was
    ``named``. What was begun with anything else is refused, or with ``again`` begun anew.
    """
    check_folder(out)
    fixed = None if evaluation.responses == "own" else evaluation.responses
    if fixed is not None and fixed not in models:
        raise unknown("checkpoint with responses", fixed, ["own", *models])
    order = sorted(models, key=lambda arm: arm != fixed)
    in_all = len(task.examples(evaluation.split))
    if evaluation.examples < in_all:
        say(
            f"{evaluation.examples} of {in_all} examples of {task.name} are asked, drawn with seed {evaluation.seed}; "
            f"--examples {in_all} asks all."
        )
    tokenizer_first = tokenizer_of(models[order[0]], template)
    subject = Subject.of(task, tokenizer_first, no_context, evaluation)
    if day := date_of(tokenizer_first):
        template = {**(template or {}), VARIABLE: day}
    asked = asked_parts(subject, named or task.name, no_context, template)
    taught = teacher or models.get("base")
    if taught is None:
        say(
            "Fidelity is left out, for no teacher is known: call the model before training base=MODEL, or name one with "
            "--teacher."
        )
    if engine != OURS:
        how = {**(how or {}), "engine": engine}
    if teacher is not None:
        how = {**(how or {}), "teacher": model_digest(teacher)}
    teachers = Teacher(lambda name: place(opened(name)), taught)
    files = {arm: model_digest(where) for arm, where in models.items()}
    parts = {
        **asked,
        "list of checkpoints": [f"{arm}={where}" for arm, where in models.items()],
        **{f"checkpoint of {arm}": digest for arm, digest in files.items()},
        "across": across,
        **(how or {}),
    }
    told = {"task": task.name, "no_context": no_context, "evaluation": evaluation.model_dump(mode="json")}
    study = _begun(out, told, parts, again)
    first: Loaded | None = None
    # All have to have answered before the first is measured, on how many tokens depends on the shortest answers.
    phases = (True,) if fixed or len(models) == 1 else (False, True)
    with tokens_progress() as bar:
        for measuring, arm in ((phase, arm) for phase in phases for arm in order):
            where = models[arm]
            if measuring and len(phases) > 1 and not across:
                teachers.forget()
            if not measuring and study is not None and _answered(study, arm) and _has(study, "divergence", arm):
                continue
            arms = study.manifest["arms"] if study else {}
            if arms.get(arm, {}).get("model") == where:
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
                study = Study.create(out, manifest | seen)
            if tokenizer != study.manifest["tokenizer_fingerprint"]:
                raise UserError(
                    f"{where} ({arm}) has another tokenizer or chat template than the first checkpoint, so their views "
                    f"cannot be compared token by token. Give checkpoints of one model family."
                )
            ends = sorted(loaded.eos_ids)
            if ends != study.manifest.get("ends", ends):
                raise UserError(
                    f"{where} ({arm}) ends its turns with {_words(loaded, ends)}, the checkpoints before it with "
                    f"{_words(loaded, study.manifest['ends'])}, so their answers would be cut in different places. "
                    f"Give all the same eos_token_id in generation_config.json."
                )
            if not _answered(study, arm):
                sampler = InProcessVllm(str(resolve(where))) if engine == "vllm" else None
                rows = behaviour_rows(loaded, subject, arm, 0, 0, sampler)
                del sampler  # and the memory that it holds
                study.put("generations", rows.assign(made_of=made_of(asked, files[arm])))
            if not _has(study, "divergence", arm):
                answers = study.table("generations")
                answers = answers[answers["arm"] == arm]
                own = Own(loaded, subject, own_responses(answers), own_turns(answers), teachers.of(loaded, where))
                fill(
                    study, analyses("evaluate"), own, arm=arm, seed=0, step=0, made_of=made_of(asked, files[arm])
                )
                del own
            if not measuring:
                continue
            generations = study.table("generations")
            study = with_tokens(study, generations, fixed or "own")
            if across and first is None and arm != order[0]:  # it was measured before a stop
                first = teachers.known(models[order[0]]) or place(opened(models[order[0]]))
            # Layers of models of unlike depth have no counterparts.
            alike = first is not None and len(blocks(first.model)) == len(blocks(loaded.model))
            answers = generations[generations["arm"] == (fixed or arm)]
            given = Readings(
                loaded, subject, own_responses(answers), first if alike else None, sites_per_pass, progress=bar(arm),
                turns=own_turns(answers), example_tokens=study.manifest["example_tokens"],
            )  # fmt: skip
            origin = made_of(asked, files[arm], files[fixed] if fixed else None)
            fill(study, analyses("capture"), given, arm=arm, seed=0, step=0, made_of=origin)
            if across and arm == order[0]:
                first = loaded
            about = {"model": where, "fingerprint": fingerprint(loaded.model, loaded.tokenizer)}
            study = study.update_manifest(arms={**arms, arm: about})
            del loaded, given  # before the next one comes beside it
    assert study is not None
    return study.update_manifest(finished=now())


def _answered(study: Study, arm: str) -> bool:
    return _has(study, "generations", arm)


def _has(study: Study, table: str, arm: str) -> bool:
    return study.has_table(table) and arm in set(study.table(table)["arm"].unique())


def _begun(out: Path, told: Mapping[str, Any], parts: Parts, again: bool) -> Study | None:
    """The study that was begun in a folder, if one was; not one that is finished or measures something else.

    ``again`` begins anew instead of refusing; the tables go first, so that a stop leaves a study that is refused.
    """
    if not (out / "manifest.json").is_file():
        if any((out / "tables").glob("*.parquet")):
            raise UserError(
                f"{out} holds tables but no manifest.json. Give another folder with --out, or remove it first."
            )
        return None
    study = Study.open(out)
    study.sweep()
    before = study.manifest.get("made_of")
    if isinstance(before, dict):
        differing = changes(before, parts)
    else:  # of before this was noted
        differing = changes({name: study.manifest.get(name) for name in told}, told)
    finished = bool(study.manifest.get("finished"))
    if not finished and not differing:
        return study
    if again and (study.path / "runs").exists():
        raise UserError(
            f"{out} holds a study with runs of its own, which is not measured anew here. Give another folder."
        )
    if again:
        for table in sorted((out / "tables").glob("*.parquet")):
            table.unlink()
        (out / "manifest.json").unlink()
        return None
    if finished:
        raise UserError(
            f"{out} already holds a finished study"
            + (f", made with another {', another '.join(differing)}" if differing else "")
            + "; give another folder with --out, or type the command with --again to measure it anew."
        )
    raise UserError(
        f"{out} holds a study that was begun with another {', another '.join(differing)}. Give another folder with --out, or "
        f"type the command with --again to begin it anew."
    )


def _words(loaded: Loaded, ids: Sequence[int]) -> str:
    """Tokens as they are written."""
    return ", ".join(map(str, loaded.tokenizer.convert_ids_to_tokens(list(ids))))
