"""The table ``cka_map`` of a checkpoint: every layer against every layer, in and between the views.

Mental model. A side is all layers' states of the same tokens: in a view of this checkpoint, or of the reference model. A
map is of two sides. All maps share one sample of the rows and one of the examples (``similarity/samples.py``), so memory is
bounded and every number of the table is of the same tokens.
"""

from collections.abc import Mapping
from itertools import chain

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.similarity.maps import BUFFERED, example_map, row_map
from cr_interp.similarity.samples import ExampleSample, RowSample
from cr_interp.vocabulary import place_of

#: Rows of a mini-batch of the row-level maps.
MAP_BATCH = 256

#: The maps: name → the two sides, each a view of this checkpoint or ``base``, the reference model without context.
MAPS = {
    "no_context": ("none", "none"),
    "with_context": ("exact", "exact"),
    "views": ("none", "exact"),
    "base": ("base", "none"),
}


class Maps:
    """Samples of all layers' rows in every side of the maps, each row drawn once for all of them."""

    def __init__(self, example_tokens: int) -> None:
        self.all, self.each = RowSample(BUFFERED * MAP_BATCH), ExampleSample(example_tokens)
        self.sides: list[str] = []

    def add(
        self,
        states: Mapping[str, Mapping[Site, Float[Tensor, "token width"]]],
        owner: Int[Tensor, " token"],
        sites: list[Site],
    ) -> None:
        """Add whole examples: their states in every side, and which example each token is of."""
        self.sides = [side for side in dict.fromkeys(chain(*MAPS.values())) if side in states]
        layers = [states[side][site] for side in self.sides for site in sites]
        self.all.offer(layers)
        self.each.offer(layers, owner)

    def rows(self, sites: list[Site]) -> pd.DataFrame:
        """Return a row per map and pair of layers; the embedding has layer −1 here, as it has no block."""
        count = len(sites)
        of_all, of_each = self.all.slots, self.each.stacked()

        def side(layers: list[Tensor], name: str) -> list[Tensor]:
            start = self.sides.index(name) * count
            return layers[start : start + count] or [torch.empty(0, 1)] * count

        rows = []
        for name, (left, right) in MAPS.items():
            if not {left, right} <= set(self.sides):
                continue
            same = left == right
            of_rows, _ = row_map(side(of_all, left), None if same else side(of_all, right), self.all, MAP_BATCH)
            of_examples, _ = example_map(side(of_each, left), None if same else side(of_each, right), self.each)
            for i, one in enumerate(sites):
                for j, other in enumerate(sites):
                    rows.append(
                        (
                            name,
                            place_of(one.name, one.layer),
                            place_of(other.name, other.layer),
                            of_rows[i, j],
                            self.all.n,
                            of_examples[i, j],
                            self.each.examples,
                        )
                    )
        columns = ["map", "layer_x", "layer_y", "cka", "n_tokens", "cka_examples", "n_examples"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"layer_x": "int32", "layer_y": "int32", "n_examples": "int32"})
