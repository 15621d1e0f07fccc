"""What a step needs at most on each GPU, from shapes alone: bytes by part. A bound, and the tests count live bytes against it.

Mental model. Some memory is held throughout (weights, gradients, the optimiser's moments, the teacher). On top of that there
are three peaks, and the highest counts. In the rollout keys and values grow with every token. In the evaluation between steps
they do so behind the context. In the losses activations wait for the backward pass. Their height is

    activations (what every layer keeps)  +  head (logits and what is made of them)

and the four options that matter each shrink one factor: ``micro_batch`` the rows, ``gradient_checkpointing`` what a
layer keeps, ``chunk`` and ``top_k`` the head, ``lora`` all that goes with trained weights. Weights, gradients and AdamW's two
moments are float32; what is not trained is in 16 bits with ``bf16`` (``run/precision.py`` says why). Sharded over n GPUs, each
holds 1/n of what goes with the student (Rajbhandari et al. 2020, ZeRO, arXiv 1910.02054, section 3.1), gathers the block that
it computes and the next, and holds the teacher whole.

The formulas bound the tensors that PyTorch holds between operators; workspaces inside kernels and the allocator's
fragments come on top (5–10 % on CUDA is usual). The counts per layer were read off the library's Llama, Qwen, Mistral, Phi-3,
Gemma, OLMo-2, GPT-NeoX and GPT-2 blocks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from training.objectives import Distribution, Term, gradient_into, needs
from training.planning.architecture import Architecture
from training.settings import Lora, Training

FLOAT = 4


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
    """Bytes by part; ``total`` is the highest of the three heights on top of what is held throughout."""

    weights: int
    teacher: int
    gradients: int
    optimiser: int
    gathered: int
    """Blocks of sharded weights that are whole for a moment."""
    activations: int
    head: int
    rollout: int
    evaluation: int
    """Answering validation prompts with the context, which every process does whole."""

    @property
    def held(self) -> int:
        return self.weights + self.teacher + self.gradients + self.optimiser

    @property
    def losses(self) -> int:
        return self.activations + self.head

    @property
    def total(self) -> int:
        return self.held + self.gathered + max(self.losses, self.rollout, self.evaluation)

    def table(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def step_memory(
    shape: Architecture,
    sizes: Sizes,
    terms: Sequence[Term],
    training: Training,
    teacher: Architecture | None = None,
    processes: int = 1,
    sharded: bool = False,
    evaluated: int = 0,
) -> Memory:
    """Bound the memory of one step on each of ``processes`` GPUs from above.

    ``teacher`` is the shape of a teacher of its own; without one it is a frozen copy of the student, or with
    ``training.lora`` no copy at all. ``evaluated`` prompts are answered at a time between the steps.
    """
    trained = adapter_parameters(shape, training.lora) if training.lora else shape.parameters
    frozen = shape.parameters if training.lora else 0
    parts = processes if sharded else 1
    frozen_bytes = 2 if training.bf16 else FLOAT
    other = teacher or shape
    copies = 0 if training.lora and teacher is None else 1
    prefix_kept = FLOAT * 2 * other.layers * sizes.prefix_c * other.keys  # the teacher's, once per run
    cast = 2 * shape.parameters if training.bf16 and not training.lora else 0  # weights as the products see them
    return Memory(
        weights=(FLOAT * trained + frozen_bytes * frozen) // parts,
        teacher=copies * frozen_bytes * other.parameters + (prefix_kept if needs(terms, "f") else 0),
        # Whole weights in several processes: the buckets in which DDP averages gradients are a second copy of them.
        gradients=FLOAT * trained // parts * (2 if processes > 1 and not sharded else 1),
        optimiser=2 * FLOAT * trained // parts,
        gathered=FLOAT * (2 * shape.block + shape.parameters - shape.body) if parts > 1 else 0,
        activations=activation_bytes(shape, sizes, terms, training, other) + cast,
        head=head_bytes(shape, sizes.tokens, terms, training, whole_head=not training.lora),
        rollout=0
        if training.vllm
        else rollout_bytes(shape, -(-training.batch_size // processes), sizes) + merged_bytes(shape, training),
        evaluation=rollout_bytes(shape, evaluated, replace(sizes, own_x=sizes.own_c, prefix_x=sizes.prefix_c)),
    )


def adapter_parameters(shape: Architecture, lora: Lora) -> int:
    """Count an adapter's parameters, for every linear map of the blocks rank · (in + out); one for fewer maps has fewer."""
    attention = 4 * shape.width + 2 * shape.queries + 2 * shape.keys
    return shape.layers * lora.rank * (attention + 3 * (shape.width + shape.intermediate))


def activation_bytes(
    shape: Architecture,
    sizes: Sizes,
    terms: Sequence[Term],
    training: Training,
    teacher: Architecture | None = None,
) -> int:
    """Bound what the backbones keep for the backward pass in the views that are trained, and the one layer at work.

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


def _layer_floats(shape: Architecture, rows: int, own: int, prefix: int) -> int:
    """Count the numbers of one layer with everything that it keeps for its backward pass; without one, half of that exists at
    a time.

    Per position: norms with their inputs and residuals, the MLP, queries and outputs, own keys and values. Per row and key:
    keys and values as the row sees them, prefix included, repeated for grouped heads, and probabilities where attention is
    eager.
    """
    norms = 4 if shape.family.startswith("gemma") else 2
    # Of the MLP: gate, its activation, the other factor and their product. GPT-2's activation is written out in elementary
    # operations, each of which keeps its argument.
    kept = 9 if shape.family == "gpt2" else 4
    per_position = 4 * norms * shape.width + kept * shape.intermediate + 5 * shape.queries + 4 * shape.keys
    floats = (prefix + rows * own) * per_position
    if prefix:
        floats += rows * (prefix + own) * 2 * (shape.keys + shape.queries)
    if shape.eager:
        floats += 3 * shape.heads * (rows * own * (prefix + own) + prefix * prefix)
    return floats


def _mask_floats(rows: int, own: int, prefix: int) -> int:
    return 2 * rows * own * (prefix + own) if prefix else 0


def head_bytes(
    shape: Architecture, tokens: int, terms: Sequence[Term], training: Training, whole_head: bool = True
) -> int:
    """Count the bytes of logits and what becomes of them, at the highest; ``whole_head``: the head's weights are trained.

    Full vocabulary: a matrix [chunk, vocabulary] per distribution, two per term (its probabilities and difference), and four
    that come and go. With ``top_k``: three that come and go, and small matrices [tokens, top_k].
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


def rollout_bytes(shape: Architecture, rows: int, sizes: Sizes) -> int:
    """Count the bytes of decoding ``rows`` sequences at once: keys and values of all layers, the layer that grows, and the
    last logits.
    """
    length = sizes.prefix_x + sizes.own_x
    cache = 2 * shape.keys * rows * length * (shape.layers + 2)
    repeated = 2 * shape.queries * rows * length
    prompts = _layer_floats(shape, rows, max(sizes.own_x - sizes.response, 1), sizes.prefix_x) // 2
    return FLOAT * (cache + max(repeated, prompts) + 4 * rows * shape.vocabulary)


def merged_bytes(shape: Architecture, training: Training) -> int:
    """Count the bytes of the adapted weights once more while an adapter is merged, which it is in float32 only."""
    if not training.lora or training.bf16:
        return 0
    per_layer = shape.width * (2 * shape.queries + 2 * shape.keys + 3 * shape.intermediate)
    return FLOAT * shape.layers * per_layer
