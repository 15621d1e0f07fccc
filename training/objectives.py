"""Objectives are data: an arm is a list of terms ``weight * KL(p || q)``.

Written as in the paper, with ``q_x`` the student without context, ``q_c`` the student with context, ``f`` the
frozen teacher with context, and ``sg[…]`` a distribution that receives no gradient:

    opd   KL(q_x || f)
    nca   KL(q_x || f)    0.5 * KL(sg[q_x] || q_c)

A new arm is a new line in :data:`ARMS` or in a configuration file. The KL is the exact one over the support at
every response token, not an estimate from the sampled token: gradients flow through the distributions, never
through the sampling (``run/losses.py``). Source: arXiv 2606.11627.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

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


def __getattr__(name: str) -> Any:
    """What was here before terms and arithmetic had a module each; configurations need no torch."""
    if name in ("Losses", "Reduction", "Whole", "divergence", "losses", "reduce", "restricts", "weigh"):
        from training.run import losses

        return getattr(losses, name)
    raise AttributeError(f"module 'training.objectives' has no attribute '{name}'")
