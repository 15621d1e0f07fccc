"""A case study at the paper's protocol: how far the states of several checkpoints move, layer by layer, on the same tokens.

    name: sokoban
    task: sokoban:A
    checkpoints: {base: PATH, opd: PATH, nca: PATH}
    responses: base                 # whose no-context responses all are read on; own: each its own
    evaluation: {examples: 64}
    load: {dtype: bfloat16, device_map: auto}

Mental model: ``compare`` with the responses held fixed, so that curves of different checkpoints are about the same tokens;
all layers, all context controls, the floor and the repeat. The result is a study like any other; its curves and their
numbers are written by ``report/case_study.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from cr_interp.configuration import Strict, apply_overrides, read_mapping, validated
from cr_interp.errors import UserError
from cr_interp.measure.compare import measure_checkpoints
from cr_interp.measure.settings import Evaluation
from cr_interp.models.loading import Loaded, open_model
from cr_interp.models.templates import fix_template
from cr_interp.study.study import Study
from cr_interp.system.digests import flat
from cr_interp.system.names import Name
from cr_interp.tasks import get_task


class Loading(Strict):
    """The settings that checkpoints are loaded with."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the weights and of what is computed with them."""
    device_map: str | None = None
    """``auto`` spreads the layers over the GPUs there are, and over memory and disk."""


class CaseStudy(Strict):
    """One task and context, and the checkpoints that are read on it."""

    name: Name
    """Of the study."""
    task: str
    """A name, or a file of your own: a description (``.yaml``) or Python (``.py``, which is executed)."""
    checkpoints: dict[Name, str] = Field(min_length=1)
    """arm → folder, hub id, adapter or built-in; the maps across checkpoints are against the first that is measured."""
    responses: str | None = None
    """null: the first checkpoint's."""
    no_context: Literal["empty_system", "template_default"] = "empty_system"
    """What a prompt without the context is behind: an empty system message, or whatever the chat template puts there."""
    template: dict[str, bool | int | str] = Field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking``; fixed in every tokenizer."""
    evaluation: Evaluation = Evaluation()
    """What is asked and measured of every checkpoint."""
    load: Loading = Loading()
    """How checkpoints are loaded."""
    across: bool = True
    """Also maps against the first checkpoint, which then stays in memory beside each of the others."""
    sites_per_pass: int | None = Field(None, gt=0, le=10**6)
    """So many layers are read at a time, which bounds memory; null: all."""


def read_case_study(path: Path, overrides: Sequence[str] = ()) -> CaseStudy:
    data = read_mapping(path)
    apply_overrides(CaseStudy, data, overrides, short="evaluation")
    return validated(CaseStudy, data, path)


def case_study(config: CaseStudy, out: Path, again: bool = False) -> Study:
    """Measure every checkpoint, write the study and return it; called again, it continues.

    ``again`` begins a study anew that is finished or was begun with something else.

    Raises :class:`~cr_interp.errors.UserError` for what ``compare`` refuses: an unknown task, another tokenizer, a model
    that cannot be loaded, memory that is exhausted (with what to set).
    """
    if "own" in config.checkpoints:
        raise UserError(
            "No checkpoint can be called 'own', which stands for 'responses: own'. Call it otherwise."
        )
    responses = config.responses or next(iter(config.checkpoints))

    def opened(name: str) -> Loaded:
        placed: dict[str, Any] = {"device_map": config.load.device_map} if config.load.device_map else {}
        loaded = open_model(name, getattr(torch, config.load.dtype), **placed)
        fix_template(loaded, config.template)
        return loaded

    study = measure_checkpoints(
        config.checkpoints,
        get_task(config.task, run_code=True),
        config.evaluation.model_copy(update={"responses": responses}),
        out,
        config.no_context,
        opened,
        config.across,
        config.sites_per_pass,
        config.task,
        flat(config.load.model_dump(mode="json"), "load."),
        config.template,
        again,
        engine=config.evaluation.engine,
    )
    return study.update_manifest(name=config.name, case_study=config.model_dump(mode="json"))
