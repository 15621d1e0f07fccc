"""A case study as a page: the curves under every control (``case-study.html``) and their numbers (``case-study.csv``)."""

import pandas as pd
import plotly.graph_objects as go

from cr_interp import figures
from cr_interp.files import write_atomic
from cr_interp.study.study import Study
from cr_interp.tables.drift import extreme_layer, layer_table

#: What the paper's claim is about, and what has to stand beside it: states of language models are never far apart by cosine.
MEASURES = ("cosine", "centred_cosine", "relative_l2", "cka")


def write_page(study: Study) -> None:
    """Write the page and the numbers into the study's folder, each whole or not at all."""
    config = study.manifest["case_study"]
    drift = study.table("drift")
    responses = config["responses"] or next(iter(config["checkpoints"]))
    page = figures.to_page(*curves_by_control(drift, responses), title=config["name"])
    write_atomic(study.path / "case-study.html", lambda file: file.write(page.encode()))
    curves = layers(drift).to_csv(index=False)
    write_atomic(study.path / "case-study.csv", lambda file: file.write(curves.encode()))


#: In the page's order, with what has to be said of it. The repeat is in the table alone: all of it is below what is drawn.
CONTROLS = {
    "exact": "",
    "paraphrase": "",
    "mismatched": "",
    "irrelevant": "",
    "floor": " Floor: not a context, but another response's token at the same place.",
}


def curves_by_control(drift: pd.DataFrame, responses: str) -> list[go.Figure]:
    """Draw 1 − cosine by layer, a figure for each control that was measured, on white."""
    whose = "each checkpoint's own" if responses == "own" else f"{responses}'s"
    found = []
    for control, note in CONTROLS.items():
        if not (drift["control"] == control).any():
            continue
        figure = figures.on_paper(figures.drift_by_layer(drift, "cosine", control, movement=True))
        text = f"{control.capitalize()}. {figures.caption(figure)} Read on {whose} responses.{note}"
        found.append(figure.update_layout(meta={**figure.layout.meta, "caption": text}))
    return found


def layers(drift: pd.DataFrame) -> pd.DataFrame:
    """Return every layer of every arm under the exact context and against the floor: columns ``measure, control, arm, layer,
    estimate, low, high, …`` of :func:`layer_table`.
    """
    parts = [
        layer_table(drift, measure, control).assign(measure=measure, control=control)
        for measure in MEASURES
        for control in drift["control"].unique()
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table[["measure", "control", *(name for name in table if name not in ("measure", "control"))]]


def summary(study: Study) -> pd.DataFrame:
    """Return per arm the block that moves most by the cosine, with its interval, and the floor's and the other measures'
    extremes.
    """
    drift = study.table("drift")
    table = extreme_layer(drift, "cosine").rename(columns={"estimate": "lowest cosine"})
    for name, measure, control in (
        ("floor", "cosine", "floor"),
        *((measure, measure, "exact") for measure in MEASURES[1:]),
    ):
        extremes = extreme_layer(drift, measure, control).set_index("arm")["estimate"]
        table[name.replace("_", " ")] = table["arm"].map(extremes)
    return table.drop(columns="seeds")
