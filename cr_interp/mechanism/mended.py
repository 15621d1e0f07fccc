"""Answer with the context, but with something of it taken away while the answer is written: not scored, decoded.

Mental model: a token is the argmax of the last aligned position. Before each token both views are read on what was answered so
far, the edit is made at the aligned positions of the view with the context, and the next token is taken from there. So the
edit acts on the prompt's end and on every token that was written, as patching does in a study, and the prompt and the context
are computed once.

    Put     the state without the context, put into the run with it at one layer
    Block   nothing may attend to the context in some layers
    Steer   a vector added at one layer: the context's direction, or its negative
    mended  model, prompt, context, edit → the answer that follows
    parting the two answers' tokens where they part, read off every layer's state in both views
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.capture import Cut, at, capture, model_lock, patch
from cr_interp.capture.edits import Edit
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import UserError
from cr_interp.measure.tryout import Answer
from cr_interp.mechanism.lens import read_off
from cr_interp.mechanism.spans import context_span
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


@dataclass(frozen=True)
class Block:
    """The context's tokens may not be attended to in the layers ``first`` to ``last``, by any token that is not of it.

    Cut off from what is written alone, little changes: the prompt's own tokens have read the context and pass it on.
    """

    first: int
    last: int


def site_of(layer: int) -> Site:
    """Name the site of the residual stream after a layer."""
    return Site("resid_pre", 0) if layer == EMBEDDING else Site("resid_post", layer)


def mended(
    loaded: Loaded,
    prompt: str,
    context: Context | None,
    edit: Put | Block | Steer,
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
    loaded: Loaded,
    prompt: str,
    context: Context | None,
    edit: Put | Block | Steer,
    limit: int,
    no_context: NoContext,
) -> Answer:
    without, given = (render(loaded.tokenizer, prompt, each, no_context) for each in (None, context))
    check_fits(
        max(len(without), len(given)) + limit, loaded.max_positions, "The prompt with its context and response"
    )
    said: list[int] = []
    ended = False
    with model_lock(loaded.model):
        prefixes = [encode_prefix(loaded.model, ids[: shared_prefix([ids])]) for ids in (without, given)]
        while len(said) < limit and not ended:
            # The last token of a response is only predicted, never read: any id will do for the one that is to come.
            there, here = (build_view([ids], [[*said, 0]], loaded.pad_id) for ids in (without, given))
            if isinstance(edit, Block):
                found = capture(loaded.model, here, [FINAL], prefixes[1], cut=_cut(edit, here, without, given))[
                    FINAL
                ]
            else:
                site = site_of(edit.layer)
                if isinstance(edit, Put):
                    made = patch(capture(loaded.model, there, [site], prefixes[0])[site], here.rows, here.columns)
                else:
                    made = _steered(edit, here)
                found = capture(loaded.model, here, [FINAL], prefixes[1], edits={site: made})[FINAL]
            token = int(logits(loaded.model, found[-1:]).argmax())
            said.append(token)
            ended = token in loaded.eos_ids
    response = Response(tuple(said), not ended)
    return Answer(decode_text(loaded, response), len(said), not ended)


def _steered(edit: Steer, view: ViewBatch) -> Edit:
    return at(view.rows, view.columns, lambda states: states + edit.scale * edit.vector.to(states))


def _cut(edit: Block, view: ViewBatch, without: Sequence[int], given: Sequence[int]) -> Cut:
    """All other tokens lose the context's; columns are those of the whole sequence, the prefix in front."""
    keys = torch.zeros(1, len(view.prefix) + view.ids.shape[1], dtype=torch.bool)
    keys[0, list(context_span(without, given))] = True
    return Cut(frozenset(range(edit.first, edit.last + 1)), ~keys, keys)


@torch.no_grad()
def parting(
    loaded: Loaded,
    prompt: str,
    context: Context,
    responses: tuple[Sequence[int], Sequence[int]],
    no_context: NoContext = "empty_system",
) -> pd.DataFrame:
    """The logit lens where two answers part: a row per layer, view and token.

    ``responses``: the ids without and with the context. Columns ``layer`` (−1: the embedding), ``view``, ``token`` (``without``:
    of the answer without the context; ``with``), ``text``, ``logprob``. Empty where the answers do not part.
    """
    columns = ["layer", "view", "token", "text", "logprob"]
    pairs = list(zip(*responses, strict=False))
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if place is None:
        return pd.DataFrame(columns=columns)
    tokens = {"without": int(responses[0][place]), "with": int(responses[1][place])}
    texts = {name: str(loaded.tokenizer.decode([token])) for name, token in tokens.items()}
    sites = residual_sites(loaded.model)
    rows = []
    with model_lock(loaded.model):
        for view, given in (("no_context", None), ("with_context", context)):
            ids = render(loaded.tokenizer, prompt, given, no_context)
            states = capture(loaded.model, build_view([ids], [[*responses[0][:place], 0]], loaded.pad_id), sites)
            for site in sites:
                said = read_off(loaded.model, states[site][-1:])[0]
                layer = EMBEDDING if site.name == "resid_pre" else site.layer
                rows += [(layer, view, name, texts[name], float(said[token])) for name, token in tokens.items()]
    return pd.DataFrame(rows, columns=columns)


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
