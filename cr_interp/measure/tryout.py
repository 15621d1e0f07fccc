"""Try a prompt: a model's responses without and with a context, and how far each token moves between the two views.

Mental model: what ``evaluate`` and ``capture`` do for a study, for one prompt and one model, at once. :func:`try_out` is a
pure function of what it is given; its numbers are those that a study's ``token_drift`` would have for the same texts.

    open_model   a name → a loaded model, every failure a sentence
    try_out      model, prompt, context → a Tryout
    Tryout       the two responses, and per place and token how far the state moves
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray

from cr_interp.capture import capture, model_lock
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import UserError
from cr_interp.measure.tokens import moves, output_kl
from cr_interp.models import loading
from cr_interp.models.forward import build_view, encode_prefix
from cr_interp.models.generation import Decoding, Response, decode_text, generate
from cr_interp.models.loading import Loaded, tokenizer_fingerprint
from cr_interp.views import (
    Context,
    NoContext,
    check_context_shows,
    check_fits,
    check_same_prompt,
    render,
    shared_prefix,
)

FINAL = Site("final", -1)


@dataclass(frozen=True)
class Answer:
    """A response as text. ``truncated``: the token limit came before its end."""

    text: str
    n_tokens: int
    truncated: bool

    @classmethod
    def of(cls, loaded: Loaded, response: Response) -> "Answer":
        return cls(decode_text(loaded, response), len(response.ids), response.truncated)


@dataclass(frozen=True)
class Tryout:
    """A model's answers in both views, and the movement of its no-context response's tokens when the context is given.

    ``sites``: the embedding, then after every block. A token stands for the state that predicts it.
    """

    without: Answer
    given: Answer
    tokens: tuple[str, ...]
    sites: tuple[Site, ...]
    cosine: Float[ndarray, "site token"]
    relative_l2: Float[ndarray, "site token"]
    kl: Float[ndarray, " token"]
    responses: tuple[tuple[int, ...], tuple[int, ...]]
    """The ids of both responses, without and with the context."""
    unread: str
    """Characters of the prompt or the context that the tokenizer does not know, so that the model never sees them."""

    def token_rows(self, arm: str) -> pd.DataFrame:
        """Return the tokens as rows of a study's ``token_drift``."""
        n = len(self.tokens)
        common = pd.DataFrame(
            {"arm": arm, "seed": 0, "step": 0, "example_id": "", "position": range(n), "token": list(self.tokens)}
        )
        parts = [
            common.assign(site=site.name, layer=site.layer, cosine=cosine, relative_l2=far, kl=math.nan)
            for site, cosine, far in zip(self.sites, self.cosine, self.relative_l2, strict=True)
        ]
        parts.append(common.assign(site="output", layer=-1, cosine=math.nan, relative_l2=math.nan, kl=self.kl))
        return pd.concat(parts, ignore_index=True)

    def layer_rows(self, arm: str) -> pd.DataFrame:
        """Return the layers as rows of a study's ``drift``: the mean over tokens; ``low`` and ``high`` are the outermost
        tokens, since one response has no interval.
        """
        rows = [
            {
                "arm": arm,
                "seed": 0,
                "step": 0,
                "site": site.name,
                "layer": site.layer,
                "measure": measure,
                "control": "given",
                "estimate": values.mean(),
                "low": values.min(),
                "high": values.max(),
                "n_tokens": len(self.tokens),
                "n_examples": 1,
            }
            for measure, grid in (("cosine", self.cosine), ("relative_l2", self.relative_l2))
            for site, values in zip(self.sites, grid, strict=True)
        ]
        return pd.DataFrame(rows)


def open_model(name: str, hub: bool = True) -> Loaded:
    """Load a model by :func:`cr_interp.models.loading.load`, for a program that must not stop: every failure is a
    :class:`UserError`.
    """
    try:
        return loading.open_model(name, hub=hub)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in as many ways as there are libraries that read it
        raise UserError(
            f"{name} could not be loaded ({_short(error)}). A file may be damaged or of another model; save the checkpoint "
            f"again, or take another one."
        ) from error


def check_same_tokenizer(first: Loaded, other: Loaded) -> None:
    if tokenizer_fingerprint(first.tokenizer) != tokenizer_fingerprint(other.tokenizer):
        raise UserError(
            f"{other.name} has another tokenizer or chat template than {first.name}, so their tokens cannot be set side by "
            f"side. Take checkpoints of one model family."
        )


def try_out(
    loaded: Loaded,
    prompt: str,
    context: Context | None,
    max_new_tokens: int,
    no_context: NoContext = "empty_system",
) -> Tryout:
    """Answer greedily in both views, then read the no-context response in both. ``context=None`` changes nothing.

    Raises :class:`UserError` for a prompt or context that does not fit the model or its template, a model that gives
    NaN, and exhausted memory.
    """
    try:
        return _try_out(loaded, prompt, context, max_new_tokens, no_context)
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"{loaded.name} could not answer ({_short(error)}). Shorten the prompt, the context or the token limit, or "
            f"take a smaller model."
        ) from error


@torch.no_grad()
def _try_out(
    loaded: Loaded, prompt: str, context: Context | None, max_new_tokens: int, no_context: NoContext
) -> Tryout:
    views = [render(loaded.tokenizer, prompt, each, no_context) for each in (None, context)]
    if context is not None:
        check_context_shows(loaded.tokenizer, views[:1], views[1:], "as given")
    check_same_prompt(loaded.tokenizer, views[:1], views[1:], "as given")
    longest = max(map(len, views)) + max_new_tokens
    check_fits(longest, loaded.max_positions, "The prompt with its context and response")
    sites = residual_sites(loaded.model)
    with model_lock(loaded.model):  # nobody else's hooks while the model answers
        # What is read before the first answer's token is most of the work: once a view, for answering and for capturing.
        prefixes = [encode_prefix(loaded.model, ids[: shared_prefix([ids])]) for ids in views]
        without, given = (
            generate(loaded, [ids], Decoding(max_new_tokens), prefix=prefix)[0]
            for ids, prefix in zip(views, prefixes, strict=True)
        )
        x, y = (
            capture(loaded.model, build_view([ids], [without.ids], loaded.pad_id), [*sites, FINAL], prefix)
            for ids, prefix in zip(views, prefixes, strict=True)
        )
        kl = output_kl(loaded, x[FINAL], y[FINAL])
    moved = [moves(x[site], y[site]) for site in sites]
    read = loaded.tokenizer
    return Tryout(
        without=Answer.of(loaded, without),
        given=Answer.of(loaded, given),
        tokens=tuple(str(read.decode([token])) for token in without.ids),
        sites=tuple(sites),
        cosine=np.stack([cosine.cpu().numpy() for cosine, _ in moved]),
        relative_l2=np.stack([far.cpu().numpy() for _, far in moved]),
        kl=kl.double().cpu().numpy(),
        responses=(tuple(without.ids), tuple(given.ids)),
        unread=_unread(loaded, [prompt, *_texts(context)]),
    )


def _texts(context: Context | None) -> list[str]:
    if context is None:
        return []
    return [context.splice.replace("{prompt}", ""), *(message["content"] for message in context.messages)]


def _unread(loaded: Loaded, texts: list[str]) -> str:
    read = loaded.tokenizer
    letters = dict.fromkeys(letter for text in texts for letter in text if not letter.isspace())
    return "".join(
        c for c in letters if c not in str(read.decode(read(c, add_special_tokens=False)["input_ids"]))
    )


def _short(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0][:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
