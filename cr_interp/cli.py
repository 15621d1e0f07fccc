"""``cr-interp``: the command line.

Commands that only look at models and studies are here; those that train are plugged in by ``training.commands``, so that
this package never imports the trainer. A :class:`UserError` is
printed as one paragraph and ends with exit code 2.
"""

import io
import json
import os
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from cr_interp.errors import Slower, UserError
from cr_interp.system.disk import refusal
from cr_interp.system.house import put_first
from cr_interp.system.notes import say
from cr_interp.system.shown import console as terminal
from cr_interp.system.stopping import MESSAGE, Stopped, end_with_parent, raise_on_signals
from cr_interp.system.visible import one_line, paragraph, visible

#: The exit code of what Ctrl-C has ended, as shells have it: 128 and the signal's number.
_INTERRUPTED = 130

app = typer.Typer(
    name="cr-interp",
    help="What a privileged context still does to a model that is supposed to have internalised it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = terminal()
_format_warning = warnings.formatwarning


#: Results of two experiments are never mixed in one study.
Again = Annotated[
    bool, typer.Option("--again", help="measure anew what is finished or was begun with something else")
]


@app.command()
def table(
    study: Annotated[str, typer.Argument(help="a study's or suite's folder, or its name on the search paths")],
    as_json: Annotated[
        bool, typer.Option("--json", help="a list of {arm, seed, metric, estimate, low, high, n, interval}")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="as in the README")] = False,
    seeds: Annotated[bool, typer.Option("--seeds", help="a row per seed as well")] = False,
    flips: Annotated[
        bool, typer.Option("--flips", help="whether an example's drift tells that its answer flips, by layer")
    ] = False,
    control: Annotated[str, typer.Option(help="exact, paraphrase, mismatched or irrelevant")] = "exact",
    interval: Annotated[
        str,
        typer.Option(help="over seeds: across (other seeds, t; where there are two) or within (other examples)"),
    ] = "across",
) -> None:
    """Print the metrics of a study, or of a suite of studies, with their intervals."""
    from cr_interp.report.study import markdown_study, rich_study
    from cr_interp.study.searching import open_study
    from cr_interp.tables.behaviour import metrics_json
    from cr_interp.tables.estimates import kind_named
    from cr_interp.tables.metrics import metric_table
    from cr_interp.tables.suite import is_suite

    kind = kind_named(interval)
    if is_suite(study) and flips:
        raise UserError(f"--flips is of one setting: cr-interp table {study}/SETTING --flips.")
    if is_suite(study):
        _suite_table(study, as_json, markdown, seeds, control, kind)
        return
    opened = open_study(study)
    if flips:
        _flips_table(opened)
    elif as_json:
        print(json.dumps(metrics_json(metric_table(opened, control, kind)), indent=1))
    elif markdown:
        print(visible(markdown_study(opened, control, kind)))
    else:
        console.print(rich_study(opened, control, seeds, f"{opened.name} (context: {control})", kind))


def _flips_table(study: Any) -> None:
    from cr_interp.report.trained import rich_flips

    found = rich_flips(study)
    if found is None:
        raise UserError(
            f"{study.path} does not say whether drift tells flips: that takes the tables token_drift and generations, and a run "
            f"in which some answers flip and others do not."
        )
    console.print(found)


def _suite_table(name: str, as_json: bool, markdown: bool, seeds: bool, control: str, kind: Any) -> None:
    from cr_interp.report.suite import markdown_suite, rich_suite, suite_json
    from cr_interp.tables.suite import open_suite, suite_table

    suite = open_suite(name)
    if as_json:
        print(json.dumps(suite_json(suite_table(suite, control, kind)), indent=1))
    elif markdown:
        print(visible(markdown_suite(suite, control, interval=kind)))
    elif seeds:
        one = next(iter(suite.studies))
        raise UserError(
            f"A suite's table is over seeds. Single seeds are in `cr-interp table {name} --json`, and in the table of "
            f"one setting: cr-interp table {name}/{one} --seeds."
        )
    else:
        console.print(rich_suite(suite, control, interval=kind))


@app.command()
def controls(
    study: Annotated[str, typer.Argument(help="a study's folder or name")],
    measure: Annotated[str, typer.Option(help="cosine, centred_cosine, cka, cka_examples, …")] = "cosine",
    layers: Annotated[bool, typer.Option("--layers", help="every layer, not each arm's worst")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="as in the README")] = False,
) -> None:
    """Print a measure under every context control, its floor, and the drift relative to that floor."""
    from cr_interp.study.searching import open_study
    from cr_interp.tables.controls import PLAIN, control_table, markdown_controls, rich_controls, worst
    from cr_interp.tables.methods import formerly

    opened = open_study(study)
    drift = opened.table("drift")
    table = control_table(drift, measure)
    if measure in PLAIN:
        title = f"{opened.name}: {measure}\nno value of it is best, so no layer is worst: every layer; means over seeds"
    else:
        table = table if layers else worst(table)
        title = f"{opened.name}: {measure}" + ("" if layers else ", each arm's worst layer relative to its floor")
        title += "\nrel.: times as far as another token, as distances; means over seeds, no interval"
    if markdown:
        print(visible(markdown_controls(table)))
    else:
        console.print(rich_controls(table, title))
    if (earlier := formerly(drift, measure)) is not None:
        print(earlier)


