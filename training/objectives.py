"""Objectives are data: an arm is a list of terms ``weight * KL(p || q)``.

Written as in the paper, with ``q_x`` the student without context, ``q_c`` the student with context, ``f`` the
frozen teacher with context, and ``sg[…]`` a distribution that receives no gradient:

    opd   KL(q_x || f)
    nca   KL(q_x || f)    0.5 * KL(sg[q_x] || q_c)

A new arm is a new line in :data:`ARMS` or in a configuration file. The KL is the exact one over the support at
every response token, not an estimate from the sampled token: gradients flow through the distributions, never
through the sampling (``run/losses.py``). Source: arXiv 2606.11627.

A term may ask how far the student has internalised the context **at that token**: the gate
``g = exp(-KL(q_x || f) / scale)``, without gradient, is 1 where the student without context is the teacher, and goes to 0 where
it is far. ``scale`` is in nats:

    nca_near   KL(q_x || f)    0.5 * near(1) * KL(sg[q_x] || q_c)      anchor only what is internalised
    nca_mix    KL(q_x || f)    0.5 * KL(sg[mix(q_x, f, 1)] || q_c)     hold to g q_x + (1 - g) f
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
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
_NUMBER, _NAME = r"\d+(?:\.\d*)?(?:e-?\d+)?", r"q_x|q_c|f"
_MIX = re.compile(rf"mix\(\s*({_NAME})\s*,\s*({_NAME})\s*,\s*({_NUMBER})\s*\)")
_SIDE = re.compile(rf"(?P<stopped>sg\[\s*(?P<inside>.+?)\s*\])|(?P<plain>{_NAME})")
_TERM = re.compile(
    rf"\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?:near\(\s*(?P<near>{_NUMBER})\s*\)\s*\*\s*)?"
    r"KL\(\s*(?P<p>[^|]+?)\s*\|\|\s*(?P<q>[^|]+?)\s*\)\s*"
)


@dataclass(frozen=True)
class Mix:
    """``g * near + (1 - g) * far`` at every token, with the gate g = exp(-KL(q_x || f) / scale)."""

    near: Distribution
    far: Distribution
    scale: float

    def __str__(self) -> str:
        return f"mix({self.near}, {self.far}, {self.scale:g})"


@dataclass(frozen=True)
class Term:
    """``weight * KL(p || q)``; a stopped side receives no gradient (the teacher and a mixture never do)."""

    weight: float
    p: Distribution | Mix
    q: Distribution | Mix
    stop_p: bool = False
    stop_q: bool = False
    near: float | None = None
    """Scale, in nats, of a gate in front of the term; None: no gate."""

    def __str__(self) -> str:
        p = f"sg[{self.p}]" if self.stop_p else self.p
        q = f"sg[{self.q}]" if self.stop_q else self.q
        gate = "" if self.near is None else f"near({self.near:g}) * "
        return ("" if self.weight == 1 else f"{self.weight:g} * ") + gate + f"KL({p} || {q})"

    @property
    def looks_at(self) -> frozenset[Distribution]:
        """The distributions whose values the term needs; a gate needs the two that say how far the context is internalised."""
        found: set[Distribution] = set() if self.near is None else {"q_x", "f"}
        for side in (self.p, self.q):
            found |= {side.near, side.far, "q_x", "f"} if isinstance(side, Mix) else {side}
        return frozenset(found)


def parse_term(text: str) -> Term:
    """Read one term.

    >>> str(parse_term("0.5*KL( sg[q_x]||q_c )"))
    '0.5 * KL(sg[q_x] || q_c)'
    """
    match = _TERM.fullmatch(text)
    sides = [_side(match[name]) for name in ("p", "q")] if match else []
    if match is None or None in sides:
        raise UserError(
            f"'{text}' is not a term. A term reads like '0.5 * KL(sg[q_x] || q_c)': an optional weight, and two of "
            f"q_x (student, no context), q_c (student, with context), f (teacher), each possibly in sg[…]. Between weight and KL "
            f"may stand near(SCALE), and for a side sg[mix(q_x, f, SCALE)], with a scale in nats."
        )
    (p, stop_p), (q, stop_q) = cast(list[tuple[Distribution | Mix, bool]], sides)
    near = None if match["near"] is None else float(match["near"])
    scales = [each.scale for each in (p, q) if isinstance(each, Mix)] + ([] if near is None else [near])
    if any(not 0 < scale < inf for scale in scales):
        raise UserError(
            f"'{text}' has a gate of scale 0, which is shut at every token. A scale is in nats, such as 1."
        )
    if p == q or any(isinstance(each, Mix) and each.near == each.far for each in (p, q)):
        same = (
            p if p == q else next(each.near for each in (p, q) if isinstance(each, Mix) and each.near == each.far)
        )
        raise UserError(f"'{text}' compares or mixes {same} with itself. Name two distributions.")
    return Term(float(match["weight"] or 1.0), p, q, stop_p, stop_q, near)


def _side(text: str) -> tuple[Distribution | Mix, bool] | None:
    """Return one side of a term and whether a gradient is stopped there; None if it reads like neither. A mixture is always
    stopped.
    """
    match = _SIDE.fullmatch(text)
    if match is None:
        return None
    if match["plain"]:
        return cast(Distribution, match["plain"]), False
    if mixed := _MIX.fullmatch(match["inside"]):
        near, far, scale = mixed.groups()
        return Mix(cast(Distribution, near), cast(Distribution, far), float(scale)), True
    return (cast(Distribution, match["inside"]), True) if re.fullmatch(_NAME, match["inside"]) else None


def arm_terms(arm: str, own: Mapping[str, Sequence[str]] | None = None) -> tuple[Term, ...]:
    """Return the terms of an arm: the configuration's own, or one of :data:`ARMS`."""
    arms = {**ARMS, **(own or {})}
    if arm not in arms:
        raise unknown("arm", arm, arms)
    if not arms[arm]:
        raise UserError(f"The arm '{arm}' has no terms: it is the model before training. Evaluate it instead.")
    return tuple(parse_term(text) for text in arms[arm])


def needs(terms: Sequence[Term], distribution: Distribution) -> bool:
    """Tell whether any term looks at this distribution. What nobody looks at is not computed."""
    return any(distribution in term.looks_at for term in terms)


def gradient_into(terms: Sequence[Term], distribution: Distribution) -> bool:
    """Tell whether any term sends a gradient into this distribution."""
    return any((t.p == distribution and not t.stop_p) or (t.q == distribution and not t.stop_q) for t in terms)


def __getattr__(name: str) -> Any:
    """Find what was here before terms and arithmetic had a module each; configurations need no torch."""
    if name in ("Losses", "Reduction", "Whole", "divergence", "losses", "reduce", "restricts", "weigh"):
        from training.run import losses

        return getattr(losses, name)
    raise AttributeError(f"module 'training.objectives' has no attribute '{name}'")
