"""Bounded, uniform samples of whole examples' rows, for the statistics that need pairs of rows.

Intervals of CKA, example-level CKA and neighbours need Gram matrices, whose size is the square of the rows. A
:class:`Kept` holds rows of whole examples, at most ``max_rows`` together, chosen by a hash of the example: a uniform
sample that does not depend on the order of arrival and is the same in every layer. With ``tokens`` it holds equally many
evenly spaced rows of each example, and drops (and counts) examples that have fewer: what example-level CKA compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.similarity.groups import spaced, tokens_each


@dataclass
class Kept:
    """The examples with the smallest hashes: keeping a prefix of a random order makes a uniform sample."""

    max_rows: int
    seed: int
    tokens: int | None = None
    """So many rows of each example; None: all."""
    examples: dict[int, tuple[int, Tensor, Tensor]] = field(default_factory=dict)  # id → hash, rows of x, of y
    bar: int = 1 << 64  # examples with a hash from here on are out
    rows: int = 0
    dropped: int = 0
    """Examples with fewer rows than ``tokens``."""

    def offer(
        self,
        examples: Sequence[int],
        x: Float[Tensor, "row width"],
        y: Float[Tensor, "row width"],
        rows: Sequence[Int[Tensor, " token"]],
    ) -> None:
        """Take what belongs to the sample: ``rows[k]`` are those of x and y that ``examples[k]`` has."""
        arrived: dict[int, tuple[int, Tensor]] = {}
        for example, its in zip(examples, rows, strict=True):
            if self.tokens is not None and len(its) < self.tokens:
                self.dropped += 1
                continue
            order = hashed(example, self.seed)
            if order < self.bar:
                some = self.tokens is not None and len(its) > self.tokens
                arrived[example] = (order, its[spaced(len(its), self.tokens)] if some else its)
                self.rows += len(arrived[example][1])
        # Who leaves is settled before anything is copied.
        leaving = [(one[0], example) for example, one in self.examples.items()]
        leaving = sorted(leaving + [(order, example) for example, (order, _) in arrived.items()])
        while self.rows > self.max_rows:
            self.bar, last = leaving.pop()
            gone = arrived.pop(last)[1] if last in arrived else self.examples.pop(last)[1]
            self.rows -= len(gone)
        if not arrived:
            return
        kind = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
        places = torch.cat([its for _, its in arrived.values()])
        lengths = [len(its) for _, its in arrived.values()]
        parts = [side[places].to(kind).split(lengths) for side in (x, y)]
        for (example, (order, _)), one, other in zip(arrived.items(), *parts, strict=True):
            # Copies: a view would hold the rows of all that came with it, also of those that leave later.
            self.examples[example] = (order, one.clone(), other.clone())

    def equal(self, tokens: int | None = None) -> "Kept":
        """Return the same with equally many rows of each example: ``tokens``, or what ``groups.tokens_each`` finds here."""
        if self.tokens is not None:
            return self
        lengths = [len(x) for _, x, _ in self.examples.values()]
        found = Kept(self.max_rows, self.seed, tokens or tokens_each([lengths], self.max_rows))
        if lengths:
            starts = torch.arange(self.rows).split([len(self.examples[one][1]) for one in self.ids()])
            found.offer(self.ids(), *self.stacked(), starts)
        return found

    def ids(self) -> list[int]:
        """Return the examples, in the order of :meth:`stacked`."""
        return sorted(self.examples)

    def grams(self) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
        """Return gram matrices of all kept rows, centred."""
        x, y = self.stacked()
        return gram(x), gram(y)

    def group(self) -> Int[Tensor, " n"]:
        """Return number the example that each row of :meth:`stacked` is of: 0, 1, … in the order of the ids."""
        counts = [len(self.examples[one][1]) for one in self.ids()]
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))

    def stacked(self) -> tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]]:
        """Return all kept rows of both views, by the examples' ids, so that the order of arrival does not matter."""
        parts = [self.examples[one] for one in self.ids()]
        return torch.cat([x for _, x, _ in parts]), torch.cat([y for _, _, y in parts])


def gram(rows: Float[Tensor, "n width"]) -> Float[Tensor, "n n"]:
    """Compute the Gram matrix of centred rows in float64: in float32 an example-level 1 − CKA of 1e-6 would be 10 % off."""
    rows = rows.double()
    rows = rows - rows.mean(0)
    return rows @ rows.T


def hashed(example: int, seed: int) -> int:
    """Return a fixed random-looking 64-bit number of an example (splitmix64), the same in every process and layer."""
    mask = (1 << 64) - 1
    z = (example * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
