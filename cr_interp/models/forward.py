"""Run a model on one view of a batch, computing the shared prefix once.

Mental model. All sequences of a view start with the same tokens (the context, the template, the question).
:func:`encode_prefix` runs them once with batch size 1 and keeps the keys and values of every layer;
:func:`hidden_states` expands those over the batch and runs only what differs. Nothing is approximated: the
expanded keys and values are the same tensors that each sequence would have computed, and gradients flow back
through the expansion into the one prefix. A model of which that is not true is run without the short cut
(``batching.py`` asks it).

States are flattened to ``token``: the aligned positions of all responses, one after the other. No pads survive
to a loss or a measure, and the LM head runs on aligned positions only.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.models.batching import Batching, batching, in_order, parts
from cr_interp.models.layout import ViewBatch, build_view, is_right_padded
from cr_interp.models.prefix_cache import Prefix, reading, recorded, recording
from cr_interp.models.shards import shape_of

__all__ = [
    "Prefix", "ViewBatch", "attention_mask", "backbone", "build_view", "check_head", "device_of", "encode_keys",
    "encode_prefix", "head", "hidden_states", "log_probs", "logits", "run", "run_inputs", "run_whole", "soft_cap", "unwrap",
    "vocabulary",
]  # fmt: skip


def encode_prefix(model: nn.Module, ids: Sequence[int]) -> Prefix:
    """Run the prefix once. With gradients enabled they flow through the result.

    Where a prefix cannot be kept exactly (``batching.py``), nothing is run: every sequence will read it again.
    """
    way = batching(model) if ids else Batching()
    if not way.prefix or way.length_class(len(ids)) != ():
        return Prefix(tuple(ids), ())
    return encode_keys(model, ids)


def encode_keys(model: nn.Module, ids: Sequence[int]) -> Prefix:
    """Run a prefix and keep its keys and values.

    Raises :class:`LookupError` unless every block left exactly one key and one value per token.
    """
    if not ids:
        return Prefix((), ())
    tokens = torch.tensor([list(ids)], device=device_of(model))
    cache: Any = recording()  # without the configuration: full layers, which sliding-window masks also accept
    backbone(model)(input_ids=tokens, past_key_values=cache, use_cache=False)
    return Prefix(tuple(ids), recorded(cache, len(ids), unwrap(model).config.get_text_config().num_hidden_layers))


def hidden_states(
    model: nn.Module, view: ViewBatch, prefix: Prefix | None = None
) -> Float[Tensor, "token width"]:
    """Compute final states (after the last norm) at the aligned positions. ``prefix`` may be one computed earlier.

    Each row's are those that its sequence has in a forward of its own, in however many forwards that takes.
    """
    divided = parts(model, view)
    shared = view.prefix if divided is None or divided[0].view.prefix else ()
    if prefix is None or prefix.ids != shared:
        prefix = encode_prefix(model, shared)
    if divided is None:
        return _aligned(model, view, prefix)
    return in_order(divided, [_aligned(model, part.view, prefix) for part in divided])


def _aligned(model: nn.Module, view: ViewBatch, prefix: Prefix) -> Float[Tensor, "token width"]:
    device = device_of(model)
    states = run(model, prefix, view.ids.to(device), view.mask.to(device))
    return states[view.rows.to(states.device), view.columns.to(states.device)]


def run(
    model: nn.Module, prefix: Prefix, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch length width"]:
    """Run the backbone on what follows the prefix; position ids are explicit, so padding on either side is exact."""
    return backbone(model)(**run_inputs(model, prefix, ids, mask)).last_hidden_state


def run_whole(model: nn.Module, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
    """Run the backbone on whole sequences, as anybody would."""
    return backbone(model)(input_ids=ids, use_cache=False).last_hidden_state


def run_inputs(
    model: nn.Module, prefix: Prefix, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
) -> dict[str, Any]:
    """Make what :func:`run` calls the backbone with. Nothing is kept for a next token: the cache in it is only read."""
    cache = reading(prefix.keys_values, len(ids)) if prefix.ids else None
    position_ids = len(prefix.ids) + (mask.long().cumsum(-1) - 1).clamp(min=0)
    # Right padding needs no mask at all under causal attention, and without one the fast kernels apply.
    attention: Any = None
    if not is_right_padded(mask):
        attention = attention_mask(model, prefix, position_ids, mask)
    elif not prefix.ids:
        return {"input_ids": ids, "use_cache": False}  # as anybody would run it: not every model has positions
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
    """Return the mask for rows that are not right-padded: who may be attended to, 1 or 0 per key.

    ``position_ids`` and ``mask`` cover every column after the prefix; the last ``queries`` of them ask (default: all; one in
    a step of decoding).

    Pads between the prefix and a row's tokens are a trap for sliding windows: the library measures the window in columns, so
    it would count the pads and reach less far than without them. There the masks are written out by position, one per kind of
    layer (flash attention drops masked keys first, so it counts right by itself).
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
    """Compute float32 log-probabilities of the next token from final states."""
    return torch.log_softmax(logits(model, states).float() / temperature, dim=-1)


def logits(model: nn.Module, states: Float[Tensor, "*token width"]) -> Float[Tensor, "*token vocabulary"]:
    """Apply the LM head, with the factor or the soft cap that some models put behind it."""
    return soft_cap(model, head(model, states))


def head(model: nn.Module, states: Float[Tensor, "*token width"]) -> Float[Tensor, "*token vocabulary"]:
    """Apply the linear part of the LM head, with the factor that Cohere and Granite put on it."""
    inner = unwrap(model)
    scores = inner.get_output_embeddings()(states)
    # Their own configuration's: a model of images that has one of them inside does without (check_head looks).
    if factor := getattr(inner.config, "logit_scale", None):
        scores = scores * factor
    if divisor := getattr(inner.config, "logits_scaling", None):
        scores = scores / divisor
    return scores


def soft_cap(model: nn.Module, scores: Float[Tensor, "*token support"]) -> Float[Tensor, "*token support"]:
    """Apply the soft cap of a head that has one. The cap is monotone, entry by entry, so some entries can be chosen before it."""
    config = unwrap(model).config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)
    return scores if cap is None else torch.tanh(scores / cap) * cap


def vocabulary(model: nn.Module) -> int:
    """Count the rows of the LM head. They may be a few more than the tokenizer has words."""
    return int(shape_of(unwrap(model).get_output_embeddings().weight)[0])


def embedded(model: nn.Module) -> int:
    """Count the rows of the input embeddings: ids below this number can be read."""
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
    """Return the Hugging Face model inside a PEFT wrapper, or the model itself."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def backbone(model: nn.Module) -> Any:
    """Return the decoder of text without its LM head: of a model that also takes images or sound, what continues the text."""
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
