"""How much memory a step takes on each GPU, by part, in bytes. Upper bounds where lengths are, estimates elsewhere.

Formulas. Weights, gradients and AdamW's two moments are float32, 4, 4 and 8 bytes a parameter (``precision.py`` says why);
what is not trained, and what an engine writes responses with, is in 16 bits under mixed precision. Fully sharded, each GPU
holds 1/n of them (Rajbhandari et al. 2020, ZeRO, arXiv 1910.02054, section 3.1) and gathers the block that it computes and
the next. Gradient checkpointing keeps the input of every block, ``layers · width`` a token, and what is inside of one block
(Korthikanti et al. 2022, arXiv 2205.05198, section 5); the inside is counted for a gated MLP and an attention kernel that
stores no scores:

    6d of two norms (what comes in, normed, scaled), (2h + 2g)·w of q, k, v and z, 4f of the MLP, twice (h + g)·w more where
    q and k are normed; in 16 bits also the float32 copies that norms make

Logits exist for a chunk of positions at a time where the support is a top-k, else for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.architecture import DETAILS, Architecture
from training.objectives import Distribution, Term, gradient_into, needs
from training.work import Lengths

#: Bytes a parameter of weights, gradients, optimizer; of a frozen model; of an activation.
BYTES = {"mixed": (4, 4, 8, 2, 2), "float32": (4, 4, 8, 4, 4)}
#: Positions whose logits exist at once, with a top-k.
CHUNK = 1024


@dataclass(frozen=True)
class Setup:
    """How a run is spread: ``gpus`` hold 1/n of everything each if there are several, ``micro_batch`` rows at a time."""

    gpus: int = 1
    micro_batch: int = 1
    precision: Literal["mixed", "float32"] = "mixed"
    checkpointing: bool = True


def memory(
    terms: Sequence[Term],
    student: Architecture,
    teacher: Architecture,
    rows: int,
    lengths: Lengths,
    top_k: int | None,
    setup: Setup,
) -> dict[str, int]:
    """Bytes on each GPU, by part. ``rows`` is the whole batch; see :func:`peak` for which parts exist together."""
    weights, gradients, optimizer, frozen, _ = BYTES[setup.precision]
    own, n = student.parameters, setup.gpus
    held = {
        "weights": own * weights // n,
        "gradients": own * gradients // n,
        "optimizer": own * optimizer // n,
        "teacher": teacher.parameters * frozen // n if needs(terms, "f") else 0,
    }
    largest = max(student, teacher, key=lambda shape: shape.parameters) if held["teacher"] else student
    update = {
        "gathered blocks": (2 * largest.block + outside(largest)) * weights if n > 1 else 0,
        "activations": activations(terms, student, lengths, setup),
        "context's keys and values": context_cache(terms, student, teacher, lengths, setup),
        "logits": logits(terms, student, setup.micro_batch * lengths.aligned, top_k),
    }
    rows_here = -(-rows // n)
    sampling = {
        # One process samples with the weights that it trains; sharded weights are no good for that, so an engine has a copy.
        "rollout engine": own * frozen if n > 1 else 0,
        "rollout keys and values": rows_here * lengths.own * student.kv_bytes * frozen // 2,
    }
    return {**held, **update, **sampling}


HELD = ("weights", "gradients", "optimizer", "teacher")
UPDATE = ("gathered blocks", "activations", "context's keys and values", "logits")
SAMPLING = ("rollout engine", "rollout keys and values")


def peak(parts: dict[str, int]) -> int:
    """What is held throughout, and the larger of the update and of the rollouts, which take turns."""
    return sum(parts[p] for p in HELD) + max(sum(parts[p] for p in UPDATE), sum(parts[p] for p in SAMPLING))


def outside(shape: Architecture) -> int:
    """Parameters outside of the blocks."""
    return shape.parameters - shape.layers * shape.block if shape.counted is None else 2 * shape.embedding


def inside(shape: Architecture, precision: str) -> int:
    """Bytes that one block keeps of one token for its backward pass."""
    element = BYTES[precision][4]
    normed_heads = 2 * (shape.heads + shape.kv_heads) * shape.head if DETAILS.get(shape.family, (0, 0))[1] else 0
    values = (
        6 * shape.width + 2 * (shape.heads + shape.kv_heads) * shape.head + 4 * shape.intermediate + normed_heads
    )
    copies = 8 * shape.width + 2 * normed_heads
    return element * values + (copies if element == 2 else 0)


def activations(terms: Sequence[Term], shape: Architecture, lengths: Lengths, setup: Setup) -> int:
    """What a micro-batch keeps for its backward pass: the graphs of both student views exist at once."""
    x = setup.micro_batch * lengths.own if gradient_into(terms, "q_x") else 0
    c = setup.micro_batch * lengths.own + lengths.context if gradient_into(terms, "q_c") else 0
    if not setup.checkpointing:
        return (x + c) * shape.layers * inside(shape, setup.precision)
    inputs = (x + c) * shape.layers * shape.width * BYTES[setup.precision][4]
    return inputs + max(x, c) * inside(shape, setup.precision)


def context_cache(
    terms: Sequence[Term], student: Architecture, teacher: Architecture, lengths: Lengths, setup: Setup
) -> int:
    """Keys and values that the rows of a micro-batch see behind the context, in the views that have one."""
    tokens = setup.micro_batch * (lengths.turns * lengths.context + lengths.own)  # every turn is a row
    of_student = student.kv_bytes if needs(terms, "q_c") else 0
    of_teacher = teacher.kv_bytes if needs(terms, "f") else 0
    return tokens * (of_student + of_teacher) * BYTES[setup.precision][4] // 2


def logits(terms: Sequence[Term], shape: Architecture, positions: int, top_k: int | None) -> int:
    """float32: logits, their log-softmax and its gradient for a chunk, and the gathered support of every distribution;
    on the full vocabulary all distributions at all positions, and two temporaries of a term."""
    names: tuple[Distribution, ...] = ("q_x", "q_c", "f")
    distributions = sum(needs(terms, name) for name in names)
    if top_k is None or top_k >= shape.vocabulary:
        return positions * shape.vocabulary * 4 * (distributions + 2)
    return min(CHUNK, positions) * shape.vocabulary * 4 * 3 + positions * top_k * (8 + 4 * distributions)
