"""What a run will need, and whether its configuration is sound: from the file alone, nothing is downloaded or loaded.

Mental model: lengths (as long as the configuration allows) and shapes (from a table, or a local config.json) go into the
formulas of ``work.py``, ``memory.py`` and ``duration.py``. :func:`make_plan` collects their results for the dearest arm: for
one kind of GPU in detail, for all in a table. It plans what the trainer here does with the options that the file sets: whole
weights on every GPU (DDP) where they fit, else sharded ones (FSDP2), which read the context once a row. Every number is an
estimate, and the largest that can be expected: real responses are mostly shorter than their cap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cr_interp.errors import UserError
from cr_interp.tasks.base import Task
from training.objectives import arm_terms
from training.planning.architecture import Architecture, architecture_of
from training.planning.at_hand import (
    adapter_problems,
    context_problems,
    engine_problems,
    logger_problems,
    row_problems,
)
from training.planning.duration import USABLE, Gpu, computing, gpu, gpus, writing
from training.planning.memory import Memory, Sizes, adapter_parameters, step_memory
from training.planning.work import Lengths, readings, step
from training.settings import StudyConfig
from training.task_of import study_task

GIB = 2**30
#: How many GPUs are tried, fewest first.
NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128)
#: Tokens of a prompt where nothing says how long they are, and of a context without a cap.
PROMPT, CONTEXT = 256, 512


@dataclass(frozen=True)
class Spread:
    """The spread of a run: over ``gpus``, each of which holds all weights or, ``sharded``, its part of them, and reads
    ``micro_batch`` examples at a time."""

    gpus: int
    sharded: bool
    micro_batch: int


@dataclass(frozen=True)
class Plan:
    """Memory in bytes, work in floating-point operations, time in hours; see the fields' names for of what."""

    config: StudyConfig
    student: Architecture
    teacher: Architecture
    lengths: Lengths
    problems: list[str]
    spread: Spread
    gpu: str
    fits: bool
    memory: Memory
    tokens: dict[str, int]
    step_operations: dict[str, dict[str, int]]
    """arm → part → operations."""
    run_operations: dict[str, int]
    checkpoint: int
    """Bytes: what is trained and its two moments in float32."""
    hours: list[dict[str, Any]]
    """A row per kind of GPU: ``gpu, number, micro_batch, hours_a_run, hours_in_all``; ``number`` null if 128 do not do."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for ``--json``."""
        return {
            "name": self.config.name,
            "problems": self.problems,
            "parameters": {"student": self.student.parameters, "teacher": self.teacher.parameters},
            "lengths": self.lengths.__dict__,
            "gpu": self.gpu,
            "spread": self.spread.__dict__,
            "fits": self.fits,
            "memory_bytes_per_gpu": self.memory.table(),
            "tokens_a_step": self.tokens,
            "flops_a_step": self.step_operations,
            "flops_a_run": self.run_operations,
            "checkpoint_bytes": self.checkpoint,
            "runs": len(self.config.arms) * len(self.config.seeds),
            "hours": self.hours,
        }


def make_plan(
    config: StudyConfig,
    on: str = "H100-80GB",
    number: int | None = None,
    prompt: int | None = None,
    context: int | None = None,
    response: int | None = None,
) -> Plan:
    """Plan a configuration on ``number`` GPUs of a kind (null: the fewest that do).

    ``prompt``, ``context`` and ``response`` are tokens, ``prompt`` of what a turn adds; null is the cap that is set, else
    :data:`PROMPT` and :data:`CONTEXT`. Raises
    :class:`UserError` for shapes, GPUs, arms and terms that are not known; what else would stop a run is in ``problems``.
    """
    student, teacher = architecture_of(config.model), architecture_of(config.teacher or config.model)
    problems, task = check(config, student, teacher)
    known = response or config.max_new_tokens or (task.max_new_tokens if task else None)
    response = known or CONTEXT
    context = config.context_cap if context is None else context
    # What is only assumed cannot be wrong.
    # A turn reads all that was shown before it, and is a sequence of its own: the last one is the longest.
    turns = config.max_turns
    problems += too_long(Lengths(prompt * turns if prompt else 1, known or 1, context or 0), student, teacher)
    longest, average = (prompt or PROMPT) * turns, (prompt or PROMPT) * (turns + 1) // 2
    lengths = Lengths(average, response, CONTEXT if context is None else context, turns)
    training, rows = config.training, config.training.batch_size
    terms = {arm: arm_terms(arm, config.own_arms) for arm in config.arms}

    def shares(spread: Spread) -> bool:
        return training.share_prefix and not spread.sharded

    def work(spread: Spread) -> dict[str, dict[str, int]]:
        return {
            arm: step(t, student, teacher, training, lengths, spread.micro_batch, shares(spread))
            for arm, t in terms.items()
        }

    once = work(Spread(1, False, rows))
    dearest = terms[max(once, key=lambda arm: sum(once[arm].values()))]

    def needs(spread: Spread) -> Memory:
        own, shared = longest + response, lengths.context if shares(spread) else 0
        sequences = spread.micro_batch * turns
        return step_memory(
            student,
            Sizes(sequences, response, own, own + lengths.context - shared, 0, shared),
            dearest,
            training,
            teacher if config.teacher else None,
            spread.gpus,
            spread.sharded,
            min(training.eval_examples, config.evaluation.batch_size),
        )

    def fitting(kind: Gpu, numbers: Sequence[int]) -> Spread | None:
        """Find the fewest GPUs, whole weights before sharded ones, and then the largest micro-batch that leaves room."""
        for n in numbers:
            for sharded in (False, True) if n > 1 else (False,):
                for micro in micro_batches(rows, n, training.micro_batch):
                    spread = Spread(n, sharded, micro)
                    if needs(spread).total <= kind.memory * GIB * USABLE:
                        return spread
        return None

    possible = [n for n in NUMBERS if micro_batches(rows, n, training.micro_batch)]
    numbers = possible if number is None else [number]
    if number is not None and not micro_batches(rows, number, training.micro_batch):
        cut = f" in micro-batches of {training.micro_batch}" if training.micro_batch else ""
        problems.append(f"A batch of {rows} cannot be divided among {number} GPUs{cut}.")
    hours = []
    for name, kind in gpus().items():
        spread = fitting(kind, numbers)
        found: dict[str, Any] = {"gpu": name, "number": None, "sharded": None, "micro_batch": None}
        if spread is not None:
            a_run = [
                run_seconds(config, student, lengths, w, kind, spread.gpus) / 3600 for w in work(spread).values()
            ]
            found |= {"number": spread.gpus, "sharded": spread.sharded, "micro_batch": spread.micro_batch}
            found |= {"hours_a_run": max(a_run), "hours_in_all": sum(a_run) * len(config.seeds)}
        hours.append(found)
    chosen = fitting(gpu(on), numbers)
    spread = chosen or Spread(numbers[-1], numbers[-1] > 1, training.micro_batch or 1)
    operations = work(spread)
    return Plan(
        config,
        student,
        teacher,
        lengths,
        problems,
        spread,
        on,
        chosen is not None,
        needs(spread),
        {
            "response": rows * lengths.aligned,
            "no_context": rows * lengths.own,
            "with_context": rows * lengths.own
            + readings(training, lengths, spread.micro_batch, shares(spread)) * lengths.context,
        },
        operations,
        {arm: training.steps * sum(w.values()) for arm, w in operations.items()},
        12 * (adapter_parameters(student, training.lora) if training.lora else student.parameters),
        hours,
    )


