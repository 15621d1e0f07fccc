"""Does drift matter? Per layer, how well an example's drift tells whether its answer flips.

Mental model. An example's drift at a layer is the mean over its response's tokens of how far their states move (1 − cosine, or
relative L2), from ``token_drift``; whether it is harmed is in ``generations``. The AUROC is the chance that a harmed example
moved farther than a kept one: 1/2 says nothing, and below 1/2 the harmed ones move *less*. Intervals draw clusters; one draw
serves all layers. Pandas only.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import rankdata

from cr_interp.ends import ends
from cr_interp.statistics import bootstrap_weights
from cr_interp.study.rows import last_step

RESAMPLES = 1000
_RUN = ["arm", "seed", "step"]
COLUMNS = [*_RUN, "site", "layer", "measure", "estimate", "low", "high", "n_flipped", "n_kept"]


def flips_by_drift(token_drift: pd.DataFrame, generations: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """A row per run, site and layer: the AUROC of drift for a flip, among examples that are right without the context.

    Runs in which none, or all, of these flip have no rows.
    """
    outcomes = _outcomes(last_step(generations))
    drift = last_step(token_drift)
    drift = drift[drift["site"] != "output"]
    moved = 1 - drift["cosine"] if measure == "cosine" else drift[measure]
    place = [*_RUN, "site", "layer", "example_id"]
    of_example = (
        drift.assign(moved=moved.astype(float)).groupby(place, sort=False, as_index=False)["moved"].mean()
    )
    both = of_example.merge(outcomes, on=[*_RUN, "example_id"])
    found = []
    for (arm, seed, step, site, layer), rows in both.groupby([*_RUN, "site", "layer"], sort=False):
        rows = rows[np.isfinite(rows["moved"])]
        flipped = rows["flipped"].to_numpy(bool)
        if not flipped.any() or flipped.all():
            continue
        estimate, low, high = _interval(rows["moved"].to_numpy(), flipped, rows["cluster"])
        found.append(
            (
                arm,
                seed,
                step,
                site,
                layer,
                measure,
                estimate,
                low,
                high,
                int(flipped.sum()),
                int((~flipped).sum()),
            )
        )
    return pd.DataFrame(found, columns=COLUMNS)


def auroc(values: Float[ndarray, " n"], flipped: ndarray) -> float:
    """The chance that one that flipped has the larger value; ties count half.

    >>> auroc(np.array([3.0, 1.0, 2.0]), np.array([True, False, False]))
    1.0
    """
    positive = int(flipped.sum())
    ranks = rankdata(values)[flipped].sum() - positive * (positive + 1) / 2
    return float(ranks / (positive * (len(values) - positive)))


def _interval(values: Float[ndarray, " n"], flipped: ndarray, clusters: pd.Series) -> tuple[float, float, float]:
    of, names = pd.factorize(clusters)
    weights = bootstrap_weights(len(names), RESAMPLES)[:, of]
    # higher[i, j]: does the i-th that flipped exceed the j-th that did not
    one, other = values[flipped], values[~flipped]
    higher = (one[:, None] > other) + 0.5 * (one[:, None] == other)
    a, b = weights[:, flipped], weights[:, ~flipped]
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = ((a @ higher) * b).sum(1) / (a.sum(1) * b.sum(1))
    estimate = auroc(values, flipped)
    low, high = ends(estimate, draws, len(names))
    return estimate, max(low, 0.0), min(high, 1.0)


def _outcomes(generations: pd.DataFrame) -> pd.DataFrame:
    """``flipped`` and ``cluster`` of every example that is right without the context."""
    first = generations[generations["sample"] == 0]
    x = first[(first["view"] == "no_context") & (first["outcome"] == "right")]
    xc = first[(first["view"] == "with_context") & (first["control"] == "exact")]
    cluster = x["cluster"] if "cluster" in x else x["example_id"]
    keys = [*_RUN, "example_id"]
    both = x[keys].assign(cluster=cluster.fillna(x["example_id"])).merge(xc[[*keys, "outcome"]], on=keys)
    return both.assign(flipped=both["outcome"] != "right").drop(columns="outcome")
