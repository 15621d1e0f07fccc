"""From log-probabilities to the terms of an arm: a pure function of what the views predict on a support.

Mental model: a term is data (``training/objectives.py``). Here it becomes a number per token, KL(p ‖ q) over the support, and
a mean over the step. No model, no view, no randomness.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.errors import UserError
from training.objectives import Distribution, Mix, Term

Reduction = Literal["token_mean", "sequence_mean"]
LogProbs = Mapping[Distribution, Float[Tensor, "token support"]]


@dataclass(frozen=True)
class Whole:
    """The whole that the means of an optimiser step run over: the response tokens and sequences of all its micro-batches.

    A mean of micro-batches' means would weigh a token by how short the responses beside it are.
    """

    tokens: int
    sequences: int

    @staticmethod
    def of(responses: Sequence[Sequence[int]]) -> "Whole":
        return Whole(sum(map(len, responses)), len(responses))


@dataclass(frozen=True)
class Losses:
    """The value of each term apart (unweighted, per term text), and their weighted sum.

    Of a micro-batch they are its share: the shares of all micro-batches add up to the step's means.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]
    mass: dict[str, float]
    """Mean probability that the support captures, under each distribution (1 with the full vocabulary)."""


def losses(
    terms: Sequence[Term],
    log_p: Mapping[Distribution, Float[Tensor, "token vocabulary"]],
    owner: Int[Tensor, " token"],
    top_k: int | None = None,
    reduction: Reduction = "token_mean",
    whole: Whole | None = None,
) -> Losses:
    """Compute all terms at the aligned positions of a batch.

    ``log_p`` holds float32 log-probabilities of the distributions that the terms name; ``owner`` says which sequence each
    token belongs to. With ``top_k`` the support is the student's no-context top-k and every distribution is renormalised on
    it (without that, the sum is not a KL); the tail that this hides is in ``mass``. ``whole`` is the step that a micro-batch
    is a part of (default: the batch is the step).

    This is the plain form, for log-probabilities that are there anyway; ``head.py`` computes the same from states without
    holding a vocabulary for every token.
    """
    mass: dict[str, float] = {name: 1.0 for name in log_p}
    if restricts(top_k, next(iter(log_p.values())).shape[-1]):
        assert top_k is not None
        support = log_p["q_x"].detach().topk(top_k, dim=-1).indices
        kept = {name: values.gather(-1, support) for name, values in log_p.items()}
        mass = {name: values.detach().logsumexp(-1).exp().mean().item() for name, values in kept.items()}
        log_p = {name: values.log_softmax(-1) for name, values in kept.items()}
    return weigh(terms, (divergence(term, log_p) for term in terms), owner, mass, reduction, whole)


def restricts(top_k: int | None, vocabulary: int) -> bool:
    """Tell whether the support is smaller than the vocabulary. Refuses a ``top_k`` on which there is nothing to learn."""
    if top_k is None or top_k >= vocabulary:
        return False
    if top_k < 2:
        raise UserError(f"top_k = {top_k}: renormalised over one token, every loss is 0 for ever. Use 2 or more.")
    return True


def divergence(term: Term, log_p: LogProbs) -> Float[Tensor, " token"]:
    """Compute KL(p ‖ q) of one term at every token, behind its gate but unweighted; no gradient into a stopped side or the
    teacher.
    """
    p, q = _side(term.p, log_p), _side(term.q, log_p)
    p = p.detach() if term.stop_p or term.p == "f" else p
    q = q.detach() if term.stop_q or term.q == "f" else q
    found = (p.exp() * (p - q)).sum(-1)
    return found if term.near is None else _distance(log_p).div(-term.near).exp() * found


def _side(side: Distribution | Mix, log_p: LogProbs) -> Float[Tensor, "token support"]:
    """Compute log-probabilities of one side. A mixture is taken in logarithms, so that a token that both call unlikely stays
    finite.
    """
    if not isinstance(side, Mix):
        return log_p[side]
    shut = _distance(log_p).div(-side.scale)[:, None]  # log g
    open_ = torch.log(-torch.expm1(shut))  # log (1 - g), which is -inf where student and teacher are equal
    return torch.logaddexp(log_p[side.near].detach() + shut, log_p[side.far].detach() + open_)


def _distance(log_p: LogProbs) -> Float[Tensor, " token"]:
    """Compute KL(q_x ‖ f) at every token, without gradient: how far the student without context is from the teacher."""
    q_x, f = log_p["q_x"].detach(), log_p["f"].detach()
    return (q_x.exp() * (q_x - f)).sum(-1).clamp(min=0)  # rounding may fall below 0


def weigh(
    terms: Sequence[Term],
    per_token: Iterable[Float[Tensor, " token"]],
    owner: Int[Tensor, " token"],
    mass: dict[str, float],
    reduction: Reduction = "token_mean",
    whole: Whole | None = None,
) -> Losses:
    """Reduce each term's divergences, in the order of the terms, and add them up."""
    values: dict[str, Tensor] = {}
    total = torch.zeros((), device=owner.device)
    for term, divergences in zip(terms, per_token, strict=True):
        value = reduce(divergences, owner, reduction, whole)
        total = total + term.weight * value
        values[str(replace(term, weight=1.0))] = value.detach()
    return Losses(total, values, mass)


def reduce(
    per_token: Float[Tensor, " token"], owner: Int[Tensor, " token"], how: Reduction, whole: Whole | None = None
) -> Float[Tensor, ""]:
    """Take the mean over tokens, or over sequences of each sequence's mean; of a micro-batch, its share of the step's."""
    if how == "token_mean":
        return per_token.sum() / (whole.tokens if whole else len(per_token))
    sequences = int(owner.max()) + 1
    sums = per_token.new_zeros(sequences).index_add(0, owner, per_token)
    counts = torch.bincount(owner, minlength=sequences).clamp(min=1)
    return (sums / counts).sum() / (whole.sequences if whole else (counts > 0).sum())
