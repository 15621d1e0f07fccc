"""Compare checkpoints that the user brings: the same measurements as for our own, written as a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cr_interp.drift import measure_drift
from cr_interp.errors import UserError
from cr_interp.measure import Evaluation, Subject, behaviour_rows, own_responses
from cr_interp.models import Loaded, fingerprint, load, tokenizer_fingerprint
from cr_interp.progress import tracked
from cr_interp.provenance import now, provenance
from cr_interp.sites import blocks
from cr_interp.study import Study
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Task
from cr_interp.tasks.own import OwnTask, read_context, read_prompts


def compare_checkpoints(
    checkpoints: Sequence[str],
    out: Path,
    task: str | None = None,
    prompts: Path | None = None,
    context: Path | None = None,
    examples: int = 256,
    max_new_tokens: int = 32,
    no_context: Any = "empty_system",
) -> Study:
    """Measure ``ARM=MODEL`` pairs on a built-in task, a task file, or prompts and a context of the user's own.

    Returns the study. Raises :class:`UserError` for a malformed pair, a missing file, a task that does not exist, or
    checkpoints whose tokenizers differ from the first one's.
    """
    models = parse_pairs(checkpoints)
    chosen = choose_task(task, prompts, context, max_new_tokens)
    if no_context not in ("empty_system", "template_default"):
        raise UserError(f"no_context is 'empty_system' or 'template_default', not '{no_context}'.")
    if (out / "manifest.json").is_file() and Study.open(out).manifest.get("finished"):
        raise UserError(
            f"{out} already holds a finished study; give another folder with --out, or remove it first."
        )
    n = min(examples, len(chosen.examples("test")))
    evaluation = Evaluation(
        examples=n, controls=("exact",) if isinstance(chosen, OwnTask) else Evaluation().controls
    )
    manifest: dict[str, Any] = {
        "name": out.name, "created": now(), "finished": None, **provenance(), "task": chosen.name,
        "no_context": no_context, "arms": {}, "seeds": [0], "evaluation": evaluation.model_dump(mode="json"),
    }  # fmt: skip
    study: Study | None = None
    first: str | None = None
    base: Loaded | None = None
    for arm, where in tracked(list(models.items()), "comparing"):
        loaded = load(where)
        tokenizer = tokenizer_fingerprint(loaded.tokenizer)
        if first is not None and tokenizer != first:
            raise UserError(
                f"{where} ({arm}) has another tokenizer or chat template than the first checkpoint, so their views "
                f"cannot be compared token by token. Give checkpoints of one model family."
            )
        subject = Subject.of(chosen, loaded.tokenizer, no_context, evaluation)
        if study is None:
            first = tokenizer
            manifest |= {"tokenizer_fingerprint": tokenizer, "context": subject.contexts["exact"].to_dict()}
            study = Study.create(out, manifest)
        generations = behaviour_rows(loaded, subject, arm, 0, 0)
        study.put("generations", generations)
        # Maps across checkpoints are against the first one, where it has as many layers.
        same = base is not None and len(blocks(base.model)) == len(blocks(loaded.model))
        found = measure_drift(loaded, subject, own_responses(generations), base if same else None)
        found.labelled(arm=arm, seed=0, step=0).put(study)
        base = base or loaded
        manifest["arms"][arm] = {"model": where, "fingerprint": fingerprint(loaded.model, loaded.tokenizer)}
        study = study.update_manifest(arms=manifest["arms"])
    assert study is not None
    return study.update_manifest(finished=now())


def parse_pairs(checkpoints: Sequence[str]) -> dict[str, str]:
    """``["base=PATH", …]`` → arm → model.

    >>> parse_pairs(["base=builtin:organism-llama"])
    {'base': 'builtin:organism-llama'}
    """
    models: dict[str, str] = {}
    for pair in checkpoints:
        arm, equals, where = pair.partition("=")
        if not (arm and equals and where) or arm in models:
            raise UserError(
                f"'{pair}' is not ARM=MODEL with a new arm; write for example base=PATH opd=PATH nca=PATH."
            )
        models[arm] = where
    if not models:
        raise UserError("Nothing to compare: give at least one ARM=MODEL.")
    return models


def choose_task(task: str | None, prompts: Path | None, context: Path | None, max_new_tokens: int) -> Task:
    if task is not None and prompts is None and context is None:
        return get_task(task, run_code=True)  # somebody has just typed it
    if task is None and prompts is not None and context is not None:
        return OwnTask(prompts.stem, read_prompts(prompts), read_context(context), max_new_tokens)
    raise UserError("Say what to ask: either --task NAME, or both --prompts FILE.jsonl and --context FILE.")
