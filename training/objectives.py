"""Objectives are data: an arm is a list of terms ``weight * KL(p || q)``.

Written as in the paper, with ``q_x`` the student without context, ``q_c`` the student with context, ``f`` the
frozen teacher with context, and ``sg[…]`` a distribution that receives no gradient:

    opd   KL(q_x || f)
    nca   KL(q_x || f)    0.5 * KL(sg[q_x] || q_c)

A new arm is a new line in :data:`ARMS` or in a configuration file. The KL is the exact one over the support at
every response token, not an estimate from the sampled token: gradients flow through the distributions, never
through the sampling. Source: arXiv 2606.11627.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.errors import UserError, unknown

#: The arms of the paper's table (β = 0.5) and the two ablations of the anchor. ``base`` is not trained.
ARMS: dict[str, tuple[str, ...]] = {
    "base": (),
    "opd": ("KL(q_x || f)",),
    "nca": ("KL(q_x || f)", "0.5 * KL(sg[q_x] || q_c)"),
    "dual_opd": ("KL(q_x || f)", "0.5 * KL(q_c || f)"),
    "sym_kl": ("KL(q_x || f)", "0.25 * KL(q_x || q_c)", "0.25 * KL(q_c || q_x)"),
    "nca_no_stop": ("KL(q_x || f)", "0.5 * KL(q_x || q_c)"),
    "nca_reverse": ("KL(q_x || f)", "0.5 * KL(q_c || sg[q_x])"),
}

Distribution = Literal["q_x", "q_c", "f"]
_SIDE = r"(?:(?P<{0}s>sg\[\s*(?P<{0}1>q_x|q_c|f)\s*\])|(?P<{0}2>q_x|q_c|f))"
_TERM = re.compile(
    r"\s*(?:(?P<weight>\d+(?:\.\d*)?(?:e-?\d+)?)\s*\*\s*)?KL\(\s*" + _SIDE.format("p") + r"\s*\|\|\s*"
    + _SIDE.format("q") + r"\s*\)\s*"
)  # fmt: skip


@dataclass(frozen=True)
class Term:
    """``weight * KL(p || q)``; a stopped side receives no gradient (the teacher never does)."""

    weight: float
    p: Distribution
    q: Distribution
    stop_p: bool = False
    stop_q: bool = False

    def __str__(self) -> str:
        p = f"sg[{self.p}]" if self.stop_p else self.p
        q = f"sg[{self.q}]" if self.stop_q else self.q
        return ("" if self.weight == 1 else f"{self.weight:g} * ") + f"KL({p} || {q})"


def parse_term(text: str) -> Term:
    """Read one term.

    >>> str(parse_term("0.5*KL( sg[q_x]||q_c )"))
    '0.5 * KL(sg[q_x] || q_c)'
    """
    match = _TERM.fullmatch(text)
    if match is None:
        raise UserError(
            f"'{text}' is not a term. A term reads like '0.5 * KL(sg[q_x] || q_c)': an optional weight, and two of "
            f"q_x (student, no context), q_c (student, with context), f (teacher), each possibly in sg[…]."
        )
    get = match.groupdict()
    p = cast(Distribution, get["p1"] or get["p2"])
    q = cast(Distribution, get["q1"] or get["q2"])
    if p == q:
        raise UserError(f"'{text}' compares {p} with itself, which is always 0. Name two distributions.")
    return Term(float(get["weight"] or 1.0), p, q, get["ps"] is not None, get["qs"] is not None)


def arm_terms(arm: str, own: Mapping[str, Sequence[str]] | None = None) -> tuple[Term, ...]:
    """The terms of an arm: the configuration's own, or one of :data:`ARMS`."""
    arms = {**ARMS, **(own or {})}
    if arm not in arms:
        raise unknown("arm", arm, arms)
    if not arms[arm]:
        raise UserError(f"The arm '{arm}' has no terms: it is the model before training. Evaluate it instead.")
    return tuple(parse_term(text) for text in arms[arm])


def needs(terms: Sequence[Term], distribution: Distribution) -> bool:
    """Does any term look at this distribution? What nobody looks at is not computed."""
    return any(distribution in (term.p, term.q) for term in terms)


def gradient_into(terms: Sequence[Term], distribution: Distribution) -> bool:
    """Does any term send a gradient into this distribution?"""
    return any((t.p == distribution and not t.stop_p) or (t.q == distribution and not t.stop_q) for t in terms)


Reduction = Literal["token_mean", "sequence_mean"]
LogProbs = Mapping[Distribution, Float[Tensor, "token support"]]


@dataclass(frozen=True)
class Whole:
    """What the means of an optimiser step run over: the response tokens and sequences of all its micro-batches.

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
    """All terms at the aligned positions of a batch.

    ``log_p`` holds float32 log-probabilities of the distributions that the terms name; ``owner`` says which
    sequence each token belongs to. With ``top_k`` the support is the student's no-context top-k and every
    distribution is renormalised on it (without that, the sum is not a KL); the tail that this hides is in ``mass``.
    ``whole`` is the step that a micro-batch is a part of (default: the batch is the step).

    This is the plain form, for log-probabilities that are there anyway; ``head.py`` computes the same from states
    without holding a vocabulary for every token.
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
    """Is the support smaller than the vocabulary? Refuses a ``top_k`` on which there is nothing to learn."""
    if top_k is None or top_k >= vocabulary:
        return False
    if top_k < 2:
        raise UserError(f"top_k = {top_k}: renormalised over one token, every loss is 0 for ever. Use 2 or more.")
    return True


def divergence(term: Term, log_p: LogProbs) -> Float[Tensor, " token"]:
    """KL(p ‖ q) of one term at every token, unweighted; no gradient into a stopped side or the teacher."""
    p, q = log_p[term.p], log_p[term.q]
    p = p.detach() if term.stop_p or term.p == "f" else p
    q = q.detach() if term.stop_q or term.q == "f" else q
    return (p.exp() * (p - q)).sum(-1)


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
        values[str(Term(1.0, term.p, term.q, term.stop_p, term.stop_q))] = value.detach()
    return Losses(total, values, mass)


def reduce(
    per_token: Float[Tensor, " token"], owner: Int[Tensor, " token"], how: Reduction, whole: Whole | None = None
) -> Float[Tensor, ""]:
    """Mean over tokens, or over sequences of each sequence's mean; of a micro-batch, its share of the step's."""
    if how == "token_mean":
        return per_token.sum() / (whole.tokens if whole else len(per_token))
    sequences = int(owner.max()) + 1
    sums = per_token.new_zeros(sequences).index_add(0, owner, per_token)
    counts = torch.bincount(owner, minlength=sequences).clamp(min=1)
    return (sums / counts).sum() / (whole.sequences if whole else (counts > 0).sum())
