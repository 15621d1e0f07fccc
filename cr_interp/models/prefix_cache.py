"""Caches for a forward that runs once: what is in them does not change when a layer asks twice.

Mental model. The library's cache grows whenever a layer hands it keys and values. That is right for decoding and wrong
for a step of training: with gradient checkpointing a layer runs again in the backward pass, and the second time it
would find its own keys already there. So a prefix is *recorded* once and afterwards only *read*: what a layer gets back
depends on what it hands in alone, as often as it runs. What is read and appended is let go after the layer, so a forward
without gradients holds one layer's keys and values for the whole batch instead of all layers'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

KeysValues = tuple[Float[Tensor, "batch head length width"], Float[Tensor, "batch head length width"]]


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a token prefix, batch size 1, a pair per layer. None, where a model cannot keep them."""

    ids: tuple[int, ...]
    keys_values: tuple[KeysValues, ...]

    def expand(self, batch: int) -> DynamicCache | None:
        """Return a fresh cache for ``batch`` sequences, for decoding: it grows."""
        if not self.ids:
            return None
        return DynamicCache(
            [(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in self.keys_values]
        )


class RecordLayer(DynamicLayer):
    """Keeps the first keys and values that it gets."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        if not self.is_initialized:
            return super().update(key_states, value_states)
        return DynamicLayer().update(key_states, value_states)  # the same arithmetic, for a layer that runs again


class ReadLayer(DynamicLayer):
    """A prefix's keys and values, behind which a layer finds its own."""

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        keys: Any = self.keys  # the library's annotation allows None
        values: Any = self.values
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


class KeepLayer(ReadLayer):
    """A prefix's keys and values, behind which a layer finds its own, which are kept in ``own``."""

    own: KeysValues | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        self.own = (key_states, value_states)
        return super().update(key_states, value_states)


class BehindLayer(ReadLayer):
    """A prefix's keys and values, then those that each row has of its own; behind both a layer finds its newest."""

    def __init__(self, keys: Tensor, values: Tensor, own: KeysValues):
        super().__init__(keys, values)
        self.own = own

    def get_seq_length(self) -> int:
        return int(self.keys.shape[-2] + self.own[0].shape[-2])  # type: ignore[union-attr]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        keys: Any = self.keys
        values: Any = self.values
        return torch.cat([keys, self.own[0], key_states], dim=-2), torch.cat(
            [values, self.own[1], value_states], dim=-2
        )


class WriteLayer(ReadLayer):
    """All that each row has so far, in one block of memory with room behind it where a layer's newest are written.

    Nothing is copied but the newest. They are overwritten by the next run, so this is for runs without gradients only.
    """

    def __init__(self, parts: Sequence[KeysValues], room: int):
        ends = [
            torch.cat([*of, of[-1].new_empty((*of[-1].shape[:2], room, of[-1].shape[3]))], dim=-2)
            for of in zip(*parts, strict=True)
        ]
        super().__init__(*ends)
        self.before = sum(keys.shape[-2] for keys, _ in parts)

    def get_seq_length(self) -> int:
        return self.before

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        keys: Any = self.keys
        values: Any = self.values
        end = self.before + key_states.shape[-2]
        keys[:, :, self.before : end], values[:, :, self.before : end] = key_states, value_states
        return keys[:, :, :end], values[:, :, :end]


def recording() -> Cache:
    """Return an empty cache for running a prefix; its ``layers`` then hold ``keys`` and ``values``."""
    return Cache(layer_class_to_replicate=RecordLayer)


def recorded(cache: Cache, tokens: int, layers: int) -> tuple[KeysValues, ...]:
    """Read what a recording holds. Raises :class:`LookupError` unless it is a key and a value per token in every layer:
    what a state-space layer keeps is elsewhere, and what layers share is in one of them only."""
    kept: list[Any] = list(cache.layers)
    held = [
        tuple(each.shape[-2] if isinstance(each, Tensor) else 0 for each in (layer.keys, layer.values))
        for layer in kept
    ]
    if len(held) != layers or any(pair != (tokens, tokens) for pair in held):
        raise LookupError(f"{layers} layers were to keep {tokens} keys and values each; kept were {held}")
    return tuple((layer.keys, layer.values) for layer in kept)


def reading(keys_values: Sequence[KeysValues], batch: int) -> Cache:
    """Show a prefix of batch size 1, a pair per layer, as ``batch`` sequences see it. Nothing is copied."""
    return Cache(
        layers=[ReadLayer(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in keys_values]
    )
