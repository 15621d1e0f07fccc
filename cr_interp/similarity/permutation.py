"""Is a similarity more than chance? Example-level CKA when the examples of one view are permuted among themselves.

Mental model. If a view's states said nothing about the other's of the *same* example, any pairing of the examples would be as
good as the true one. So the null is made by giving every example of the first view the states of another one in the second,
all its tokens together; p = (1 + number of permutations that reach the estimate) / (1 + permutations). A permutation is a
function of the example's id, hence the same in every layer, which makes statements about the most similar of many layers
possible (arXiv 2602.14486): :func:`over_layers` compares each with the largest of all layers under the same permutation.

The examples have to be exchangeable: where some are versions of one another (a cluster), p is a little too small. There the
estimate is between clusters, and so is the scale of the null, while a permuted example meets any other one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cr_interp.similarity.weighted import ExampleGrams


def permuted_cka(
    grams: ExampleGrams, ids: Sequence[int], permutations: int, seed: int = 0, own: float | None = None
) -> Float[ndarray, " permutations"]:
    """Compute example-level CKA of the first view with the second's examples permuted; ``ids`` are those of the examples.

    NaN where CKA itself is undefined. ``own`` is the denominator, if not that of ``grams``.
    """
    found = torch.full((permutations,), torch.nan, dtype=torch.float64)
    own = grams.own() if own is None else own
    if own is not None:
        for index, order in enumerate(_orders(ids, permutations, seed)):
            found[index] = grams.cross(order) / own
    return found.numpy()


def _orders(ids: Sequence[int], permutations: int, seed: int) -> list[Tensor]:
    """Return permutations of places that depend on the ids: of the ids in two layers the same ones move alike."""
    last = max(ids, default=0)
    found = []
    for index in range(permutations):
        keys = np.random.default_rng([seed, index]).random(last + 1)[np.asarray(ids, dtype=int)]
        found.append(torch.from_numpy(np.argsort(keys, kind="stable")))
    return found


def p_value(estimate: float, null: Float[ndarray, " permutations"]) -> float:
    """Count how often chance is at least as similar, the estimate itself counted among the permutations; NaN without any."""
    if not len(null) or not np.isfinite(estimate) or not np.isfinite(null).all():
        return float("nan")
    return float((1 + (null >= estimate).sum()) / (1 + len(null)))


def over_layers(
    estimates: Mapping[Any, float], nulls: Mapping[Any, Float[ndarray, " permutations"]]
) -> dict[Any, float]:
    """Compute p of every layer when all are looked at: against the largest of all layers in each permutation (Westfall and
    Young).

    Each layer's values are first taken relative to its own null, (value − mean) / SD: where unrelated examples are alike, as
    equal tokens' embeddings are, chance is high, and would otherwise speak for all layers.
    """
    defined = {
        layer: nulls[layer] for layer, value in estimates.items() if np.isfinite(p_value(value, nulls[layer]))
    }
    if not defined:
        return dict.fromkeys(estimates, float("nan"))
    scale = {layer: (null.mean(), max(null.std(), 1e-12)) for layer, null in defined.items()}
    largest = np.max([(null - scale[layer][0]) / scale[layer][1] for layer, null in defined.items()], axis=0)
    return {
        layer: p_value((value - scale[layer][0]) / scale[layer][1], largest) if layer in defined else float("nan")
        for layer, value in estimates.items()
    }
