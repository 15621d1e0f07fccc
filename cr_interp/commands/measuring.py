"""The commands that load a model: what is typed is checked before torch is."""

from pathlib import Path
from typing import Annotated

import typer

from cr_interp.commands.typed import listed, whole_numbers
from cr_interp.system.shown import console as terminal

console = terminal()

#: Results of two experiments are never mixed in one study.
Again = Annotated[
    bool, typer.Option("--again", help="measure anew what is finished or was begun with something else")
]


def compare(
    checkpoints: Annotated[
        list[str], typer.Argument(help="ARM=MODEL, for example base=… opd=… nca=…; with seeds opd@0=… opd@1=…")
    ],
    out: Annotated[Path, typer.Option(help="the study's folder")],
    task: Annotated[str | None, typer.Option(help="a built-in task, or a task file (.yaml, .py)")] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="rows with prompts: JSONL, CSV, Parquet, or a hub dataset as owner/name:split"),
    ] = None,
    context: Annotated[
        Path | None, typer.Option(help="one for all: .txt (a system message) or .json (messages, splice)")
    ] = None,
    each: Annotated[
        str | None, typer.Option(help="a context of each row, filled from its fields, such as 'Hint: {hint}'")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="what a column is called, such as prompt=question (repeatable)")
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(
            help="contains, boxed, regex:…, json:FILE, language:de, python:FILE:FUNCTION, judge:FILE, …"
        ),
    ] = None,
    new_instruction: Annotated[
        str | None, typer.Option(help="a grader of whether the 'mismatched' context is obeyed")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option(help="YAML with further contexts: paraphrase, mismatched, irrelevant")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="the model that fidelity is to; default: the arm base")
    ] = None,
    responses: Annotated[str, typer.Option(help="read all on this arm's answers; own: each on its own")] = "own",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    device_map: Annotated[str | None, typer.Option(help="auto spreads layers over the devices there are")] = None,
    examples: Annotated[int, typer.Option(help="at most so many examples", min=1, max=10**8)] = 256,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="longest response; default: the task's, 32 with --prompts", min=1, max=10**8),
    ] = None,
    no_context: Annotated[str, typer.Option(help="empty_system or template_default")] = "empty_system",
    again: Again = False,
    today: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD, for a chat template that writes the date; fixed if not given")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="who answers: transformers, vllm (in this process), or a server's address, http://…/v1"
        ),
    ] = "transformers",
) -> None:
    """Evaluate and capture checkpoints of your own, and write a study that the app opens."""
    from cr_interp.measure.pairs import Question, choose_task, is_address, parse_columns, parse_pairs

    parse_pairs(checkpoints)  # what is typed wrongly is said before the seconds that torch takes
    is_address(engine)
    columns = parse_columns(column or [])
    choose_task(
        Question(task, prompts, context, each, columns, grader, new_instruction, controls, max_new_tokens)
    )
    from cr_interp.measure.compare import compare_checkpoints
    from cr_interp.report.study import rich_study

    study = compare_checkpoints(
        checkpoints,
        out,
        task,
        prompts,
        context,
        examples,
        max_new_tokens,
        no_context,
        again,
        today,
        engine,
        each=each,
        columns=columns,
        grader=grader,
        new_instruction=new_instruction,
        controls=controls,
        teacher=teacher,
        responses=responses,
        dtype=dtype,
        device_map=device_map,
    )
    console.print(rich_study(study))


