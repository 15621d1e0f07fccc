"""Bounded samples of the rows of many layers at once, for layer × layer maps: of all rows, and of all examples.

A map needs pairs of rows, from a batch that is drawn from *all* examples. A buffer of the last rows of a stream would hold a
few long responses, whose tokens resemble each other in any view, and make unrelated views look alike. So :class:`RowSample`
gives every row a random key and keeps the rows with the smallest ones, a uniform sample whatever the order;
:class:`ExampleSample` keeps t evenly spaced rows of each example. Both are the same rows in every layer, and both merge.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.groups import MOST_ROWS, equal_rows
from cr_interp.similarity.reservoir import hashed


class RowSample:
    """At most ``capacity`` rows of each layer, uniform over all that were offered. ``n`` counts those."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.capacity = capacity
        self.n = 0
        self.filled = 0
        self.slots: list[Float[Tensor, "slot ?width"]] = []
        self._keys = np.empty(capacity)
        self._random = np.random.default_rng(seed)

    def offer(self, layers: Sequence[Float[Tensor, "rows ?width"]], keys: np.ndarray | None = None) -> None:
        """Add the same rows of all layers; ``keys`` are those of another sample, which is merged."""
        count = len(layers[0])
        if keys is None:
            self.n += count
            keys = self._random.random(count)
        if not self.slots:
            self.slots = [torch.empty(self.capacity, layer.shape[1], dtype=_kind(layer)) for layer in layers]
        size = min(count, self.capacity - self.filled)
        into, rows = np.arange(self.filled, self.filled + size), np.arange(size)
        self._keys[into] = keys[:size]
        self.filled += size
        if size < count:
            candidates = size + np.flatnonzero(keys[size:] < self._keys.max())
            every = np.concatenate([self._keys, keys[candidates]])
            stay = np.zeros(len(every), dtype=bool)
            stay[np.argsort(every, kind="stable")[: self.capacity]] = True
            free, new = np.flatnonzero(~stay[: self.capacity]), candidates[stay[self.capacity :]]
            # A row that has just filled a slot may lose it again: the slot gets what comes last.
            self._keys[free] = keys[new]
            lost = np.isin(into, free)
            into, rows = np.concatenate([into[~lost], free]), np.concatenate([rows[~lost], new])
        for slots, layer in zip(self.slots, layers, strict=True):
            picked = layer.detach()
            if len(rows) != count:
                picked = picked[torch.from_numpy(rows).to(layer.device)]
            slots[torch.from_numpy(into)] = picked.to(slots)

    def merge(self, other: "RowSample") -> None:
        """Add what another sample holds of all that it was offered."""
        self.n += other.n
        if other.filled:
            self.offer([slots[: other.filled] for slots in other.slots], other._keys[: other.filled])

    def order(self) -> Int[Tensor, " filled"]:
        """Return the slots in an order that does not depend on how the stream was cut: of arrival, or of the keys."""
        if self.n <= self.capacity:
            return torch.arange(self.filled)
        return torch.from_numpy(np.argsort(self._keys[: self.filled], kind="stable"))


class ExampleSample:
    """``tokens`` evenly spaced rows of each example in every layer; ``dropped`` counts examples with fewer.

    At most ``max_rows`` rows: of more examples those with the smallest hashes, as in ``reservoir.py``.
    """

    def __init__(self, tokens: int, max_rows: int = MOST_ROWS, seed: int = 0) -> None:
        self.tokens = tokens
        self.dropped = 0
        self._most, self._seed = max(1, max_rows // tokens), seed
        self._rows: dict[int, list[Float[Tensor, "token ?width"]]] = {}
        self._order: dict[int, int] = {}

    def offer(self, layers: Sequence[Float[Tensor, "rows ?width"]], example: Int[Tensor, " rows"]) -> None:
        """Add the same rows of all layers; all tokens of an example come in one call."""
        example = example.cpu()
        _, counts = torch.unique(example, return_counts=True)
        self.dropped += int((counts < self.tokens).sum())
        for rows in equal_rows(example, self.tokens):
            one = int(example[rows[0]])
            self._order[one] = hashed(one, self._seed)
            self._rows[one] = [layer.detach()[rows.to(layer.device)].to("cpu", _kind(layer)) for layer in layers]
        while len(self._rows) > self._most:
            last = max(self._order, key=lambda each: self._order[each])
            del self._rows[last], self._order[last]

    @property
    def examples(self) -> int:
        return len(self._rows)

    def stacked(self) -> list[Float[Tensor, "g*t ?width"]]:
        """Return the rows of every layer, by the examples' ids."""
        parts = [self._rows[one] for one in sorted(self._rows)]
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def _kind(layer: Tensor) -> torch.dtype:
    return torch.float64 if layer.dtype == torch.float64 else torch.float32
