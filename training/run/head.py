"""From final states to losses without a vocabulary for every token.

Mental model. Before its LM head a distribution is one state per response token: small. Behind it, it is a number per
token and word of the vocabulary: 65 000 tokens × 128 000 words × 4 bytes × three distributions are 100 GB. So the head
runs on a chunk of tokens at a time, and what it gave is let go before the next chunk:

- with ``top_k``, each chunk's logits are gathered on the support and dropped. Nothing has to be computed again: a
  linear map does not need its output for the backward pass, and :class:`Gather` does not need its input. The backward
  pass makes one chunk's gradient at a time, too.
- with the full vocabulary, a chunk's divergences need all of its log-probabilities in the backward pass, so these are
  computed again there (``torch.utils.checkpoint``).

Both are the plain path of ``objectives.py`` up to the rounding of sums in another order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cr_interp.models.forward import head, log_probs, soft_cap
from training.objectives import Distribution, Term
from training.run.losses import divergence


@dataclass(frozen=True)
class Source:
    """A distribution before its LM head: the final states, and the model whose head reads them."""

    model: nn.Module
    states: Float[Tensor, "token width"]
    trained: bool
    """Does a gradient flow into it? (The head's weights need to be told, even where the states need none.)"""

    def log_probs(
        self, temperature: float, states: Float[Tensor, "some width"] | None = None
    ) -> Float[Tensor, "some vocabulary"]:
        """Compute log-probabilities over the full vocabulary, for all states or for those given."""
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            return log_probs(self.model, self.states if states is None else states, temperature)


Sources = Mapping[Distribution, Source]


class Gather(torch.autograd.Function):
    """``scores.gather(-1, support)`` that keeps no scores. The library's own keeps them, for their shape alone.

    An entry may be in a row of ``support`` once.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Float[Tensor, "chunk vocabulary"], support: Int[Tensor, "chunk top_k"]
    ) -> Float[Tensor, "chunk top_k"]:
        ctx.save_for_backward(support)
        ctx.vocabulary = scores.shape[-1]
        return scores.gather(-1, support)

    @staticmethod
    def backward(
        ctx: Any, gradient: Float[Tensor, "chunk top_k"]
    ) -> tuple[Float[Tensor, "chunk vocabulary"], None]:
        (support,) = ctx.saved_tensors
        return gradient.new_zeros(len(gradient), ctx.vocabulary).scatter_(-1, support, gradient), None


def on_support(
    sources: Sources, top_k: int, temperature: float, chunk: int | None = None
) -> tuple[dict[Distribution, Float[Tensor, "token top_k"]], dict[str, float]]:
    """Compute log-probabilities renormalised on the student's no-context top-k, and the mass that this captures.

    At most one [chunk, vocabulary] of logits exists at a time, with one more beside it while its sum is taken.
    """
    pieces: dict[Distribution, list[Tensor]] = {name: [] for name in sources}
    masses: dict[Distribution, list[Tensor]] = {name: [] for name in sources}
    for rows in chunks(len(sources["q_x"].states), chunk):
        support: Tensor | None = None
        for name in sorted(sources, key=lambda each: each != "q_x"):  # the support is the student's
            scores, mass, support = _gathered(sources[name], rows, top_k, support, temperature)
            pieces[name].append(scores)
            masses[name].append(mass)
    log_p = {name: torch.cat(pieces[name]).log_softmax(-1) for name in sources}
    return log_p, {name: torch.cat(masses[name]).mean().item() for name in sources}


def _gathered(
    source: Source, rows: slice, top_k: int, support: Int[Tensor, "chunk top_k"] | None, temperature: float
) -> tuple[Float[Tensor, "chunk top_k"], Float[Tensor, " chunk"], Int[Tensor, "chunk top_k"]]:
    """Compute float32 scores (logits over temperature) on the support, its mass, and the support; the logits end here."""
    with torch.set_grad_enabled(source.trained and torch.is_grad_enabled()):
        raw = head(source.model, source.states[rows])
        if support is None:
            support = raw.detach().topk(top_k, dim=-1).indices
        scores = soft_cap(source.model, Gather.apply(raw, support)).float() / temperature
    with torch.no_grad():
        everything = soft_cap(source.model, raw.detach()).float()
        del raw
        if temperature != 1:
            everything = everything / temperature
        mass = (scores.logsumexp(-1) - everything.logsumexp(-1)).exp()
    return scores, mass, support


def chunked_divergences(
    terms: Sequence[Term], sources: Sources, temperature: float, chunk: int
) -> list[Float[Tensor, " token"]]:
    """Compute each term's KL over the full vocabulary, the log-probabilities of one chunk of tokens existing at a time."""
    names = list(sources)

    def piece(*states: Float[Tensor, "chunk width"]) -> Float[Tensor, "term chunk"]:
        log_p = {name: sources[name].log_probs(temperature, s) for name, s in zip(names, states, strict=True)}
        return torch.stack([divergence(term, log_p) for term in terms])

    found = [
        checkpoint(
            piece, *(sources[name].states[rows] for name in names), use_reentrant=False, preserve_rng_state=False
        )
        for rows in chunks(len(sources[names[0]].states), chunk)
    ]
    return list(torch.cat(found, dim=1))


def chunks(tokens: int, size: int | None) -> Iterator[slice]:
    """Return consecutive slices of at most ``size`` tokens; ``None``: one slice.

    >>> [(s.start, s.stop) for s in chunks(5, 2)]
    [(0, 2), (2, 4), (4, 6)]
    """
    step = size or max(tokens, 1)
    return (slice(start, start + step) for start in range(0, tokens, step))
