"""Where the models of a study are: its checkpoints, the base they came from, the teacher; and how the study loads them.

Mental model. A study that was trained here has its checkpoints in ``runs``; one of ``compare`` or ``case-study`` says in its
manifest where each arm's model is (a folder, an adapter's folder, a built-in, a hub id whose copy is in the cache). A manifest
is a file from anywhere, so nothing that it names is downloaded. Every model is opened as the study did: its precision, where
its layers lie (``device_map``), its chat template's variables and date.
"""

from collections.abc import Iterable
from typing import Any

import torch

from cr_interp.clock import VARIABLE, reads_clock
from cr_interp.errors import UserError
from cr_interp.models.devices import place
from cr_interp.models.loading import Loaded, here, open_model
from cr_interp.models.templates import fix_template
from cr_interp.study.study import Study
from cr_interp.system.notes import say

Checkpoint = tuple[str, int, int]
"""arm, seed, step"""

BASE = "base"


def models_of(study: Study, wanted: Iterable[Checkpoint]) -> dict[Checkpoint, str]:
    """Find where the model of each checkpoint is, for those that are here; says which are not.

    Raises :class:`UserError` if none of the trained ones is.
    """
    wanted = list(wanted)
    runs = {(arm, seed, step): str(folder) for arm, seed, step, folder in study.checkpoints()}
    found: dict[Checkpoint, str] = {}
    for each in wanted:
        where = runs.get(each) or model_of_arm(study, each[0], each[1])
        if where is not None:
            found[each] = where
    away = sorted({each[0] for each in wanted if each[0] != BASE and each not in found})
    trained = {each[0] for each in wanted if each[0] != BASE}
    if trained and not any(each in found for each in wanted if each[0] != BASE):
        raise UserError(
            f"{study.path} holds tables only: the checkpoints of {', '.join(away)} are not here, and explaining runs them. Make "
            f"the study yourself (cr-interp reproduce), or explain where its runs are."
        )
    if away:
        say(f"{study.name}: checkpoints of {', '.join(away)} are not here and stay unexplained.")
    return found


def model_of_arm(study: Study, arm: str, seed: int = 0) -> str | None:
    """Find the model that the manifest names for an arm that was not trained here, if it is on this machine.

    A study that was moved together with its checkpoints finds them where they are as seen from it.
    """
    listed = study.manifest.get("arms")
    told = listed.get(arm) if isinstance(listed, dict) else None
    runs = told.get("seeds") if isinstance(told, dict) else None
    if isinstance(runs, dict):
        told = runs.get(str(seed))
    where = told.get("model") if isinstance(told, dict) else None
    if where is None and arm == BASE:
        where = study.manifest.get("model")
    if isinstance(where, str) and _is_here(where):
        return where
    beside = told.get("beside") if isinstance(told, dict) else None
    moved = str((study.path / beside).resolve()) if isinstance(beside, str) and "\x00" not in beside else None
    return moved if moved is not None and _is_here(moved) else None


def base_of(study: Study) -> str:
    """Return the model that the study's checkpoints came from. Raises :class:`UserError` if it is not said or not here."""
    found = model_of_arm(study, BASE)
    if found is None:
        raise UserError(
            f"{study.path} does not say which model its checkpoints came from, or that model is not on this machine, so there is "
            f"nothing to compare them with. Measure the base as an arm of its own: cr-interp compare base=MODEL …"
        )
    return found


def teacher_of(study: Study) -> str:
    """Return the teacher's name: the manifest's, or the base, which is its own teacher."""
    told = study.manifest.get("teacher")
    return told if isinstance(told, str) and _is_here(told) else base_of(study)


def opened(study: Study, where: str) -> Loaded:
    """Load the model as the study does: its precision, where its layers lie, its chat template's variables and date."""
    told = {key: study.manifest.get(key) for key in ("config", "case_study")}
    settings: dict[str, Any] = next((each for each in told.values() if isinstance(each, dict)), {})
    how = settings.get("load", study.manifest.get("load"))
    how = how if isinstance(how, dict) else {}
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(str(how.get("dtype")), torch.float32)
    placed = {"device_map": how["device_map"]} if isinstance(how.get("device_map"), str) else {}
    loaded = place(open_model(where, dtype, **placed))
    template, date = settings.get("template"), study.manifest.get("date")
    # A saved checkpoint's template has its date already.
    fixed = {VARIABLE: date} if isinstance(date, str) and reads_clock(loaded.tokenizer) else {}
    fix_template(loaded, {**(template if isinstance(template, dict) else {}), **fixed})
    return loaded


def _is_here(where: str) -> bool:
    if where.startswith("builtin:"):
        return True
    try:
        here(where, "The study's manifest")
    except UserError:
        return False
    return True
