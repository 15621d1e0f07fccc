"""A case study at the paper's protocol: how far the states of several checkpoints move, layer by layer, on the same tokens.

    name: sokoban
    task: sokoban:A
    checkpoints: {base: PATH, opd: PATH, nca: PATH}
    responses: base                 # whose no-context responses all are read on; own: each its own
    evaluation: {examples: 64}
    load: {dtype: bfloat16, device_map: auto}

Mental model: ``compare`` with the responses held fixed, so that curves of different checkpoints are about the same tokens;
all layers, all context controls, the floor and the repeat. The result is a study like any other, and beside its tables
the curves under every control (``case-study.html``) and their numbers (``case-study.csv``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import torch
from pydantic import Field

from cr_interp import figures
from cr_interp.compare import measure_checkpoints
from cr_interp.configuration import Strict, apply_overrides, read_mapping, validated
from cr_interp.digests import flat
from cr_interp.measure import Evaluation
from cr_interp.models import Loaded, load
from cr_interp.study import Study, write_atomic
from cr_interp.tasks import get_task
from cr_interp.templates import fix_template

#: What the paper's claim is about, and what has to stand beside it: states of language models are never far apart by cosine.
MEASURES = ("cosine", "centred_cosine", "relative_l2", "cka")


class Loading(Strict):
    """How checkpoints are loaded."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device_map: str | None = None
    """``auto`` spreads the layers over the GPUs there are, and over memory and disk."""


class CaseStudy(Strict):
    """One task and context, and the checkpoints that are read on it."""

    name: str
    task: str
    checkpoints: dict[str, str] = Field(min_length=1)
    """arm → folder, hub id, adapter or built-in; the maps across checkpoints are against the first that is measured."""
    responses: str | None = None
    """null: the first checkpoint's."""
    no_context: Literal["empty_system", "template_default"] = "empty_system"
    template: dict[str, bool | int | str] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    load: Loading = Loading()
    across: bool = True
    """Also maps against the first checkpoint, which then stays in memory beside each of the others."""
    sites_per_pass: int | None = Field(None, gt=0)


def read_case_study(path: Path, overrides: Sequence[str] = ()) -> CaseStudy:
    data = read_mapping(path)
    apply_overrides(CaseStudy, data, overrides, short="evaluation")
    return validated(CaseStudy, data, path)


def case_study(config: CaseStudy, out: Path, again: bool = False) -> Study:
    """Measure every checkpoint, write the study with its figure, and return it; called again, it continues.

    ``again`` begins a study anew that is finished or was begun with something else.

    Raises :class:`~cr_interp.errors.UserError` for what ``compare`` refuses: an unknown task, another tokenizer, a model
    that cannot be loaded, memory that is exhausted (with what to set).
    """
    responses = config.responses or next(iter(config.checkpoints))

    def opened(name: str) -> Loaded:
        placed = {"device_map": config.load.device_map} if config.load.device_map else {}
        loaded = load(name, getattr(torch, config.load.dtype), **placed)
        fix_template(loaded, config.template)
        return loaded

    study = measure_checkpoints(
        config.checkpoints, get_task(config.task, run_code=True),
        config.evaluation.model_copy(update={"responses": responses}), out, config.no_context, opened, config.across,
        config.sites_per_pass, config.task, flat(config.load.model_dump(mode="json"), "load."), config.template, again,
    )  # fmt: skip
    study = study.update_manifest(name=config.name, case_study=config.model_dump(mode="json"))
    drift = study.table("drift")
    page = figures.to_page(*curves_by_control(drift, responses), title=config.name)
    write_atomic(out / "case-study.html", lambda file: file.write(page.encode()))
    curves = layers(drift).to_csv(index=False)
    write_atomic(out / "case-study.csv", lambda file: file.write(curves.encode()))
    return study


#: In the page's order, with what has to be said of it. The repeat is in the table alone: all of it is below what is drawn.
CONTROLS = {
    "exact": "", "paraphrase": "", "mismatched": "", "irrelevant": "",
    "floor": " Floor: not a context, but another response's token at the same place.",
}  # fmt: skip


def curves_by_control(drift: pd.DataFrame, responses: str) -> list[go.Figure]:
    """1 − cosine by layer, a figure for each control that was measured, on white."""
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
    """Every layer of every arm under the exact context and against the floor: columns ``measure, control, arm, layer,
    estimate, low, high, …`` of :func:`~cr_interp.figures.layer_table`."""
    parts = [
        figures.layer_table(drift, measure, control).assign(measure=measure, control=control)
        for measure in MEASURES
        for control in drift["control"].unique()
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table[["measure", "control", *(name for name in table if name not in ("measure", "control"))]]


def summary(study: Study) -> pd.DataFrame:
    """Per arm the block that moves most by the cosine, with its interval, and the floor's and the other measures' extremes."""
    drift = study.table("drift")
    table = figures.extreme_layer(drift, "cosine").rename(columns={"estimate": "lowest cosine"})
    for name, measure, control in (
        ("floor", "cosine", "floor"), *((measure, measure, "exact") for measure in MEASURES[1:])
    ):  # fmt: skip
        extremes = figures.extreme_layer(drift, measure, control).set_index("arm")["estimate"]
        table[name.replace("_", " ")] = table["arm"].map(extremes)
    return table.drop(columns="seeds")
