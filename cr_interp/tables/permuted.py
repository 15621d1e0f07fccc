"""One permutation for all layers: how often would some layer do as well as this one if nothing were there?

Mental model. Whoever looks at thirty layers and names the best one has made thirty trials. A permutation breaks what is asked
after and leaves all else: how layers go together, how large each cluster is, which class an example is of. From every
permutation the largest value of *all* layers is kept, and a layer's p-value is the share of these that reach its own (Westfall
and Young 1993), so it may be read of a layer that was chosen after looking.

    chances         does a number tell which examples flipped? Flips are dealt out anew, clusters of them in another order
    sign_chances    does one thing exceed another on the same examples? Every cluster's difference keeps or changes its sign
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from cr_interp.statistics import ranks

PERMUTATIONS = 1999


def chances(
    values: Float[ndarray, "example layer"],
    flipped: Bool[ndarray, " example"],
    clusters: pd.Series,
    strata: pd.Series | None = None,
    permutations: int = PERMUTATIONS,
) -> Float[ndarray, " layer"]:
    """Compute for every layer the p-value, two-sided and for all layers at once, of the area under the curve of its values
    for ``flipped``.

    Flips of one cluster go together, so a permutation puts the clusters in another order and deals their flips out in one
    piece after the other; with ``strata`` within each stratum, and the area is that among pairs of one stratum. NaN without
    such pairs.
    """
    kind = np.zeros(len(values), dtype=int) if strata is None else pd.factorize(strata)[0]
    of = pd.factorize(clusters)[0]
    order = np.lexsort((of, kind))
    values, flipped, kind, of = values[order], flipped[order], kind[order], of[order]
    score = np.zeros_like(values, dtype=float)
    pairs = 0.0
    for each in np.unique(kind):
        mine = kind == each
        ups = int(flipped[mine].sum())
        pairs += ups * (int(mine.sum()) - ups)
        # Σ over those that flipped of (rank − middle rank) is the number of pairs won beyond half of them.
        score[mine] = ranks(values[mine], axis=0) - (mine.sum() + 1) / 2
    if not pairs:
        return np.full(values.shape[1], np.nan)
    rng = np.random.default_rng(0)
    drawn = np.stack([flipped, *(_dealt(flipped, kind, of, rng) for _ in range(permutations))])
    apart = np.abs(drawn.astype(float) @ score) / pairs
    return _reached(apart[0], apart[1:].max(axis=1))


def sign_chances(
    differences: Float[ndarray, "example cell"], clusters: pd.Series, permutations: int = PERMUTATIONS
) -> Float[ndarray, " cell"]:
    """Compute for every cell the p-value, one-sided and for all cells at once, of a mean difference above 0.

    Cells are compared by their sum over the root of the clusters' squares, which no sign changes: else those that differ in
    every example would set the bar for all others.
    """
    of, names = pd.factorize(clusters)
    sums = np.zeros((len(names), differences.shape[1]))
    np.add.at(sums, of, differences)
    size = np.sqrt((sums**2).sum(axis=0))
    sums = sums / np.where(size > 0, size, 1.0)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(permutations, len(names)))
    return _reached(sums.sum(axis=0), (signs @ sums).max(axis=1))


def _dealt(flipped: ndarray, kind: ndarray, of: ndarray, rng: np.random.Generator) -> ndarray:
    """Deal the flips anew, the clusters of each stratum in another order; examples lie cluster by cluster."""
    keys = rng.random(of.max() + 1)[of]
    found: ndarray = flipped[np.lexsort((keys, kind))]
    return found


def _reached(found: Float[ndarray, " cell"], largest: Float[ndarray, " draw"]) -> Float[ndarray, " cell"]:
    """Compute the share of permutations, this order among them, whose largest value is no smaller."""
    reached = (largest[:, None] >= found[None] - 1e-12).sum(axis=0)
    p: ndarray = (1 + reached) / (1 + len(largest))
    return p
