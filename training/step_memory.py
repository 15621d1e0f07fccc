"""What the trainer here needs for a step at most, by its own options: a bound that is checked by counting.

``memory.py`` estimates a run on n GPUs, for ``cr-interp plan``; this bounds the tensors of one process.

Mental model. Some memory is held throughout (weights, gradients, the optimiser's moments, the teacher). On top of that a
step has two heights, and the higher one counts: the rollout, whose keys and values grow with every token, and the
losses, whose activations wait for the backward pass. The losses' height is

    activations (what every layer keeps)  +  head (logits and what is made of them)

and the four options that matter each shrink one factor: ``micro_batch`` the rows, ``gradient_checkpointing`` what a
layer keeps, ``chunk`` and ``top_k`` the head, ``lora`` all that goes with trained weights.

The formulas bound the tensors that PyTorch holds between operators; workspaces inside kernels and the allocator's
fragments come on top (5–10 % on CUDA is usual). The counts per layer were read off the library's Llama, Qwen, Mistral, Phi-3,
Gemma, OLMo-2, GPT-NeoX and GPT-2 blocks and are checked by ``tests/training/test_step_memory.py``, which counts live bytes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.config import Training
from training.objectives import Distribution, Term, gradient_into, needs

FLOAT = 4


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. ``queries`` and ``keys`` are heads × head width (``keys`` of the grouped heads, once)."""

    layers: int
    width: int
    inner: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    parameters: int
    eager: bool = False
    """Attention that keeps its probabilities; fused kernels do not."""
    norms: int = 2
    """Norms over the width in a layer."""
    inner_kept: int = 4
    """What the MLP keeps, in units of ``inner``: gate, its activation, the other factor, and their product."""

    @staticmethod
    def of(config: Any, parameters: int) -> "Shape":
        """From a model's ``config`` and its number of parameters."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
        grouped = getattr(text, "num_key_value_heads", None) or heads
        inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        return Shape(
            text.num_hidden_layers, text.hidden_size, inner, heads, heads * head_width, grouped * head_width,
            text.vocab_size, parameters, text._attn_implementation == "eager",
            norms=4 if text.model_type.startswith("gemma") else 2,
            # GPT-2's activation is written out in elementary operations, each of which keeps its argument.
            inner_kept=9 if text.model_type == "gpt2" else 4,
        )  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """A micro-batch in tokens: ``rows`` sequences, each view a shared prefix (once) and what follows it (per row,
    padding included)."""

    rows: int
    response: int
    own_x: int
    """Tokens of a row behind the prefix, without context: the rest of the prompt and the response."""
    own_c: int
    prefix_x: int = 0
    prefix_c: int = 0

    @property
    def tokens(self) -> int:
        """Aligned positions, at most."""
        return self.rows * self.response


@dataclass(frozen=True)
class Memory:
    """Bytes by part; ``total`` is the higher of the two heights on top of what is held throughout."""

    weights: int
    teacher: int
    gradients: int
    optimiser: int
    activations: int
    head: int
    rollout: int

    @property
    def held(self) -> int:
        return self.weights + self.teacher + self.gradients + self.optimiser

    @property
    def losses(self) -> int:
        return self.activations + self.head

    @property
    def total(self) -> int:
        return self.held + max(self.losses, self.rollout)

    def table(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def step_memory(
    shape: Shape,
    sizes: Sizes,
    terms: Sequence[Term],
    training: Training,
    trained: int | None = None,
    teacher: Shape | None = None,
) -> Memory:
    """An upper bound for one step on one device.

    ``trained`` is the number of parameters that are trained (default: all). ``teacher`` is the shape of a teacher of its
    own; without one it is a frozen copy of the student, or with ``training.lora`` no copy at all.
    """
    trained = shape.parameters if trained is None else trained
    frozen_bytes = 2 if training.bf16 else FLOAT
    other = teacher or shape
    copies = 0 if training.lora and teacher is None else 1
    prefix_kept = FLOAT * 2 * other.layers * sizes.prefix_c * other.keys  # the teacher's, once per run
    cast = 2 * shape.parameters if training.bf16 and not training.lora else 0  # weights as the products see them
    return Memory(
        weights=FLOAT * trained + frozen_bytes * (shape.parameters - trained),
        teacher=copies * frozen_bytes * other.parameters + (prefix_kept if needs(terms, "f") else 0),
        gradients=FLOAT * trained,
        optimiser=2 * FLOAT * trained,
        activations=activation_bytes(shape, sizes, terms, training, other) + cast,
        head=head_bytes(shape, sizes.tokens, terms, training, whole_head=not training.lora),
        rollout=rollout_bytes(shape, training.batch_size, sizes) + merged_bytes(shape, training),
    )


def activation_bytes(
    shape: Shape, sizes: Sizes, terms: Sequence[Term], training: Training, teacher: Shape | None = None
) -> int:
    """What the backbones keep for the backward pass in the views that are trained, and the one layer at work.

    Everything counts 4 bytes: with bfloat16 products, too, the residual stream, the norms and the rotation are float32.
    """
    kept = at_work = 0
    views: list[tuple[Distribution, int, int]] = [("q_x", sizes.own_x, sizes.prefix_x)]
    views += [("q_c", sizes.own_c, sizes.prefix_c)] if needs(terms, "q_c") else []
    for name, own, prefix in views:
        layer = _layer_floats(shape, sizes.rows, own, prefix)
        positions = prefix + sizes.rows * own
        keys_values = shape.layers * prefix * 2 * shape.keys
        if not gradient_into(terms, name):
            at_work = max(at_work, layer // 2 + keys_values)
        elif training.gradient_checkpointing:
            kept += shape.layers * positions * shape.width + keys_values
            at_work = max(at_work, 3 * layer // 2)  # computed again, and its gradients
        else:
            kept += shape.layers * layer
            at_work = max(at_work, layer // 2)  # gradients
        kept += 3 * positions * shape.width + _mask_floats(sizes.rows, own, prefix)  # embeddings, last norm
    if needs(terms, "f"):
        layer = _layer_floats(teacher or shape, sizes.rows, sizes.own_c, sizes.prefix_c)
        at_work = max(at_work, layer // 2 + _mask_floats(sizes.rows, sizes.own_c, sizes.prefix_c))
    states = 2 * len(views) * sizes.tokens * shape.width  # at the aligned positions, and their gradients
    return FLOAT * (kept + at_work + states)


def _layer_floats(shape: Shape, rows: int, own: int, prefix: int) -> int:
    """One layer with everything that it keeps for its backward pass; without one, half of that exists at a time.

    Per position: norms with their inputs and residuals, the MLP, queries and outputs, own keys and values. Per row and
    key: keys and values as the row sees them, prefix included, repeated for grouped heads, and probabilities where
    attention is eager.
    """
    per_position = (
        4 * shape.norms * shape.width + shape.inner_kept * shape.inner + 5 * shape.queries + 4 * shape.keys
    )
    floats = (prefix + rows * own) * per_position
    if prefix:
        floats += rows * (prefix + own) * 2 * (shape.keys + shape.queries)
    if shape.eager:
        floats += 3 * shape.heads * (rows * own * (prefix + own) + prefix * prefix)
    return floats


def _mask_floats(rows: int, own: int, prefix: int) -> int:
    return 2 * rows * own * (prefix + own) if prefix else 0


def head_bytes(
    shape: Shape, tokens: int, terms: Sequence[Term], training: Training, whole_head: bool = True
) -> int:
    """Logits and what becomes of them, at the highest; ``whole_head``: the head's weights are trained.

    Full vocabulary: a matrix [chunk, vocabulary] per distribution, two per term (its probabilities and difference), and
    four that come and go. With ``top_k``: three that come and go, and small matrices [tokens, top_k].
    """
    distributions = 1 + needs(terms, "q_c") + needs(terms, "f")  # q_x is always there
    at_once = min(training.chunk or tokens, tokens)
    k = training.top_k
    if k is not None and k < shape.vocabulary:
        matrices = 3 * at_once * shape.vocabulary
        small = tokens * k * (4 * distributions + 4 * len(terms) + 2)
    else:
        matrices = (distributions + 2 * len(terms) + 4) * at_once * shape.vocabulary
        small = 0
    # Where chunks add up, a gradient of the head's weights is added to another.
    weights = 2 * shape.vocabulary * shape.width if whole_head else 0
    return FLOAT * (matrices + small + weights + 6 * tokens)


def rollout_bytes(shape: Shape, rows: int, sizes: Sizes) -> int:
    """Decoding ``rows`` sequences at once: keys and values of all layers, the layer that grows, and the last logits."""
    length = sizes.prefix_x + sizes.own_x
    cache = 2 * shape.keys * rows * length * (shape.layers + 2)
    repeated = 2 * shape.queries * rows * length
    prompts = _layer_floats(shape, rows, max(sizes.own_x - sizes.response, 1), sizes.prefix_x) // 2
    return FLOAT * (cache + max(repeated, prompts) + 4 * rows * shape.vocabulary)


def merged_bytes(shape: Shape, training: Training) -> int:
    """The adapted weights once more while an adapter is merged, which it is in float32 only."""
    if not training.lora or training.bf16:
        return 0
    per_layer = shape.width * (2 * shape.queries + 2 * shape.keys + 3 * shape.inner)
    return FLOAT * shape.layers * per_layer
