"""The report's section on mechanism: of every analysis that ``cr-interp explain`` has made, its figure and its printed table.

Mental model: :data:`SHOWN` names for a table its heading, its figures and what ``explain`` prints of it. A table that is there
and is not named here is listed under its name, so that a reader knows what else the study holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures.directions import direction_effects, directions
from cr_interp.figures.flips import flips
from cr_interp.figures.gradients import gradients
from cr_interp.figures.probes import probes
from cr_interp.figures.updates import updates
from cr_interp.report.heads import rich_heads, rich_windows
from cr_interp.report.mechanism import rich_knockout, rich_lens, rich_patching
from cr_interp.report.parts import Code, Drawing, Folded, Numbers, Words
from cr_interp.report.read_once import Held
from cr_interp.report.trained import rich_directions, rich_flips, rich_gradients, rich_probes, rich_updates
from cr_interp.study.analyses import ANALYSES, analysis_of
from cr_interp.study.study import Study
from cr_interp.tables.flips_by_drift import flips_by_drift

#: A printed table of more rows is folded.
LONG = 16
#: Groups of answers in the order in which one of them is drawn.
GROUPS = ("harmed", "changed", "rescued", "kept")


@dataclass(frozen=True)
class Shown:
    """A way to show a table. ``draw`` makes its figures, ``told`` its printed table."""

    title: str
    draw: Callable[[Study], Sequence[Any]] = lambda study: ()
    told: Callable[[Study], Table | None] = lambda study: None


def why(held: Held) -> list[Any]:
    """Return the parts of every table of mechanism that the study has; what to type if it has none."""
    study = held.study
    names = {each.table for each in ANALYSES if each.command == "explain"}
    beside = {name for each in ANALYSES if each.command == "explain" for name in each.beside}
    there = [name for name in SHOWN if study.has_table(name)]
    parts: list[Any] = []
    for name in there:
        parts += [Words(SHOWN[name].title, "head"), *_guarded(study, name)]
    if not any(study.has_table(name) for name in names):
        parts.append(
            Words(
                "Nothing else was measured that says why answers flip. Where the study's checkpoints are:", "note"
            )
        )
        parts.append(Code(f"cr-interp explain {study.name}"))
    for name in sorted(names - {*SHOWN} - beside):
        if study.has_table(name):
            parts.append(_named(study, name))
    return parts


def _guarded(study: Study, name: str) -> list[Any]:
    try:
        drawn = [Drawing(figure, least=480) for figure in SHOWN[name].draw(study)]
        table = SHOWN[name].told(study)
        numbers: list[Any] = [] if table is None else [from_rich(table)]
        if table is not None and len(numbers[0].table) > LONG:
            numbers = [Folded("The numbers", numbers)]
        return [*drawn, *numbers] or [Words("No answer flips.", "note")]
    except (UserError, KeyError, ValueError, IndexError) as error:  # of one table, whatever is wrong with it
        return [Words(f"{name} cannot be shown: {error}", "note")]


def from_rich(table: Table) -> Numbers:
    """Turn a table for the terminal into one for a page; its caption becomes the note."""
    heads = [column.justify for column in table.columns]
    first = next((index for index, side in enumerate(heads) if side == "right"), len(heads))
    cells = {
        f"{column.header!s}": [str(cell).replace("\n", " ") for cell in column.cells] for column in table.columns
    }
    return Numbers(pd.DataFrame(cells), str(table.caption or ""), max(1, first))


def _named(study: Study, name: str) -> Words:
    found = analysis_of(name)
    about = f", a row per {found.about}" if found else ""
    return Words(f"The study also has the table {name}{about}: {len(study.table(name))} rows.", "note")


def _group(table: pd.DataFrame) -> str:
    there = set(table["group"])
    return next((group for group in GROUPS if group in there), "harmed")


def _patching(study: Study) -> list[Any]:
    table = study.table("patching")
    drift = study.table("drift") if study.has_table("drift") else None
    return [figures.decided(table, drift, group=_group(table))]


def _windows(study: Study) -> list[Any]:
    table = study.table("patching_windows")
    single = study.table("patching") if study.has_table("patching") else None
    group = _group(table)
    return [figures.window_map(table, single, str(site), group) for site in table["site"].unique()]


def _heads(study: Study) -> list[Any]:
    table = study.table("attribution")
    heads = study.table("patching_heads") if study.has_table("patching_heads") else None
    return [figures.head_map(table, heads, group=_group(table))]


def _knockout(study: Study) -> list[Any]:
    table = study.table("knockout")
    return [figures.knockout_curves(table, group=_group(table))]


def _lens(study: Study) -> list[Any]:
    table = study.table("lens")
    return [figures.lens_curves(table, group=_group(table))]


def _directions(study: Study) -> list[Any]:
    drawn = [directions(study.table("directions"))]
    if study.has_table("direction_effects"):
        effects = study.table("direction_effects")
        if (group := _group(effects)) in ("harmed", "changed"):
            drawn.append(direction_effects(effects, group=group))
    return drawn


def _flips(study: Study) -> list[Any]:
    table = flips_by_drift(study.table("token_drift"), study.table("generations"))
    return [] if table.empty else [flips(table)]


def _of(table: str, show: Callable[[pd.DataFrame, str], Table]) -> Callable[[Study], Table | None]:
    return lambda study: show(study.table(table), study.name) if study.has_table(table) else None


#: table → how it is shown, in the order of the report
SHOWN: dict[str, Shown] = {
    "token_drift": Shown("Does drift tell which answers flip?", _flips, rich_flips),
    "patching": Shown(
        "Where the answer is decided: patching at aligned positions", _patching, _of("patching", rich_patching)
    ),
    "patching_windows": Shown("Several layers at once", _windows, _of("patching_windows", rich_windows)),
    "attribution": Shown(
        "Which heads: attribution, and patching of those it names", _heads, _of("patching_heads", rich_heads)
    ),
    "knockout": Shown("Who reads the context: knockout", _knockout, _of("knockout", rich_knockout)),
    "lens": Shown("From which layer on it shows: the lens", _lens, _of("lens", rich_lens)),
    "directions": Shown("Is the returning context a second dose?", _directions, rich_directions),
    "updates": Shown(
        "What training changed in the weights",
        lambda study: [updates(study.table("updates"))],
        rich_updates,
    ),
    "gradients": Shown(
        "Do the terms pull apart?", lambda study: [gradients(study.table("gradients"))], rich_gradients
    ),
    "probes": Shown("Can a probe tell?", lambda study: [probes(study.table("probes"))], rich_probes),
}
