"""Run a model on one view of a batch, computing the shared prefix once.

Mental model. All sequences of a view start with the same tokens (the context, the template, the question).
:func:`encode_prefix` runs them once with batch size 1 and keeps the keys and values of every layer;
:func:`hidden_states` expands those over the batch and runs only what differs. Nothing is approximated: the
expanded keys and values are the same tensors that each sequence would have computed, and gradients flow back
through the expansion into the one prefix.

States are flattened to ``token``: the aligned positions of all responses, one after the other. No pads survive
to a loss or a measure, and the LM head runs on aligned positions only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from cr_interp.errors import UserError
from cr_interp.models.prefix_cache import reading, recording
from cr_interp.models.shards import shape_of
from cr_interp.views import aligned_positions, shared_prefix


@dataclass(frozen=True)
class ViewBatch:
    """One view of a batch: a shared prefix, and padded rows (right-padded by default) that hold the rest.

    The last token of a response predicts nothing that is compared, so it is not among the inputs.
    """

    prefix: tuple[int, ...]
    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    rows: Int[Tensor, " token"]
    """Which row each aligned position is in …"""
    columns: Int[Tensor, " token"]
    """… and at which column of ``ids``."""
    targets: Int[Tensor, " token"]
    """The response token that each aligned position predicts."""


def build_view(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    pad_id: int,
    prefix_length: int | None = None,
    padding: Literal["right", "left"] = "right",
) -> ViewBatch:
    """Lay out prompts and responses (lists of ids). ``prefix_length=0`` turns sharing off, ``None`` finds it.

    Both paddings give the same states; right padding is faster, since it needs no mask. Raises :class:`UserError` for
    prompts that do not begin with the prefix they are said to share.
    """
    shared = shared_prefix(prompts) if prefix_length is None else prefix_length
    if any(list(prompt[:shared]) != list(prompts[0][:shared]) for prompt in prompts):
        raise UserError(
            f"The prompts do not all begin with the same {shared} tokens. If the later turns of a task begin otherwise than "
            f"its first ones, set training.share_prefix=false."
        )
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    inputs: list[list[int]] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        positions = aligned_positions(len(prompt) - shared, len(response))
        rows += [row] * len(response)
        columns += positions
        targets += list(response)
        inputs.append([*prompt[shared:], *response[:-1]])
    length = max(len(each) for each in inputs)
    pads = [[pad_id] * (length - len(each)) for each in inputs]
    lengths = torch.tensor([len(each) for each in inputs])
    if padding == "left":
        ids = torch.tensor([pad + each for pad, each in zip(pads, inputs, strict=True)])
        mask = torch.arange(length)[None] >= length - lengths[:, None]
        columns = [column + len(pads[row]) for row, column in zip(rows, columns, strict=True)]
    else:
        ids = torch.tensor([each + pad for pad, each in zip(pads, inputs, strict=True)])
        mask = torch.arange(length)[None] < lengths[:, None]
    return ViewBatch(
        tuple(prompts[0][:shared]), ids, mask, torch.tensor(rows), torch.tensor(columns), torch.tensor(targets)
    )


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a token prefix, batch size 1, a pair per layer."""

    ids: tuple[int, ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]

    def expand(self, batch: int) -> DynamicCache | None:
        """A fresh cache for ``batch`` sequences, for decoding: it grows."""
        if not self.ids:
            return None
        return DynamicCache(
            [(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in self.keys_values]
        )


def encode_prefix(model: nn.Module, ids: Sequence[int]) -> Prefix:
    """Run the prefix once. With gradients enabled they flow through the result."""
    if not ids:
        return Prefix((), ())
    tokens = torch.tensor([list(ids)], device=device_of(model))
    cache: Any = recording()  # without the configuration: full layers, which sliding-window masks also accept
    backbone(model)(input_ids=tokens, past_key_values=cache, use_cache=False)
    return Prefix(tuple(ids), tuple((layer.keys, layer.values) for layer in cache.layers))


def hidden_states(
    model: nn.Module, view: ViewBatch, prefix: Prefix | None = None
) -> Float[Tensor, "token width"]:
    """Final states (after the last norm) at the aligned positions. ``prefix`` may be one computed earlier."""
    if prefix is None or prefix.ids != view.prefix:
        prefix = encode_prefix(model, view.prefix)
    device = device_of(model)
    states = run(model, prefix, view.ids.to(device), view.mask.to(device))
    return states[view.rows.to(states.device), view.columns.to(states.device)]


def run(
    model: nn.Module, prefix: Prefix, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch length width"]:
    """The backbone on what follows the prefix; position ids are explicit, so padding on either side is exact."""
    return backbone(model)(**run_inputs(model, prefix, ids, mask)).last_hidden_state


def run_inputs(
    model: nn.Module, prefix: Prefix, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
) -> dict[str, Any]:
    """What :func:`run` calls the backbone with. Nothing is kept for a next token: the cache in it is only read."""
    cache = reading(prefix.keys_values, len(ids)) if prefix.ids else None
    position_ids = len(prefix.ids) + (mask.long().cumsum(-1) - 1).clamp(min=0)
    # Right padding needs no mask at all under causal attention, and without one the fast kernels apply.
    right_padded = bool((mask[:, 1:] <= mask[:, :-1]).all())
    attention: Any = None
    if not right_padded:
        attention = attention_mask(model, prefix, position_ids, mask)
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": position_ids,
        "past_key_values": cache,
        "use_cache": False,
    }


def attention_mask(
    model: nn.Module,
    prefix: Prefix,
    position_ids: Int[Tensor, "batch length"],
    mask: Bool[Tensor, "batch length"],
    queries: int | None = None,
) -> Any:
    """The mask for rows that are not right-padded: who may be attended to, 1 or 0 per key.

    ``position_ids`` and ``mask`` cover every column after the prefix; the last ``queries`` of them ask (default:
    all; one in a step of decoding).

    Pads between the prefix and a row's tokens are a trap for sliding windows: the library measures the window in
    columns, so it would count the pads and reach less far than without them. There the masks are written out by
    position, one per kind of layer (flash attention drops masked keys first, so it counts right by itself).
    """
    config = unwrap(model).config.get_text_config()
    window = getattr(config, "sliding_window", None)
    keys = torch.cat([mask.new_ones(len(mask), len(prefix.ids)), mask], dim=1)
    if not window or not prefix.ids or "flash" in (config._attn_implementation or ""):
        return keys.long()
    before = torch.arange(len(prefix.ids), device=mask.device).expand(len(mask), -1)
    asks = slice(-(queries or mask.shape[1]), None)
    distance = position_ids[:, asks, None] - torch.cat([before, position_ids], dim=1)[:, None]
    seen = keys[:, None] & (distance >= 0)
    # A pad's own row would be empty where the window is short, which is NaN; it is never read, so let it see all.
    masks = {"full_attention": seen, "sliding_attention": seen & (distance < window) | ~mask[:, asks, None]}
    dtype = next(model.parameters()).dtype
    additive = {
        kind: torch.zeros_like(m, dtype=dtype).masked_fill(~m, torch.finfo(dtype).min)[:, None]
        for kind, m in masks.items()
    }
    return additive if getattr(config, "layer_types", None) else additive["sliding_attention"]


def log_probs(
    model: nn.Module, states: Float[Tensor, "token width"], temperature: float = 1.0
) -> Float[Tensor, "token vocabulary"]:
    """float32 log-probabilities of the next token from final states."""
    return torch.log_softmax(logits(model, states).float() / temperature, dim=-1)


def logits(model: nn.Module, states: Float[Tensor, "*token width"]) -> Float[Tensor, "*token vocabulary"]:
    """The LM head, with the soft cap that Gemma-2 puts behind it."""
    return soft_cap(model, head(model, states))


def head(model: nn.Module, states: Float[Tensor, "*token width"]) -> Float[Tensor, "*token vocabulary"]:
    """The linear part of the LM head."""
    return unwrap(model).get_output_embeddings()(states)


def soft_cap(model: nn.Module, scores: Float[Tensor, "*token support"]) -> Float[Tensor, "*token support"]:
    """The soft cap of a head that has one. Entry by entry and monotone: some entries can be taken before it."""
    cap = getattr(unwrap(model).config.get_text_config(), "final_logit_softcapping", None)
    return scores if cap is None else torch.tanh(scores / cap) * cap


def vocabulary(model: nn.Module) -> int:
    """Rows of the LM head. They may be a few more than the tokenizer has words."""
    return int(shape_of(unwrap(model).get_output_embeddings().weight)[0])


def embedded(model: nn.Module) -> int:
    """Rows of the input embeddings: ids below it can be read."""
    return int(shape_of(unwrap(model).get_input_embeddings().weight)[0])


@torch.no_grad()
def check_head(model: nn.Module, tolerance: float = 1e-3) -> None:
    """Refuse a model whose logits are more than backbone → head (scaled heads and the like), instead of being
    silently wrong about it."""
    inner = unwrap(model)
    ids = (torch.arange(2, 8, device=device_of(model)) % embedded(model))[None]
    try:
        mine = logits(model, backbone(model)(input_ids=ids).last_hidden_state).float()
        theirs = inner(input_ids=ids).logits.float()
        if mine.shape != theirs.shape:
            raise ValueError(f"logits of shape {tuple(theirs.shape)}, {tuple(mine.shape)} by backbone and head")
    except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError) as reason:
        raise UserError(
            f"{type(inner).__name__} cannot be read as a decoder of text and an LM head ({type(reason).__name__}: "
            f"{' '.join(str(reason).split())[:200]}). Give a model that continues text by itself."
        ) from reason
    if not bool(torch.isfinite(theirs).all()):
        return  # a diverged checkpoint, which whoever decodes or captures with it will say
    error = ((mine - theirs).norm() / theirs.norm()).item()
    if not error <= tolerance:
        raise UserError(
            f"{type(inner).__name__} computes its logits in a way not known here (relative error {error:.1e} against "
            f"backbone and LM head). Teach cr_interp/models/forward.py its head before training or decoding with it."
        )


def unwrap(model: nn.Module) -> Any:
    """The Hugging Face model inside a PEFT wrapper, or the model itself."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def backbone(model: nn.Module) -> Any:
    """The decoder of text without its LM head: of a model that also takes images or sound, what continues the text."""
    found = unwrap(model).base_model
    while True:
        inner = found.get_decoder() if hasattr(found, "get_decoder") else found
        if inner is found and hasattr(found, "lm_head") and hasattr(found, "model"):
            inner = found.model  # Llama-4's decoder, which says that it is its own
        if inner is found:
            return found
        found = inner


def device_of(model: nn.Module) -> torch.device:
    return unwrap(model).get_input_embeddings().weight.device
