"""The aligned positions of a view as a batch of their own, behind the keys and values of all that comes before them.

Mental model. A model is causal: whatever is changed at a prompt's last token and behind it, what comes before stays as it
was. So all that comes before is run once: the prefix that all prompts share (batch size 1), and what each prompt has of its
own. A run is then of the aligned positions alone, as often as one likes:

    [ prefix ][ pads | rest of the prompt ][ last prompt token, response but for its last token | pads ]
      kept      kept                         run

Exact where pads may stand on the left (:func:`keeps`); any other model is run whole (``capture``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from cr_interp.models.batching import batching
from cr_interp.models.forward import Prefix, attention_mask, backbone, device_of
from cr_interp.models.prefix_cache import BehindLayer, KeepLayer, KeysValues, RecordLayer, WriteLayer, reading
from cr_interp.models.shards import is_sharded

#: Bytes of keys and values that may lie ready for a batch's runs, so that none of them has to put them together again.
READY = 1 << 29


def keeps(model: nn.Module, longest: int) -> bool:
    """Tell whether sequences of at most ``longest`` tokens can be run so, exactly."""
    way = batching(model)
    return (
        way.prefix
        and way.left
        and way.rows == "any"
        and way.length_class(longest) == ()
        and not is_sharded(model)
    )


@dataclass(frozen=True)
class AlignedRows:
    """One view of a batch, all but its aligned positions already run."""

    model: nn.Module
    prefix: Prefix
    own: tuple[KeysValues, ...]
    """A pair per layer, ``[batch, head, before, width]``; empty if no prompt has anything before its last token."""
    ids: Int[Tensor, "batch length"]
    positions: Int[Tensor, "batch before+length"]
    mask: Bool[Tensor, "batch before+length"]
    rows: Int[Tensor, " token"]
    """Which row each aligned position is in …"""
    columns: Int[Tensor, " token"]
    """… and at which column of ``ids``."""
    ready: list[WriteLayer] = field(default_factory=list, repr=False)
    """Keys and values that lie ready for :meth:`run`, from the first one without gradients on."""

    def run(self) -> Float[Tensor, "batch length width"]:
        """Return the states after the last norm, pads among them. Hooks on the model's blocks see this batch and no other."""
        return backbone(self.model)(**self.inputs()).last_hidden_state

    def inputs(self) -> dict[str, Any]:
        """Make what :meth:`run` calls the backbone with."""
        batch, length = self.ids.shape
        before = self.mask.shape[1] - length
        # Pads on the right are behind everything that is asked, so only those on the left have to be hidden.
        padded = not bool(self.mask[:, :before].all())
        masks = attention_mask(self.model, self.prefix, self.positions, self.mask, length) if padded else None
        return {
            "input_ids": self.ids,
            "attention_mask": masks,
            "position_ids": self.positions[:, before:],
            "past_key_values": self._cache(batch),
            "use_cache": False,
        }

    def _cache(self, batch: int) -> Cache | None:
        if not self.own and not self.prefix.ids:
            return None
        if not torch.is_grad_enabled() and self._bytes(batch) <= READY:
            if not self.ready:
                self.ready.extend(WriteLayer(parts, self.ids.shape[1]) for parts in self._parts(batch))
            return Cache(layers=list(self.ready))
        if not self.own:
            return reading(self.prefix.keys_values, batch)
        if not self.prefix.ids:
            return reading(self.own, batch)
        pairs = zip(self.prefix.keys_values, self.own, strict=True)
        return Cache(
            layers=[
                BehindLayer(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1), own)
                for (k, v), own in pairs
            ]
        )

    def _parts(self, batch: int) -> Iterator[list[KeysValues]]:
        """Give of every layer what stands before the aligned positions, one piece after the other."""
        shared = [(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in self.prefix.keys_values]
        for layer in range(max(len(shared), len(self.own))):
            yield [of[layer] for of in (shared, self.own) if of]

    def _bytes(self, batch: int) -> int:
        """Count the bytes of keys and values of all layers, as many as :attr:`ready` would hold."""
        length = self.mask.shape[1] + len(self.prefix.ids)
        every = self.prefix.keys_values or self.own
        return (
            sum(each.shape[1] * each.shape[3] * each.element_size() for pair in every for each in pair)
            * length
            * batch
        )

    def canvas(self, states: Float[Tensor, "token width"]) -> Float[Tensor, "batch length width"]:
        """Return states of the aligned positions where the batch has them; pads are zero."""
        there = states.new_zeros(*self.ids.shape, states.shape[-1])
        there[self.rows.to(states.device), self.columns.to(states.device)] = states
        return there

    def tokens(self, states: Float[Tensor, "batch length width"]) -> Float[Tensor, "token width"]:
        """Return the aligned positions' states, one response after the other, as :class:`ViewBatch` has them."""
        return states[self.rows.to(states.device), self.columns.to(states.device)]


@torch.no_grad()
def aligned_rows(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    prefix: Prefix,
    pad_id: int = 0,
) -> AlignedRows:
    """Run all that comes before the aligned positions. ``prefix`` is what all prompts begin with, already run."""
    device, shared = device_of(model), len(prefix.ids)
    before = [list(prompt[shared:-1]) for prompt in prompts]
    asked = [[prompt[-1], *response[:-1]] for prompt, response in zip(prompts, responses, strict=True)]
    width, length = max(map(len, before)), max(map(len, asked))
    laid_out, kept = [], []
    for b, a in zip(before, asked, strict=True):
        left, right = width - len(b), length - len(a)
        laid_out.append([*[pad_id] * left, *b, *a, *[pad_id] * right])
        kept.append([*[False] * left, *[True] * (len(b) + len(a)), *[False] * right])
    ids, mask = torch.tensor(laid_out), torch.tensor(kept)
    ids, mask = ids.to(device), mask.to(device)
    positions = shared + (mask.long().cumsum(-1) - 1).clamp(min=0)
    where = mask[:, width:].nonzero()
    own = _own(model, prefix, ids[:, :width], mask[:, :width], positions[:, :width]) if width else ()
    return AlignedRows(model, prefix, own, ids[:, width:], positions, mask, where[:, 0], where[:, 1])


def _own(
    model: nn.Module,
    prefix: Prefix,
    ids: Int[Tensor, "batch before"],
    mask: Bool[Tensor, "batch before"],
    positions: Int[Tensor, "batch before"],
) -> tuple[KeysValues, ...]:
    """Return keys and values of what each prompt has of its own, a pair per layer."""
    batch = len(ids)
    if prefix.ids:
        cache = Cache(
            layers=[
                KeepLayer(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in prefix.keys_values
            ]
        )
    else:
        cache = Cache(layer_class_to_replicate=RecordLayer)
    masks = None if bool(mask.all()) else attention_mask(model, prefix, positions, mask)
    backbone(model)(
        input_ids=ids, attention_mask=masks, position_ids=positions, past_key_values=cache, use_cache=False
    )
    kept: list[Any] = list(cache.layers)
    return tuple((layer.keys, layer.values) if not prefix.ids else layer.own for layer in kept)
