"""Layer × layer debiased CKA of a stream of rows, of any length, in bounded memory.

Mental model. CKA of two layers is a ratio of HSICs, each the mean over mini-batches of 256–512 rows (``batched.py``). The batches
must be drawn from **all examples**: tokens of one response resemble each other in any view, so a batch of few responses finds
unrelated views alike (0.91 where the value is 0.14). Hence a uniform sample of all rows (``samples.py``) is kept and divided at
random when the map is read. While the rows fit into the sample, as in the built-in studies, every row is in the map.

    row level       every two rows pair; tokens of one response as well, which raises it
    example level   only tokens of distinct examples pair, t of each: ``groups.py`` for all pairs of layers
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.batched import Hsic, between_examples
from cr_interp.similarity.groups import few_examples, tokens_each
from cr_interp.similarity.samples import ExampleSample, RowSample

#: Mini-batches that the sample of rows holds.
BUFFERED = 8

#: Of a sample of a longer stream: how often it is divided anew, which makes use of more of its pairs.
DIVISIONS = 4

Map = tuple[Float[np.ndarray, "x y"], str | None]
"""The map, NaN where it is undefined, and then why."""


def row_map(
    x: Sequence[Float[Tensor, "slot ?width"]],
    y: Sequence[Float[Tensor, "slot ?width"]] | None,
    sample: RowSample,
    batch: int = 256,
    seed: int = 0,
) -> Map:
    """Compute the row-level map of two sides of a sample, lists of its ``slots``; ``y`` None: both sides are the same."""
    shape = (len(x), len(x if y is None else y))
    if sample.n < 4:
        return np.full(shape, math.nan), f"{sample.n} rows; debiased CKA needs at least 4"
    hsic = Hsic(*shape)
    for part in _divided(sample, batch, seed):
        hsic.add(x, y, part)
    found, reason = hsic.cka()
    return found.numpy(), reason


def _divided(sample: RowSample, batch: int, seed: int) -> Iterator[Int[Tensor, " b"]]:
    """Yield batches as equal as can be: a batch of few is all noise."""
    generator = torch.Generator().manual_seed(seed)
    order = sample.order()
    for _ in range(DIVISIONS if sample.n > sample.capacity else 1):
        mixed = order[torch.randperm(len(order), generator=generator)]
        for part in mixed.tensor_split(-(-len(order) // batch)):
            if len(part) >= 4:
                yield part


def example_map(
    x: Sequence[Float[Tensor, "g*t ?width"]],
    y: Sequence[Float[Tensor, "g*t ?width"]] | None,
    sample: ExampleSample,
) -> Map:
    """Compute the example-level map of two sides, lists of layers of ``sample.stacked()``; ``y`` None: the same."""
    if sample.examples < 4:
        shape = (len(x), len(x if y is None else y))
        return np.full(shape, math.nan), few_examples(sample.examples, sample.tokens)
    found, reason = between_examples(x, y, sample.tokens).cka()
    return found.numpy(), reason


class CkaMapAccumulator:
    """Streams the rows of all layers into a map.

    >>> generator = torch.Generator().manual_seed(0)
    >>> maps = CkaMapAccumulator(2, 3)
    >>> for _ in range(4):                                                  # a stream of batches
    ...     x = [torch.randn(50, 8, generator=generator) for _ in range(2)]    # a list of [rows, width] per layer
    ...     maps.update(x, [x[0], x[1], x[0] + x[1]])                       # the same list twice: a map within a checkpoint
    >>> maps.finish().round(1) + 0.0                                        # NaN where undefined; maps.reason says why
    array([[1. , 0. , 0.5],
           [0. , 1. , 0.5]])

    Memory: ``BUFFERED`` × batch rows of each layer, a Gram matrix a layer, and the map.
    """

    def __init__(self, n_x_layers: int, n_y_layers: int, batch: int = 256, seed: int = 0) -> None:
        if batch < 4:
            raise ValueError(f"debiased CKA needs at least 4 rows a batch, got {batch}")
        self.batch = batch
        self.reason: str | None = None
        self._shape = (n_x_layers, n_y_layers)
        self._seed = seed
        self._sample = RowSample(BUFFERED * batch, seed)  # x's layers; then y's, unless they are the same
        self._one_side: bool | None = None  # whether both sides are the same layers; the first update decides

    @property
    def n(self) -> int:
        """Rows seen."""
        return self._sample.n

    @takes_arrays
    def update(
        self, layers_x: Sequence[Float[Tensor, "rows ?p"]], layers_y: Sequence[Float[Tensor, "rows ?q"]]
    ) -> None:
        """Add the same rows of all layers of both sides."""
        shape = (len(layers_x), len(layers_y))
        if shape != self._shape:
            raise ValueError(f"expected {self._shape} layers, got {shape}")
        rows = {len(layer) for layer in (*layers_x, *layers_y)}
        if len(rows) != 1:
            raise ValueError(f"expected equally many rows in every layer, got {sorted(rows)}")
        # Within a checkpoint both sides are the same tensors: kept and multiplied once.
        same = shape[0] == shape[1] and all(a is b for a, b in zip(layers_x, layers_y, strict=True))
        if self._one_side is None:
            self._one_side = same
        elif self._one_side and not same:
            raise ValueError("earlier updates gave the same layers on both sides, and this one does not")
        self._sample.offer(layers_x if self._one_side else [*layers_x, *layers_y])

    def finish(self) -> Float[np.ndarray, "x y"]:
        """Return the map of all rows so far; the stream may go on."""
        slots = self._sample.slots or [torch.empty(0, 1)] * sum(self._shape)
        right = None if self._one_side else slots[self._shape[0] :]
        found, self.reason = row_map(slots[: self._shape[0]], right, self._sample, self.batch, self._seed)
        return found

    def merge(self, other: "CkaMapAccumulator") -> None:
        """Add all that another accumulator has seen."""
        if other._shape != self._shape:
            raise ValueError(f"expected a map of shape {self._shape}, got {other._shape}")
        if None not in (self._one_side, other._one_side) and self._one_side != other._one_side:
            raise ValueError("one of the two maps has the same layers on both sides, and the other has not")
        self._one_side = other._one_side if self._one_side is None else self._one_side
        self._sample.merge(other._sample)


@takes_arrays
def cka_map(
    layers_x: Sequence[Float[Tensor, "n ?p"]] | Mapping[Any, Float[Tensor, "n ?p"]],
    layers_y: Sequence[Float[Tensor, "n ?q"]] | Mapping[Any, Float[Tensor, "n ?q"]],
    batch: int = 256,
    seed: int = 0,
    groups: Int[Tensor, " n"] | None = None,
    tokens: int | None = None,
) -> Float[np.ndarray, "x y"]:
    """Compute debiased CKA of every layer of one side with every layer of the other, the same rows in all.

    The layers are a list, or a mapping as :func:`~cr_interp.similarity.panel` takes it, in its order. Give one twice for the
    map within a checkpoint. NaN where features are constant or n < 4; never clamped. ``groups``, an example id per row, gives
    the example-level map, with ``tokens`` of each example (None: as in :func:`~cr_interp.similarity.groups.group_cka`).
    """
    layers_x, layers_y = (
        list(each.values()) if isinstance(each, Mapping) else list(each) for each in (layers_x, layers_y)
    )
    if groups is None:
        maps = CkaMapAccumulator(len(layers_x), len(layers_y), batch, seed)
        maps.update(layers_x, layers_y)
        return maps.finish()
    if tokens is None:
        tokens = tokens_each([torch.unique(groups, return_counts=True)[1].tolist()])
    sample = ExampleSample(tokens)
    sample.offer([*layers_x, *layers_y], groups)
    layers = sample.stacked() or [torch.empty(0, 1)] * (len(layers_x) + len(layers_y))
    return example_map(layers[: len(layers_x)], layers[len(layers_x) :], sample)[0]
