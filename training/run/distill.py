"""One run: distil one arm with one seed into a study, or continue where a killed run stopped."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from cr_interp.errors import UserError
from cr_interp.measure.evaluate import evaluate
from cr_interp.measure.subject import label
from cr_interp.models.adapters import check_base
from cr_interp.models.devices import chosen_device
from cr_interp.models.forward import vocabulary
from cr_interp.models.generation import Decoding
from cr_interp.models.loading import Loaded, tokenizer_fingerprint
from cr_interp.study.places import checkpoint_of
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts
from cr_interp.system.notes import say
from cr_interp.system.visible import paragraph
from cr_interp.tables.behaviour import metrics
from cr_interp.tasks.base import Example, TakesTurns, Task, before
from cr_interp.views import Given, check_context_shows, check_fits, render
from training.objectives import Term, arm_terms
from training.run import parallel
from training.run.checkpoints import latest_checkpoint, passed_over, step_of, sweep_run
from training.run.cores import use_threads
from training.run.episodes import Episodes
from training.run.lora import base_fingerprint, refuse_adapter, with_adapter
from training.run.made_of import Making, note, refuse_other
from training.run.plateau import final_step
from training.run.precision import frozen_dtype
from training.run.prompts import rendered
from training.run.rollouts import LocalRollouts, Rollouts
from training.run.step import Prompt
from training.run.subject import check_cap, exact_context, load_for
from training.run.trainer import DistillTrainer
from training.run.vllm_rollouts import ServerRollouts, connect
from training.settings import LOGGERS, StudyConfig
from training.task_of import study_task, training_examples

#: So many seconds a run waits for another process to let go of it: one that was killed is gone a moment later.
PATIENCE = 3.0


def validation(task: Task, context: Given, config: StudyConfig) -> Any:
    """Evaluate what is looked at during training: the metrics of both views on validation examples, greedily decoded."""
    n = config.training.eval_examples
    examples = task.examples("validation", n, seed=0)

    def measure(student: Loaded) -> dict[str, float | None]:
        rows = evaluate(
            student,
            task,
            examples,
            {"exact": context},
            config.no_context,
            batch_size=config.evaluation.batch_size,
        )
        table = metrics(
            label(rows, arm="run", seed=0, step=0, split="validation"), split="validation", resamples=1
        )
        found = table[table["seed"].notna()].set_index("metric")["estimate"]
        cut = rows[rows["outcome"] == "truncated"]["view"].value_counts()
        counts = {"truncated_x": int(cut.get("no_context", 0)), "truncated_xc": int(cut.get("with_context", 0))}
        return (
            {name: None if value != value else float(value) for name, value in found.items()} | counts | {"n": n}
        )

    return measure


def load_pair(config: StudyConfig) -> tuple[Loaded, Loaded]:
    """Load student and teacher; without a teacher of its own, a study's teacher is the frozen initial student.

    With an adapter to be trained that is the student itself, for which there needs to be no second copy.

    Raises :class:`UserError` if the two have different tokenizers, chat templates or numbers of rows in the LM head.
    """
    chosen = config.training
    frozen = frozen_dtype(chosen.bf16)
    student = load_for(config, config.model, frozen if chosen.lora else torch.float32)
    refuse_adapter(student)
    if chosen.lora and config.teacher in (None, config.model):
        return student, student
    teacher = load_for(config, config.teacher or config.model, frozen)
    if tokenizer_fingerprint(student.tokenizer) != tokenizer_fingerprint(teacher.tokenizer):
        raise UserError(
            f"Student {config.model} and teacher {config.teacher} have different tokenizers or chat templates, so "
            f"the teacher cannot score the student's tokens. Take a teacher with the same tokenizer."
        )
    if set(student.eos_ids) != set(teacher.eos_ids):
        found = [
            ", ".join(map(str, each.tokenizer.convert_ids_to_tokens(sorted(each.eos_ids))))
            for each in (student, teacher)
        ]
        raise UserError(
            f"Student {config.model} ends its turns with {found[0]}, teacher {config.teacher} with {found[1]}. Where the teacher "
            f"ends, the student would be made to go on, and its responses would only grow. Give both the same eos_token_id in "
            f"generation_config.json."
        )
    rows = vocabulary(student.model), vocabulary(teacher.model)
    if rows[0] != rows[1]:  # models of one family pad their heads to different lengths
        raise UserError(
            f"The LM heads of student {config.model} and teacher {config.teacher} have {rows[0]} and {rows[1]} rows, so their "
            f"distributions cannot be compared, though the tokenizer is the same. Take a teacher with as many rows, or give "
            f"both the same number (transformers' resize_token_embeddings, then save_pretrained)."
        )
    return student, teacher


def end_logging(loggers: Sequence[str]) -> None:
    """End W&B's run with ours: its integration joins one that is open, so a process's second run would be written into it."""
    if "wandb" in loggers and (wandb := sys.modules.get("wandb")):
        wandb.finish()


def is_finished(study: Study, arm: str, seed: int, config: StudyConfig) -> bool:
    run_path = study.run_path(arm, seed)
    last = latest_checkpoint(run_path)
    return last is not None and step_of(last) == final_step(run_path, config.training)


def distill(config: StudyConfig, arm: str, seed: int, study: Study, callbacks: Sequence[Any] = ()) -> Path:
    """Train, from the last checkpoint if there is one, and return the final checkpoint's folder."""
    run_path = study.run_path(arm, seed)
    terms = arm_terms(arm, config.own_arms)
    use_threads(config.threads)
    if not parallel.is_main():  # the main process holds the lock for all
        return _train(config, arm, seed, study, terms, callbacks)
    parts = Making(config).run(arm, seed)
    refuse_other(run_path, parts)
    if is_finished(study, arm, seed, config):
        return checkpoint_of(run_path, final_step(run_path, config.training))
    run_path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_path / ".lock")
    try:
        lock.acquire(timeout=PATIENCE)  # the system lets go of it when the process ends, however it ends
    except Timeout as error:
        raise UserError(
            f"Another process is training {arm} with seed {seed} in {run_path}. Wait for it, or stop it first."
        ) from error
    with lock:
        if not latest_checkpoint(run_path):
            note(run_path, parts)
        return _train(config, arm, seed, study, terms, callbacks, parts)


