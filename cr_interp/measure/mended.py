"""Answer with the context, but with something of it taken away while the answer is written: not scored, decoded.

Mental model: a token is the argmax of the last aligned position. Before each token both views are read on what was answered so
far, the edit is made at the aligned positions of the view with the context, and the next token is taken from there. So the
edit acts on the prompt's end and on every token that was written, as patching does in a study, and the prompt and the context
are computed once.

    Put     the state without the context, put into the run with it at one layer
    Steer   a vector added at one layer: the context's direction, or its negative
    mended  model, prompt, context, edit → the answer that follows
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.capture import at, capture, model_lock, patch
from cr_interp.capture.edits import Edit
from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.measure.tryout import Answer
from cr_interp.models.forward import encode_prefix, logits
from cr_interp.models.generation import Response, decode_text
from cr_interp.models.layout import ViewBatch, build_view
from cr_interp.models.loading import Loaded
from cr_interp.views import Context, NoContext, check_fits, render, shared_prefix
from cr_interp.vocabulary import EMBEDDING

FINAL = Site("final", -1)


@dataclass(frozen=True)
class Put:
    """The residual stream without the context after ``layer`` (−1: the embedding), put into the run with the context."""

    layer: int


@dataclass(frozen=True, eq=False)
class Steer:
    """``scale`` times ``vector`` added to the residual stream after ``layer``."""

    layer: int
    vector: Float[Tensor, " width"]
    scale: float = 1.0


def site_of(layer: int) -> Site:
    """Name the site of the residual stream after a layer."""
    return Site("resid_pre", 0) if layer == EMBEDDING else Site("resid_post", layer)


def mended(
    loaded: Loaded,
    prompt: str,
    context: Context | None,
    edit: Put | Steer,
    max_new_tokens: int,
    no_context: NoContext = "empty_system",
) -> Answer:
    """The greedy answer with the context under an edit.

    Raises :class:`UserError` for what does not fit the model, and for exhausted memory.
    """
    try:
        return _mended(loaded, prompt, context, edit, max_new_tokens, no_context)
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"{loaded.name} could not answer under this edit ({error}). Shorten the prompt, the context or the token limit."
        ) from error


@torch.no_grad()
def _mended(
    loaded: Loaded, prompt: str, context: Context | None, edit: Put | Steer, limit: int, no_context: NoContext
) -> Answer:
    without, given = (render(loaded.tokenizer, prompt, each, no_context) for each in (None, context))
    check_fits(
        max(len(without), len(given)) + limit, loaded.max_positions, "The prompt with its context and response"
    )
    site = site_of(edit.layer)
    said: list[int] = []
    ended = False
    with model_lock(loaded.model):
        prefixes = [encode_prefix(loaded.model, ids[: shared_prefix([ids])]) for ids in (without, given)]
        while len(said) < limit and not ended:
            # The last token of a response is only predicted, never read: any id will do for the one that is to come.
            there, here = (build_view([ids], [[*said, 0]], loaded.pad_id) for ids in (without, given))
            made: Callable[[ViewBatch], Edit]
            if isinstance(edit, Put):
                donor = capture(loaded.model, there, [site], prefixes[0])[site]
                made = _putting(donor)
            else:
                made = _steering(edit)
            found = capture(loaded.model, here, [FINAL], prefixes[1], edits={site: made(here)})[FINAL]
            token = int(logits(loaded.model, found[-1:]).argmax())
            said.append(token)
            ended = token in loaded.eos_ids
    response = Response(tuple(said), not ended)
    return Answer(decode_text(loaded, response), len(said), not ended)


def _putting(states: Tensor) -> Callable[[ViewBatch], Edit]:
    return lambda view: patch(states, view.rows, view.columns)


def _steering(edit: Steer) -> Callable[[ViewBatch], Edit]:
    return lambda view: at(view.rows, view.columns, lambda states: states + edit.scale * edit.vector.to(states))


@torch.no_grad()
def context_direction(
    loaded: Loaded, prompts: Sequence[str], context: Context, layer: int, no_context: NoContext = "empty_system"
) -> Float[Tensor, " width"]:
    """Measure what the context does to the state after a layer, at the prompt's end: mean of with − without over ``prompts``.

    Give other prompts than the one that is answered: else the direction is that of its own answer.
    """
    if not prompts:
        raise UserError(
            "A direction of the context is a mean over other prompts; this study has none. Choose another edit."
        )
    site = site_of(layer)
    moved = []
    with model_lock(loaded.model):
        for prompt in prompts:
            both = [render(loaded.tokenizer, prompt, each, no_context) for each in (None, context)]
            views = [build_view([ids], [[0]], loaded.pad_id) for ids in both]
            x, y = (capture(loaded.model, view, [site])[site][0] for view in views)
            moved.append((y - x).float())
    return torch.stack(moved).mean(dim=0)
