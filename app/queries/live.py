"""Models in the server's memory. The one place of the app that imports torch, and only when somebody asks for a model.

Mental model: two models at most are kept, for all sessions together, and what they answered; a checkpoint that is written
again is loaded again. A model answers one prompt at a time: ``cr_interp.measure.tryout`` holds its lock meanwhile.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.queries.state import Stamp, stamp_of
from cr_interp.study import questions
from cr_interp.study.checkpoints import Checkpoint
from cr_interp.study.study import Study
from cr_interp.tasks.base import Example
from cr_interp.views import Context, NoContext

if TYPE_CHECKING:
    from cr_interp.capture.sites import SiteName
    from cr_interp.measure.tryout import Answer, Tryout


def model(checkpoint: Checkpoint) -> Any:
    """Return the loaded model; the first call takes seconds. Raises :class:`~cr_interp.errors.UserError`."""
    return _model(checkpoint.model, stamp_of(*checkpoint.files()))


def check_same_tokenizer(first: Checkpoint, other: Checkpoint) -> None:
    from cr_interp.measure import tryout

    tryout.check_same_tokenizer(model(first), model(other))


def answer(
    checkpoint: Checkpoint, prompt: str, context: Context | None, limit: int, no_context: NoContext
) -> "Tryout":
    """See :func:`cr_interp.measure.tryout.try_out`; the same question is answered once."""

    def make() -> "Tryout":
        from cr_interp.measure import tryout

        return tryout.try_out(model(checkpoint), prompt, context, limit, no_context)

    return _once("answer", checkpoint, [prompt, context and context.to_dict(), limit, no_context], make)


#: Prompts that the context's direction is a mean over.
DIRECTION = 8


def mend(
    checkpoint: Checkpoint,
    prompt: str,
    context: Context,
    kind: str,
    layers: tuple[int, int],
    limit: int,
    no_context: NoContext,
    others: tuple[str, ...],
) -> "Answer":
    """Return the answer with the context under an edit; see :mod:`cr_interp.mechanism.intervene`. ``kind`` is one of
    :data:`EDITS`.
    """

    def make() -> "Answer":
        from cr_interp.mechanism import intervene

        loaded = model(checkpoint)
        first, last = layers
        change: intervene.Change
        if kind == "block":
            change = intervene.Block(range(first, last + 1), readers="all")
        elif kind in ("remove", "add"):
            vector = intervene.difference(loaded, others, context, "resid_post", first, no_context)
            change = intervene.Steer(first, vector, remove=kind == "remove")
        else:
            change = intervene.PutIn(PUT[kind], (first,))
        return intervene.intervene(loaded, prompt, context, change, limit, no_context).edited

    return _once("mend", checkpoint, [prompt, context.to_dict(), kind, layers, limit, no_context, others], make)


#: What can be done to a run with the context → how it is said.
EDITS = {
    "put": "put the state without the context in",
    "put attention": "put attention's output without the context in",
    "put MLP": "put the MLP's output without the context in",
    "block": "block the context",
    "remove": "take the context's direction away",
    "add": "add the context's direction once more",
}
#: Where a state is put in.
PUT: dict[str, "SiteName"] = {"put": "resid_post", "put attention": "attn_out", "put MLP": "mlp_out"}


def examples(study: Study) -> list[Example]:
    """See :func:`cr_interp.study.questions.examples`; without a model."""
    return _examples(study.path, stamp_of(study.table_path("generations"), study.manifest_path))


@st.cache_resource(max_entries=2, show_spinner=False)
def _model(name: str, stamp: Stamp) -> Any:
    import torch

    from cr_interp.measure import tryout

    # A core is left to whatever else runs, a training perhaps: torch's threads wait for each other, so a single busy core
    # makes all of them many times slower.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))
    return tryout.open_model(name, hub=False)  # a study's file names it, or it is a folder: nobody typed a hub id


@st.cache_resource(max_entries=128, show_spinner=False)
def _kept(what: str, name: str, stamp: Stamp, asked: str, _make: Callable[[], Any]) -> Any:
    return _make()


def _once(what: str, checkpoint: Checkpoint, asked: list[Any], make: Callable[[], Any]) -> Any:
    """Ask a model once; the same of a checkpoint that has not been written since is answered from memory."""
    return _kept(what, checkpoint.model, stamp_of(*checkpoint.files()), json.dumps(asked), make)


def parting(
    checkpoint: Checkpoint, prompt: str, context: Context, limit: int, no_context: NoContext
) -> pd.DataFrame:
    """Return the logit lens where the two answers part; see :func:`cr_interp.mechanism.tried_lens.parting`."""

    def make() -> pd.DataFrame:
        from cr_interp.mechanism import tried_lens

        tried = answer(checkpoint, prompt, context, limit, no_context)
        return tried_lens.parting(model(checkpoint), prompt, context, tried.responses, no_context)

    return _once("parting", checkpoint, [prompt, context.to_dict(), limit, no_context], make)


@st.cache_resource(max_entries=16, show_spinner=False)
def _examples(path: Path, stamp: Stamp) -> list[Example]:
    return questions.examples(Study.open(path))
