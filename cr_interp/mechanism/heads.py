"""Which heads decide: all by attribution, then the first of them patched exactly, beside some that were drawn at random.

Mental model. A model has hundreds of heads, and a patched run for each is dear; attribution ranks them in two passes. What it
ranks first is then patched, with the controls. As many of the others, drawn at random, are patched as well (without controls), so
that the agreement of attribution with patching is not read off the heads that attribution chose.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cr_interp.mechanism.attribution import attribute
from cr_interp.mechanism.cells import Cell, head_cells
from cr_interp.mechanism.estimates import PLACE, estimates
from cr_interp.mechanism.given import Answers
from cr_interp.mechanism.patching import patch_cells
from cr_interp.mechanism.replaced import CONTROLS


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``patching_heads_examples`` and ``patching_heads`` of one checkpoint; none where no answers part."""
    options = given.options
    if not options.heads:
        return {}
    every = head_cells(given.loaded.model)
    guessed = attribute(given.loaded, given.pairs, every, options.batch_size, controls=("none",))
    if guessed.empty:
        return {}
    first, drawn = chosen_heads(guessed, every, options.heads)
    parts = []
    for cells, controls, how in ((first, CONTROLS, "first"), (drawn, ("none",), "drawn")):
        if cells:
            found = patch_cells(
                given.loaded,
                given.pairs,
                cells,
                controls=controls,
                batch_size=options.batch_size,
                backend=options.backend,
                progress=given.progress,
            ).drop(columns="width")
            parts.append(found.assign(chosen=how))
    examples = pd.concat(parts, ignore_index=True)
    return {
        "patching_heads_examples": examples,
        "patching_heads": estimates(examples, [*PLACE, "head", "chosen"]),
    }


def chosen_heads(guessed: pd.DataFrame, every: Sequence[Cell], count: int) -> tuple[list[Cell], list[Cell]]:
    """Choose the ``count`` heads of the largest attributed share, in either direction and whatever its sign, and as many
    others.
    """
    sums = guessed.assign(
        moved=guessed["patched"] - guessed["received"], way=guessed["given"] - guessed["received"]
    )
    sums = sums.groupby(["layer", "head", "direction"])[["moved", "way"]].sum()
    share = (sums["moved"] / sums["way"]).abs().groupby(["layer", "head"]).max()
    order = sorted(every, key=lambda cell: -share.get((cell.site.layer, cell.head), 0.0))
    rest = order[count:]
    drawn = np.random.default_rng(0).permutation(len(rest))[:count]
    return order[:count], [rest[i] for i in sorted(drawn)]
