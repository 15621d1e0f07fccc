"""The report's section on mechanism: of every table that ``cr-interp explain`` has filled, its figure and its strongest rows.

Mental model: :data:`SECTIONS` names, for a table, the function that makes its parts. A table that is there and is not named here
is listed under its name, so that a reader knows what else the study holds.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.report.held import Held
from cr_interp.report.parts import Code, Drawing, Numbers, Words
from cr_interp.report.why_heads import heads, windows
from cr_interp.study.analyses import ANALYSES, analysis_of
from cr_interp.study.study import Study
from cr_interp.tables.patching import DIRECTIONS, strongest
from cr_interp.vocabulary import layer_name


def why(held: Held) -> list[Any]:
    """The parts of every table of mechanism that the study has; what to type if it has none."""
    study = held.study
    names = {each.table for each in ANALYSES if each.command == "explain"}
    there = [name for name in (*SECTIONS, *sorted(names - {*SECTIONS})) if study.has_table(name)]
    if not there:
        return [
            Words("Nothing was measured that says why answers flip. Where the study's checkpoints are:", "note"),
            Code(f"cr-interp explain {study.name}"),
        ]
    parts: list[Any] = []
    for name in there:
        make = SECTIONS.get(name)
        try:
            parts += make(study) if make else [_named(study, name)]
        except UserError as error:
            parts.append(Words(f"{name} cannot be shown: {error}", "note"))
    return parts


def _named(study: Study, name: str) -> Words:
    found = analysis_of(name)
    about = f", a row per {found.about}" if found else ""
    return Words(f"The study also has the table {name}{about}: {len(study.table(name))} rows.", "note")


def patching(study: Study) -> list[Any]:
    """Report where the answer is decided: what patching recovers by layer and site, beside its controls."""
    table = study.table("patching")
    drift = study.table("drift") if study.has_table("drift") else None
    groups = table["group"].unique()
    group = "harmed" if "harmed" in groups else str(groups[0])
    best = strongest(table)
    best = best[best["group"] == group]
    shown = pd.DataFrame(
        {
            "arm": best["arm"].astype(str), "direction": best["direction"], "site": best["site"],
            "layer": [layer_name(place) for place in best["place"]],
            "recovered share": [
                f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in best.itertuples()
            ],
            "random direction": best["random"].map("{:.2f}".format), "another example": best["other"].map("{:.2f}".format),
            "n": best["n_examples"].astype(int).astype(str),
        }
    )  # fmt: skip
    note = (
        f"Of every site the layer that does most on {group} answers. "
        + " ".join(f"{name}: {says}." for name, says in DIRECTIONS.items())
        + " Beside it what a random direction of the same norm and another example's state do at the same place. 95 % intervals: "
        "within these runs, as if the layer had been chosen beforehand."
    )
    return [
        Words("Patching at aligned positions", "head"),
        Drawing(figures.decided(table, drift, group=group), least=480),
        Numbers(shown.replace("nan", "–"), note, heads=3),
    ]


#: table → the function that makes its parts, in the order of the report
SECTIONS: dict[str, Callable[[Study], list[Any]]] = {
    "patching": patching,
    "patching_windows": windows,
    "patching_heads": heads,
}
