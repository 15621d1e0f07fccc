"""Models in the server's memory. The one place of the app that imports torch, and only when somebody asks for a model.

Mental model: two models at most are kept, for all sessions together, and what they answered; a checkpoint that is written
again is loaded again. A model answers one prompt at a time: ``cr_interp.measure.tryout`` holds its lock meanwhile.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.queries.state import Stamp, stamp_of
from cr_interp.study import questions
from cr_interp.study.checkpoints import Checkpoint
from cr_interp.study.study import Study
from cr_interp.tasks.base import Example
from cr_interp.views import Context, NoContext

if TYPE_CHECKING:
    from cr_interp.measure.tryout import Answer, Tryout


def model(checkpoint: Checkpoint) -> Any:
    """The loaded model; the first call takes seconds. Raises :class:`~cr_interp.errors.UserError`."""
    return _model(checkpoint.model, stamp_of(*checkpoint.files()))


def check_same_tokenizer(first: Checkpoint, other: Checkpoint) -> None:
    from cr_interp.measure import tryout

    tryout.check_same_tokenizer(model(first), model(other))


def answer(
    checkpoint: Checkpoint, prompt: str, context: Context | None, limit: int, no_context: NoContext
) -> "Tryout":
    """See :func:`cr_interp.measure.tryout.try_out`; the same question is answered once."""
    asked = json.dumps([prompt, context and context.to_dict(), limit, no_context])
    stamp = stamp_of(*checkpoint.files())
    return _answer(checkpoint.model, stamp, asked, checkpoint, prompt, context, limit, no_context)


#: Prompts that the context's direction is a mean over.
DIRECTION = 8


def mend(
    checkpoint: Checkpoint,
    prompt: str,
    context: Context,
    kind: str,
    layer: int,
    limit: int,
    no_context: NoContext,
    others: tuple[str, ...],
) -> "Answer":
    """The answer with the context under an edit; see :mod:`cr_interp.measure.mended`. ``kind`` is one of :data:`EDITS`."""
    asked = json.dumps([prompt, context.to_dict(), kind, layer, limit, no_context, others])
    return _mend(checkpoint.model, stamp_of(*checkpoint.files()), asked, checkpoint, prompt, context, kind, layer, limit,
                 no_context, others)  # fmt: skip


#: What can be done to a run with the context → how it is said.
EDITS = {
    "put": "put the state without the context in",
    "remove": "take the context's direction away",
    "add": "add the context's direction once more",
}


def examples(study: Study) -> list[Example]:
    """See :func:`cr_interp.study.questions.examples`; without a model."""
    return _examples(study.path, stamp_of(study.table_path("generations"), study.path / "manifest.json"))


@st.cache_resource(max_entries=2, show_spinner=False)
def _model(name: str, stamp: Stamp) -> Any:
    import torch

    from cr_interp.measure import tryout

    # A core is left to whatever else runs, a training perhaps: torch's threads wait for each other, so a single busy core
    # makes all of them many times slower.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))
    return tryout.open_model(name, hub=False)  # a study's file names it, or it is a folder: nobody typed a hub id


@st.cache_resource(max_entries=64, show_spinner=False)
def _answer(
    name: str,
    stamp: Stamp,
    asked: str,
    _checkpoint: Checkpoint,
    _prompt: str,
    _context: Context | None,
    _limit: int,
    _no_context: NoContext,
) -> "Tryout":
    from cr_interp.measure import tryout

    return tryout.try_out(model(_checkpoint), _prompt, _context, _limit, _no_context)


@st.cache_resource(max_entries=64, show_spinner=False)
def _mend(
    name: str,
    stamp: Stamp,
    asked: str,
    _checkpoint: Checkpoint,
    _prompt: str,
    _context: Context,
    _kind: str,
    _layer: int,
    _limit: int,
    _no_context: NoContext,
    _others: tuple[str, ...],
) -> "Answer":
    from cr_interp.measure import mended

    loaded = model(_checkpoint)
    edit: mended.Put | mended.Steer = mended.Put(_layer)
    if _kind != "put":
        vector = mended.context_direction(loaded, _others, _context, _layer, _no_context)
        edit = mended.Steer(_layer, vector, 1.0 if _kind == "add" else -1.0)
    return mended.mended(loaded, _prompt, _context, edit, _limit, _no_context)


@st.cache_resource(max_entries=16, show_spinner=False)
def _examples(path: Path, stamp: Stamp) -> list[Example]:
    return questions.examples(Study.open(path))
