"""What an interval draws as one: clusters of examples, runs of a chain, or the examples themselves.

Mental model. Examples that are versions of one another (a phrase in eight frames) are one draw, not eight, and to example-level
CKA they are what tokens of one example are: alike in any view. A chain of unrelated tokens, each example against the next
one, has every example on both sides; there neighbours are drawn together.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from cr_interp.statistics import bootstrap_weights, cluster_numbers

#: Units in a run of neighbours, which share an example in a chain: drawn together.
RUN = 4

Clusters = Sequence[Hashable] | Mapping[int, Hashable] | None
"""``clusters[example]`` names the cluster of an example id; None: every example is its own."""


def first_of(units: Int[Tensor, " example"]) -> Int[Tensor, " unit"]:
    """Return the place of each unit's first example, of units numbered from 0."""
    order = torch.argsort(units, stable=True)
    counts = torch.bincount(units)
    return order[counts.cumsum(0) - counts]


class Units:
    """The unit of every example that was seen, in their order of arrival."""

    def __init__(self, seen: Sequence[int], clusters: Clusters = None, chained: bool = False) -> None:
        self.clustered = clusters is not None
        if clusters is not None:
            self.of: dict[int, Hashable] = {example: clusters[example] for example in seen}
        elif chained and len(seen) >= 8 * RUN:
            self.of = {example: place // RUN for place, example in enumerate(seen)}
        else:
            self.of = {example: example for example in seen}

    def __len__(self) -> int:
        return len(set(self.of.values()))

    def numbers(self, examples: Sequence[int]) -> Int[Tensor, " example"]:
        """Number the units of some examples from 0, as they appear."""
        return torch.from_numpy(cluster_numbers([self.of[one] for one in examples]))

    def drawn(self, examples: Sequence[int], resamples: int, seed: int) -> Float[ndarray, "replicates example"]:
        """Count how often each of some examples is drawn, whole units at a time."""
        where = self.numbers(examples)
        return bootstrap_weights(len(where.unique()), resamples, seed)[:, where.numpy()]

    def clusters(self, examples: Sequence[int]) -> Int[Tensor, " example"] | None:
        """Return the same numbers where some of these examples share a cluster that was given; else None."""
        found = self.numbers(examples)
        return found if self.clustered and len(found.unique()) < len(found) else None