def case_study(
    config: Annotated[
        Path, typer.Argument(help="a YAML file: task, checkpoints, …; see cr_interp/measure/case_study.py")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as examples=128")] = None,
    out: Annotated[Path | None, typer.Option(help="the study's folder; default studies/NAME")] = None,
    again: Again = False,
) -> None:
    """Read several checkpoints on the same responses: every layer, every control, one figure."""
    from cr_interp.measure.case_study import case_study as measure
    from cr_interp.measure.case_study import read_case_study
    from cr_interp.report.case_study import summary, write_page
    from cr_interp.report.study import plain_table

    chosen = read_case_study(config, overrides or [])
    study = measure(chosen, out or Path("studies") / chosen.name, again)
    write_page(study)
    console.print(plain_table(summary(study), f"{chosen.name}: the layer that moves most"))
    console.print(f"{study.path / 'case-study.html'}")


def explain(
    study: Annotated[str, typer.Argument(help="a study's folder or name; its checkpoints have to be there")],
    names: Annotated[
        str | None, typer.Option("--analyses", help="a list, such as patching; default: all")
    ] = None,
    arms: Annotated[str | None, typer.Option(help="a list, such as opd,nca; default: all")] = None,
    seeds: Annotated[str | None, typer.Option(help="a list, such as 0,1,2; default: all")] = None,
    groups: Annotated[
        str, typer.Option(help="of answers: harmed, rescued, kept, changed")
    ] = "harmed,rescued,kept",
    examples: Annotated[int, typer.Option(min=1, max=10**8, help="at most so many of each group")] = 64,
    sites: Annotated[str, typer.Option(help="a list of kinds of sites")] = "resid_post,attn_out,mlp_out",
    heads: Annotated[
        int,
        typer.Option(
            min=0, max=10**6, help="so many heads are patched, those that attribution names first; 0: none"
        ),
    ] = 16,
    windows: Annotated[
        str | None, typer.Option(help="layers that are patched at once, such as 1,2,4; default: 2,4")
    ] = None,
    spans: Annotated[
        str, typer.Option(help="of the context, that knockout cuts off")
    ] = "context,system,turns,splice,template",
    readers: Annotated[
        str, typer.Option(help="who loses them: aligned (the prompt still reads them), all")
    ] = "aligned,all",
    cuts: Annotated[str, typer.Option(help="in how many layers at once, a list; 0: in all")] = "1,0",
    cuts_all: Annotated[str, typer.Option(help="… where all tokens lose the span, which costs more")] = "0",
    batch_size: Annotated[
        int, typer.Option(min=1, max=10**6, help="examples at a time; fewer need less memory")
    ] = 64,
    backend: Annotated[str, typer.Option(help="hooks, transformer_lens or nnsight")] = "hooks",
    prompts: Annotated[
        int, typer.Option("--training-examples", min=8, max=10**8, help="for directions, probes and gradients")
    ] = 128,
    every_step: Annotated[
        bool, typer.Option("--every-step", help="updates and gradients also of checkpoints on the way")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="also checkpoints that have rows")] = False,
) -> None:
    """Say why answers flip: fill a study's tables of mechanism. Typed again, it continues where it was stopped."""
    from cr_interp.study.analyses import analyses
    from cr_interp.study.searching import open_study

    chosen = [each.name for each in analyses("explain", listed(names))]
    numbers = whole_numbers(seeds, "--seeds")
    opened = open_study(study)
    from cr_interp.mechanism.explain import Options
    from cr_interp.mechanism.explain import explain as run
    from cr_interp.report.mechanism import printed

    options = Options(
        groups=listed(groups),
        examples=examples,
        sites=listed(sites),
        spans=listed(spans),
        readers=listed(readers),
        cuts=whole_numbers(cuts, "--cuts", "1,2"),
        cuts_all=whole_numbers(cuts_all, "--cuts-all", "1,2"),
        heads=heads,
        windows=whole_numbers(windows, "--windows", "1,2"),
        batch_size=batch_size,
        backend=backend,
        prompts=prompts,
    )
    opened = run(opened, chosen, listed(arms), numbers, options, again, every_step)
    for table in printed(opened, chosen):
        console.print(table)


def new_task(
    name: Annotated[str, typer.Argument(help="letters, digits, - and _")],
    python: Annotated[bool, typer.Option("--python", help="in code, not in data")] = False,
    out: Annotated[Path | None, typer.Option(help="a new folder; default ./NAME")] = None,
) -> None:
    """Write a task of your own to start from, with a study of it that runs as written."""
    from cr_interp.tasks.yours.new import new_task as write

    folder = out or Path(name)
    for path in write(name, folder, python):
        console.print(str(path))
    console.print(f"Now: cr-interp reproduce {folder / 'study.yaml'}")


def check(
    model: Annotated[str, typer.Argument(help="a hub id, a checkpoint's or adapter's folder, or builtin:…")],
    backend: Annotated[
        list[str] | None, typer.Option(help="only this capture backend (repeatable); all by default")
    ] = None,
    longest: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**7,
            help="tokens of the longest sequence: boundaries beyond it are skipped, and said to be",
        ),
    ] = 2048,
) -> None:
    """Check that what is captured from a model is what its name says; exit code 1 if anything fails."""
    from cr_interp.capture.check import check_model, check_table
    from cr_interp.models.loading import open_model

    loaded = open_model(model)
    checks = check_model(loaded.model, loaded.pad_id, backend, longest)
    console.print(check_table(checks, loaded.name))
    if any(found.status == "fail" for found in checks):
        raise SystemExit(1)
