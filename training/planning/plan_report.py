"""A plan as a person reads it: the lengths, the memory of one GPU by part, the work, the hours on every kind of GPU."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cr_interp.system.shown import PlainTable, literal
from training.planning.architecture import Architecture
from training.planning.duration import BANDWIDTH, COMPUTE, USABLE
from training.planning.plan import GIB, Plan

#: When its parts are there, and the parts' names in :class:`~training.planning.memory.Memory`.
PARTS = (
    ("throughout", ("weights", "gradients", "optimiser", "teacher", "gathered")),
    ("in the update", ("activations", "head")),
    ("in the rollouts", ("rollout",)),
    ("in the evaluation", ("evaluation",)),
)
#: Of work: the first that a run reaches.
UNITS = ((1e15, "10¹⁵ "), (1e12, "10¹² "), (1e9, "10⁹ "), (1, ""))


def plan_text(plan: Plan) -> RenderableType:
    return Group(*_head(plan), _memory(plan), _work(plan), _hours(plan), *_small_print(plan), *_problems(plan))


def _head(plan: Plan) -> Iterator[Text]:
    config, lengths, tokens = plan.config, plan.lengths, plan.tokens
    yield literal(f"{config.name}: {config.task}", style="bold")
    yield literal(f"student  {config.model}, {_counted(plan.student)}")
    own = "the student before training"
    yield literal(f"teacher  {f'{config.teacher}, {_counted(plan.teacher)}' if config.teacher else own}")
    turns = f"{lengths.turns} turns of " if lengths.turns > 1 else ""
    yield literal(
        f"a step   {config.training.batch_size} × {turns}({lengths.prompt} prompt + {lengths.response} response) tokens behind "
        f"{lengths.context} of context: {tokens['response']:,} response tokens, {tokens['no_context']:,} in the view without "
        f"and {tokens['with_context']:,} in the view with context"
    )
    yield literal(
        f"runs     {', '.join(config.arms)} × seeds {', '.join(map(str, config.seeds))}, {config.training.steps} steps each; a "
        f"checkpoint with its optimizer takes {_short(plan.checkpoint / GIB)} GiB, {config.training.keep_checkpoints} a run kept"
    )


def _counted(shape: Architecture) -> str:
    count = shape.parameters
    return f"{count / 1e9:.2f} billion parameters" if count >= 1e9 else f"{count / 1e6:.2f} million parameters"


def _memory(plan: Plan) -> Table:
    spread, training, parts = plan.spread, plan.config.training, plan.memory.table()
    unit, name = (GIB, "GiB") if plan.memory.total >= GIB else (2**20, "MiB")
    how = f"{'sharded over ' if spread.sharded else ''}{spread.gpus} × {plan.gpu}"
    options = [f"micro-batch {spread.micro_batch}"]
    options += [option for option in ("bf16", "gradient_checkpointing", "lora") if getattr(training, option)]
    options += [f"{option} {value}" for option in ("top_k", "chunk") if (value := getattr(training, option))]
    title = f"Memory per GPU at most, {name} ({how}; {', '.join(options)})"
    table = PlainTable(title, title_justify="left")
    table.add_column("when")
    table.add_column("part")
    table.add_column(name, justify="right")
    for when, names in PARTS:
        for i, part in enumerate(names):
            table.add_row(when if i == 0 else "", part, f"{parts[part] / unit:.2f}")
    verdict = "fits" if plan.fits else "does not fit"
    table.add_row(
        "peak", f"{verdict}, at {USABLE:.0%} of its memory", f"{plan.memory.total / unit:.2f}", style="bold"
    )
    return table


def _short(value: float) -> str:
    """Write two digits or more, never an exponent for what has digits in front."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def _work(plan: Plan) -> Table:
    unit, name = next((u, n) for u, n in UNITS if max(plan.run_operations.values()) >= u or u == 1)
    table = PlainTable(f"Work, {name}floating-point operations", title_justify="left")
    table.add_column("arm")
    parts = list(dict.fromkeys(part for work in plan.step_operations.values() for part in work))
    for part in (*parts, "a step", "a run"):
        table.add_column(part, justify="right")
    for arm, work in plan.step_operations.items():
        cells = [_short(work[part] / unit) if part in work else "–" for part in parts]
        table.add_row(arm, *cells, _short(sum(work.values()) / unit), _short(plan.run_operations[arm] / unit))
    return table


def _hours(plan: Plan) -> Table:
    table = PlainTable("Estimated hours, evaluation included", title_justify="left")
    for name in ("GPU", "number", "weights", "micro-batch", "dearest run", "all runs"):
        table.add_column(name, justify="left" if name == "GPU" else "right")
    for row in plan.hours:
        if row["number"] is None:
            table.add_row(row["gpu"], "does not fit", "–", "–", "–", "–")
        else:
            table.add_row(
                row["gpu"],
                str(row["number"]),
                "sharded" if row["sharded"] else "whole",
                str(row["micro_batch"]),
                _short(row["hours_a_run"]),
                _short(row["hours_in_all"]),
            )
    return table


def _small_print(plan: Plan) -> Iterator[Text]:
    yield literal(
        f"Estimates for responses and contexts as long as they may be. Assumed: {COMPUTE:.0%} of the published 16-bit throughput "
        f"in updates, {BANDWIDTH:.0%} of the memory bandwidth in rollouts, which an engine with whole weights writes. Nothing "
        f"here has been measured on a GPU.",
        style="dim",
    )
    if plan.spread.sharded:
        yield literal(
            "Sharded weights read the context once a row (training.share_prefix=false), and the teacher is held whole; both "
            "are counted above. In the rollouts every layer is gathered for every token, which is not. With training.lora a run "
            "may fit on one GPU, and a server can write the responses (training.vllm).",
            style="yellow",
        )


def _problems(plan: Plan) -> Iterator[Text]:
    if not plan.problems:
        yield literal(
            "The configuration is sound as far as can be seen without its data and weights.", style="green"
        )
    for problem in plan.problems:
        yield literal(f"Problem: {problem}", style="red")
