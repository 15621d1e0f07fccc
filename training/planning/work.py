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

from training.objectives import Distribution, Term, gradient_into, needs
from training.planning.architecture import Architecture
from training.settings import Training


@dataclass(frozen=True)
class Lengths:
    """Tokens of one episode: ``turns`` times a prompt of its own (on average) and a response, behind a context that all share."""

    prompt: int
    response: int
    context: int
    turns: int = 1

    @property
    def own(self) -> int:
        """Length without the context: what every row computes for itself."""
        return self.turns * (self.prompt + self.response)

    @property
    def aligned(self) -> int:
        return self.turns * self.response


def forward(shape: Architecture, tokens: int, pairs: int) -> int:
    """Count the operations of the blocks on ``tokens`` that look at ``pairs`` tokens in all, themselves included."""
    return 2 * shape.body * tokens + 4 * shape.layers * shape.heads * shape.head * pairs


def head(shape: Architecture, positions: int) -> int:
    return 2 * shape.embedding * positions


def pairs(own: int, before: int = 0) -> int:
    """Count what each of ``own`` tokens sees, itself and ``before`` included.

    >>> pairs(3), pairs(3, before=2)
    (6, 12)
    """
    return own * before + own * (own + 1) // 2


def readings(training: Training, lengths: Lengths, micro_batch: int | None = None, shared: bool = True) -> int:
    """Count how often a step reads the context in a view of the student: once a micro-batch, or once a sequence where no
    prefix is ``shared``."""
    if not shared:
        return training.batch_size * lengths.turns
    return training.batch_size // (micro_batch or training.micro_batch or training.batch_size)


def view(
    shape: Architecture, rows: int, lengths: Lengths, contexts: int, backward: int, checkpointing: bool
) -> int:
    """Count the operations of one view of ``rows`` episodes, from ids to log-probabilities, behind a context (if any) that is
    read ``contexts`` times.

    ``backward`` is how many products the backward pass has for one of the forward pass: 0 without a gradient, 1 where weights
    have none (an adapter's are few), else 2. Turns are sequences of their own, and do not look at each other.
    """
    before = lengths.context if contexts else 0
    sequences, own = rows * lengths.turns, lengths.prompt + lengths.response
    tokens = sequences * own + contexts * before
    seen = sequences * pairs(own, before) + contexts * pairs(before)
    times = 1 + backward + (checkpointing and backward > 0)
    return times * forward(shape, tokens, seen) + (1 + backward) * head(shape, rows * lengths.aligned)


def rollouts(shape: Architecture, rows: int, lengths: Lengths) -> int:
    """Count the operations of reading the prompts and writing the responses, without context, with keys and values kept."""
    return view(shape, rows, lengths, 0, 0, False)


def step(
    terms: Sequence[Term],
    student: Architecture,
    teacher: Architecture,
    training: Training,
    lengths: Lengths,
    micro_batch: int | None = None,
    shared: bool | None = None,
) -> dict[str, int]:
    """Count the operations of one step of the whole batch, by part; what no term looks at is not computed.

    ``micro_batch`` and ``shared`` (the prefix) are the configuration's if they are not given. A teacher that shares the
    context reads it once a run, but is counted as if once a step.
    """
    shared = training.share_prefix if shared is None else shared
    rows = training.batch_size
    student_reads = readings(training, lengths, micro_batch, shared)
    parts = {"rollouts": rollouts(student, rows, lengths)}
    names: tuple[Distribution, ...] = ("q_x", "q_c", "f")
    for name in names:
        if name == "f" and needs(terms, name):
            parts[name] = view(teacher, rows, lengths, 1 if shared else rows * lengths.turns, 0, False)
        elif name == "q_x" or needs(terms, name):
            backward = (1 if training.lora else 2) if gradient_into(terms, name) else 0
            contexts = 0 if name == "q_x" else student_reads
            parts[name] = view(student, rows, lengths, contexts, backward, training.gradient_checkpointing)
    return parts
