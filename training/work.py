"""How much arithmetic a step is: floating-point operations of rollouts, both student views and the teacher.

Formulas. A multiply and an add are two operations, so a token costs ``2N`` in a forward pass through N parameters, and
attention ``4 · layers · heads · head`` for every earlier token it looks at (queries times keys, weights times values); a
backward pass costs twice its forward pass (Kaplan et al. 2020, arXiv 2001.08361, table 1; Hoffmann et al. 2022, arXiv
2203.15556, appendix F). Gradient checkpointing computes the forward pass of the blocks once more (Chen et al. 2016, arXiv
1604.06174). The head runs at aligned positions only, and a context in front of several
rows once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from training.architecture import Architecture
from training.objectives import Distribution, Term, gradient_into, needs


@dataclass(frozen=True)
class Lengths:
    """Tokens of one episode: ``turns`` times a prompt of its own and a response, behind a context that all share."""

    prompt: int
    response: int
    context: int
    turns: int = 1

    @property
    def own(self) -> int:
        """Without the context: what every row computes for itself."""
        return self.turns * (self.prompt + self.response)

    @property
    def aligned(self) -> int:
        return self.turns * self.response


def forward(shape: Architecture, tokens: int, pairs: int) -> int:
    """Operations of the blocks on ``tokens`` that look at ``pairs`` tokens in all, themselves included."""
    return 2 * shape.body * tokens + 4 * shape.layers * shape.heads * shape.head * pairs


def head(shape: Architecture, positions: int) -> int:
    return 2 * shape.embedding * positions


def pairs(own: int, before: int = 0) -> int:
    """Σ of what each of ``own`` tokens sees, itself and ``before`` included.

    >>> pairs(3), pairs(3, before=2)
    (6, 12)
    """
    return own * before + own * (own + 1) // 2


def view(
    shape: Architecture,
    rows: int,
    lengths: Lengths,
    with_context: bool,
    gradient: bool,
    checkpointing: bool,
    readings: int = 1,
) -> int:
    """One view of a batch, from ids to log-probabilities, with its backward pass if it has a gradient; the context is read
    ``readings`` times."""
    before = lengths.context if with_context else 0
    tokens = rows * lengths.own + readings * before
    seen = rows * pairs(lengths.own, before) + readings * pairs(before)
    times = 1 + (2 + checkpointing if gradient else 0)
    return times * forward(shape, tokens, seen) + (3 if gradient else 1) * head(shape, rows * lengths.aligned)


def rollouts(shape: Architecture, rows: int, lengths: Lengths) -> int:
    """Reading the prompts and writing the responses, without context, with keys and values kept."""
    tokens, seen = rows * lengths.own, rows * pairs(lengths.own)
    return forward(shape, tokens, seen) + head(shape, rows * lengths.aligned)


def step(
    terms: Sequence[Term],
    student: Architecture,
    teacher: Architecture,
    rows: int,
    lengths: Lengths,
    checkpointing: bool = False,
    readings: int = 1,
) -> dict[str, int]:
    """Operations of one step, by part; what no term looks at is not computed. ``rows`` is the whole batch, ``readings`` how
    often it reads the context: once a micro-batch, or once a row where no prefix is shared.

    A teacher that shares it reads it once a run, but is counted as if once a step.
    """
    parts = {"rollouts": rollouts(student, rows, lengths)}
    names: tuple[Distribution, ...] = ("q_x", "q_c", "f")
    for name in names:
        if name == "q_x" or needs(terms, name):
            shape = teacher if name == "f" else student
            gradient = name != "f" and gradient_into(terms, name)
            often = 1 if name == "f" and readings < rows else readings
            parts[name] = view(shape, rows, lengths, name != "q_x", gradient, checkpointing, often)
    return parts