@app.command("app")
def workbench(
    study: Annotated[str | None, typer.Argument(help="a study's or suite's name, or its folder")] = None,
    port: Annotated[int, typer.Option(help="of this machine", min=1, max=65535)] = 8501,
) -> None:
    """Open the workbench on the studies that can be found; Ctrl-C ends it."""
    from cr_interp.system.workbench import serve

    serve(study, port)


@app.command()
def studies() -> None:
    """List the studies that can be found, and where."""
    from cr_interp.study.searching import find_studies

    for name, path in find_studies().items():
        console.print(f"{one_line(name):28s} {one_line(path)}", soft_wrap=True)


@app.command()
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
        checkpoints, out, task, prompts, context, examples, max_new_tokens, no_context, again, today, engine, each=each,
        columns=columns, grader=grader, new_instruction=new_instruction, controls=controls, teacher=teacher,
        responses=responses, dtype=dtype, device_map=device_map,
    )  # fmt: skip
    console.print(rich_study(study))


@app.command()
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


@app.command()
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

    chosen = [each.name for each in analyses("explain", _listed(names))]
    if not all(seed.isdecimal() and len(seed) < 16 for seed in _listed(seeds)):
        raise UserError(f"--seeds is a list of whole numbers, such as 0,1,2; found '{seeds}'.")
    opened = open_study(study)
    from cr_interp.mechanism.explain import Options
    from cr_interp.mechanism.explain import explain as run
    from cr_interp.report.mechanism import printed

    options = Options(
        groups=_listed(groups), examples=examples, sites=_listed(sites), spans=_listed(spans), readers=_listed(readers),
        cuts=_numbers(cuts, "--cuts"), cuts_all=_numbers(cuts_all, "--cuts-all"),
        heads=heads, windows=_numbers(windows, "--windows"), batch_size=batch_size,
        backend=backend, prompts=prompts,
    )  # fmt: skip
    opened = run(
        opened, chosen, _listed(arms), [int(seed) for seed in _listed(seeds)], options, again, every_step
    )
    for table in printed(opened, chosen):
        console.print(table)


def _numbers(text: str | None, option: str) -> list[int]:
    if not all(part.isdecimal() and len(part) < 16 for part in _listed(text)):
        raise UserError(f"{option} is a list of whole numbers, such as 1,2; found '{str(text)[:80]}'.")
    return [int(part) for part in _listed(text)]


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


@app.command()
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


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="a study's or a suite's folder or name")],
    target: Annotated[Path, typer.Argument(help="a new folder")],
    light: Annotated[
        bool, typer.Option("--light", help="without token_drift, and every tenth training step only")
    ] = False,
) -> None:
    """Copy a study, or all of a suite, without checkpoints: tables and logs, small enough to share."""
    from cr_interp.study.exporting import check_target, links
    from cr_interp.study.exporting import export as copy
    from cr_interp.study.searching import open_study
    from cr_interp.tables.suite import is_suite, open_suite

    if is_suite(study):
        suite = open_suite(study)
        check_target(target, suite.path)
        copied = {target / setting: each for setting, each in suite.studies.items()}
    else:
        copied = {target: open_study(study)}
    for place, each in copied.items():
        copy(each, place, light)
        if left := links(each):
            say(f"Not copied, since they are links or no files: {', '.join(left)} in {each.path}.")
    console.print(f"{target}: {sum(f.stat().st_size for f in target.rglob('*') if f.is_file()) / 1e6:.2f} MB")


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="a study's folder or name")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file, such as report.html or report.md")],
    form: Annotated[
        str | None, typer.Option("--format", help="html or md; default: by the file's ending")
    ] = None,
) -> None:
    """Write a study as one file to send: its verdict with its limits, figures, flips, controls, where it comes from."""
    from cr_interp.report.sending import write_report
    from cr_interp.study.searching import open_study
    from cr_interp.tables.suite import is_suite, open_suite

    if is_suite(study):
        one = next(iter(open_suite(study).studies))
        raise UserError(
            f"A report is of one study, and {study} is a suite. Name one of its studies: {study}/{one}."
        )
    path = write_report(open_study(study), out, form)
    console.print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


@app.command()
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


def _version(asked: bool) -> None:
    if asked:
        console.print(f"cr-interp {version('cr-interp')}")
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """What a privileged context still does to a model that is supposed to have internalised it."""


def plug_in() -> None:
    """Add the commands that train. They live in a package of their own, which this one never imports by name."""
    put_first()
    import_module("training.commands").register(app)


def _as_a_sentence(message: Any, category: type[Warning], *where: Any, **line: Any) -> str:
    """Say what is right and slower to people, without the line of code that says it."""
    if issubclass(category, Slower):
        return f"note: {message}\n"
    return _format_warning(message, category, *where, **line)


def main() -> None:
    """Run the command line; see the module's first lines for what errors look like."""
    end_with_parent()
    raise_on_signals()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.formatwarning = _as_a_sentence
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no minus sign, and no Chinese
    try:
        plug_in()
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer has caught Ctrl-C, and gives the code back
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        print(f"error: {paragraph(error)}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print(MESSAGE, file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Stopped as stopped:
        print(MESSAGE, file=sys.stderr)
        sys.exit(stopped.code)
    except OSError as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"error: {paragraph(told)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        # typer raises its usage errors when not standalone; they know how to print themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise


if __name__ == "__main__":
    main()