def _train(
    config: StudyConfig,
    arm: str,
    seed: int,
    study: Study,
    terms: Sequence[Term],
    callbacks: Sequence[Any],
    parts: Parts | None = None,
) -> Path:
    run_path = study.run_path(arm, seed)
    with parallel.main_first():
        sweep_run(run_path)
    task = study_task(config)
    # Before anything is loaded, since it may be told that there is none; on the device where the student is going to be.
    server = (
        connect(config.training.vllm, chosen_device()) if config.training.vllm and parallel.is_main() else None
    )
    student, teacher = load_pair(config)
    if parallel.is_main() and (told := passed_over(run_path)):
        say(told)
    last = latest_checkpoint(run_path)
    if config.training.lora:
        adapted = with_adapter(student, config.training.lora, seed)
        teacher = adapted if teacher is student else teacher
        student = adapted
        if last:
            check_base(last, config.model, base_fingerprint(student.model))
    context = exact_context(task, student, config)
    chosen = config.training

    def in_both_views(text: str, example: Example) -> Prompt:
        def ids(given: Given | None) -> list[int]:
            return render(student.tokenizer, text, before(example, given), config.no_context)

        return Prompt(text, ids(None), ids(context))

    examples = training_examples(task, chosen.steps * chosen.batch_size, seed)
    check_cap(context, student, config, examples)
    prompts = rendered(parts, examples, in_both_views)
    check_context_shows(
        student.tokenizer, [p.no_context for p in prompts], [p.with_context for p in prompts], "exact"
    )
    longest = max(len(prompt.with_context) for prompt in prompts) + task.max_new_tokens
    check_fits(longest, student.max_positions, "The longest with-context sequence")
    decoding = Decoding(task.max_new_tokens, chosen.temperature, batch_size=chosen.batch_size)
    rollouts: Rollouts
    if chosen.vllm:
        rollouts = ServerRollouts(server, decoding)
    else:
        rollouts = LocalRollouts(decoding, seed, None if chosen.share_prefix else 0, chosen.bf16)
    episodes = None
    if isinstance(task, TakesTurns):
        episodes = Episodes(task, examples, in_both_views, chosen.batch_size)
    try:
        trainer = DistillTrainer(
            student,
            teacher,
            prompts,
            terms,
            rollouts,
            chosen,
            run_path,
            seed,
            validation(task, context, config),
            callbacks=list(callbacks),
            report_to=list(config.report_to),
            run_name=f"{config.name} {arm} seed {seed}",
            episodes=episodes,
        )
    except (RuntimeError, ValueError) as error:
        if not config.report_to:
            raise
        raise UserError(
            f"The Trainer cannot report to {', '.join(config.report_to)}: {error} Install that logger, or leave report_to out."
        ) from error
    if last:  # it was evaluated before it was written, if that was due
        trainer.args.eval_on_start = False
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except Exception as error:
        packages = {package for name in config.report_to for package in LOGGERS[name]}
        if type(error).__module__.partition(".")[0] in packages:  # one that wants a login, say
            raise UserError(
                f"A logger of report_to refused: {paragraph(error, 300)} Set that logger up, or leave report_to out."
            ) from error
        raise
    finally:
        end_logging(config.report_to)
    return checkpoint_of(run_path, final_step(run_path, chosen))