def micro_batches(rows: int, gpus: int, fixed: int | None) -> list[int]:
    """List micro-batches that divide a step's ``rows`` among so many GPUs, largest first; ``fixed`` is the only one if it is
    set.
    """
    if rows % gpus:
        return []
    mine = rows // gpus
    return [micro for micro in range(mine, 0, -1) if mine % micro == 0 and fixed in (None, micro)]


def run_seconds(
    config: StudyConfig, student: Architecture, lengths: Lengths, work: dict[str, int], on: Gpu, number: int
) -> float:
    """Estimate the seconds of one run and its evaluation: updates at the rate of computing, responses at the rate of writing."""
    training, evaluation = config.training, config.evaluation
    update = computing(sum(work.values()) - work["rollouts"], on, number)
    seconds = training.steps * (update + writing(student, training.batch_size, lengths, on, number))
    looks = training.steps // training.eval_every + 1
    for with_context in (False, True):
        seconds += looks * writing(student, training.eval_examples, lengths, on, number, with_context)
        views = len(evaluation.controls) if with_context else 1
        asked = evaluation.examples * evaluation.samples
        seconds += views * writing(student, asked, lengths, on, number, with_context)
    return seconds


def check(config: StudyConfig, student: Architecture, teacher: Architecture) -> tuple[list[str], Task | None]:
    """Say what would stop a run of this configuration, and its task if there is one. Names and ranges are checked on reading."""
    problems: list[str] = []
    task: Task | None = None
    try:
        task = study_task(config)
    except UserError as error:
        problems.append(str(error))
    if student.vocabulary != teacher.vocabulary:
        problems.append(
            f"Student and teacher have vocabularies of {student.vocabulary} and {teacher.vocabulary} tokens, so their "
            f"distributions cannot be compared. Take a teacher with the same tokenizer."
        )
    if config.training.top_k is not None and config.training.top_k < 2:
        problems.append("top_k below 2: renormalised over one token, every loss is 0 for ever. Use 2 or more.")
    if "exact" not in config.evaluation.controls:
        problems.append("evaluation.controls lacks 'exact', which every metric needs.")
    if len(set(config.seeds)) < len(config.seeds) or len(set(config.arms)) < len(config.arms):
        problems.append("A seed or an arm is listed twice.")
    if config.evaluation.responses not in ("own", "base", *config.arms):
        problems.append(
            f"evaluation.responses names '{config.evaluation.responses}', which is no arm of the study."
        )
    problems += [
        *logger_problems(config),
        *adapter_problems(config),
        *engine_problems(config),
        *((*context_problems(config, task), *row_problems(config, task)) if task else ()),
    ]
    return problems, task


def too_long(lengths: Lengths, student: Architecture, teacher: Architecture) -> list[str]:
    positions = min(shape.positions or 10**9 for shape in (student, teacher))
    needed = lengths.context + lengths.own
    if needed <= positions:
        return []
    return [
        f"The longest with-context sequence has {needed} tokens ({lengths.context} of context, {lengths.own} of prompt and "
        f"response), but the model has {positions} positions. Lower context_cap or max_new_tokens, or plan with the real "
        f"lengths (--context-tokens, --response-tokens)."
    ]
