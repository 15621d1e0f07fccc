"""A bounded, uniform sample of whole examples' rows, for the statistics that need pairs of rows.

Intervals of CKA, example-level CKA and neighbours need Gram matrices, whose size is the square of the rows. A
:class:`Kept` holds rows of whole examples, at most ``max_rows`` together, chosen by a hash of the example: a uniform
sample that does not depend on the order of arrival and is the same in every layer.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.groups import equal_rows


@dataclass
class Kept:
    """The examples with the smallest hashes: keeping a prefix of a random order makes a uniform sample."""

    max_rows: int
    seed: int
    examples: dict[int, tuple[int, Tensor, Tensor]] = field(default_factory=dict)  # id → hash, rows of x, of y
    bar: int = 1 << 64  # examples with a hash from here on are out
    rows: int = 0

    def offer(self, example: int, x: Float[Tensor, "token width"], y: Float[Tensor, "token width"]) -> None:
        order = _hash(example, self.seed)
        if order >= self.bar:
            return
        self.examples[example] = (order, x.to(torch.float32, copy=True), y.to(torch.float32, copy=True))
        self.rows += len(x)
        while self.rows > self.max_rows:
            last = max(self.examples, key=lambda one: self.examples[one][0])
            self.bar, dropped, _ = self.examples.pop(last)
            self.rows -= len(dropped)

    def grams(self) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"], Int[Tensor, " n"]]:
        """Gram matrices of all kept rows, and which example each row is of (0, 1, … by id)."""
        x, y = self.stacked()
        return gram(x), gram(y), self.group()

    def equal(self) -> tuple[Float[Tensor, "g*t g*t"], Float[Tensor, "g*t g*t"], int]:
        """Gram matrices with equally many tokens t of each example, and t: as many as the shortest has.

        Longer responses give evenly spaced tokens (``groups.equal_rows``).
        """
        x, y = self.stacked()
        rows = equal_rows(self.group())
        return gram(x[rows.flatten()]), gram(y[rows.flatten()]), rows.shape[1]

    def group(self) -> Int[Tensor, " n"]:
        """Which example each row of :meth:`stacked` is of: 0, 1, … in the order of the ids."""
        counts = [len(self.examples[one][1]) for one in sorted(self.examples)]
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))

    def stacked(self) -> tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]]:
        """All kept rows of both views, by the examples' ids, so that the order of arrival does not matter."""
        parts = [self.examples[one] for one in sorted(self.examples)]
        return torch.cat([x for _, x, _ in parts]), torch.cat([y for _, _, y in parts])


def gram(rows: Float[Tensor, "n width"]) -> Float[Tensor, "n n"]:
    """Gram matrix of centred rows; the product in float32, as precise as the rows, the rest in float64."""
    centred = (rows.double() - rows.double().mean(0)).float()
    return (centred @ centred.T).double()


def _hash(example: int, seed: int) -> int:
    """A fixed random-looking 64-bit number of an example (splitmix64), the same in every process and layer."""
    mask = (1 << 64) - 1
    z = (example * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
