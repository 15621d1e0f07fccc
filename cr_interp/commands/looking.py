"""The commands that look at a study, or send it elsewhere: nothing here loads a model, or torch."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cr_interp.errors import UserError
from cr_interp.system.notes import say
from cr_interp.system.shown import console as terminal
from cr_interp.system.visible import one_line, visible

console = terminal()


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


def workbench(
    study: Annotated[str | None, typer.Argument(help="a study's or suite's name, or its folder")] = None,
    port: Annotated[int, typer.Option(help="of this machine", min=1, max=65535)] = 8501,
) -> None:
    """Open the workbench on the studies that can be found; Ctrl-C ends it."""
    from cr_interp.system.workbench import serve

    serve(study, port)


def studies() -> None:
    """List the studies that can be found, and where."""
    from cr_interp.study.searching import find_studies

    for name, path in find_studies().items():
        console.print(f"{one_line(name):28s} {one_line(path)}", soft_wrap=True)


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
        linked = [setting for setting, each in suite.studies.items() if each.path.is_symlink()]
        copied = {target / name: each for name, each in suite.studies.items() if name not in linked}
        if linked:
            say(f"Not copied, since they are links: {', '.join(linked)} in {suite.path}.")
        if not copied:
            raise UserError(
                f"All studies of {suite.path} are links, and no link's target is copied. Export them one by one."
            )
    else:
        copied = {target: open_study(study)}
    for place, each in copied.items():
        copy(each, place, light)
        if left := links(each):
            say(f"Not copied, since they are links or no files: {', '.join(left)} in {each.path}.")
    console.print(f"{target}: {sum(f.stat().st_size for f in target.rglob('*') if f.is_file()) / 1e6:.2f} MB")


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
