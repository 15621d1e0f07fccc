"""Does drift matter? Per layer, how well an example's drift tells whether its answer flips.

Mental model. An example's drift at a layer is the mean over its response's tokens of how far their states move (1 − cosine, or
relative L2), from ``token_drift``; whether it is harmed is in ``generations``. The AUROC is the chance that a harmed example
moved farther than a kept one: 1/2 says nothing, and below 1/2 the harmed ones move *less*. Intervals draw clusters; one draw
serves all layers. So does one permutation (``permuted.py``): ``p`` is of the claim that *this* layer tells flips although it
was looked for among all. Drift that goes with a flip need not be what flips the answer: whether it is, patching says. Pandas
only.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.ends import ends
from cr_interp.statistics import bootstrap_weights, clopper_pearson, ranks
from cr_interp.study.rows import last_step
from cr_interp.tables.permuted import chances
from cr_interp.vocabulary import by_arm, places_of

RESAMPLES = 1000
_RUN = ["arm", "seed", "step"]
COLUMNS = [*_RUN, "site", "layer", "measure", "estimate", "low", "high", "n_flipped", "n_kept"]
COLUMNS += ["within_class", "within_low", "within_high", "p", "within_p"]
#: A task with more different right answers than this has no classes.
CLASSES = 10


def flips_by_drift(token_drift: pd.DataFrame, generations: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """Return a row per run, site and layer: the AUROC of drift for a flip, among examples that are right without the context.

    ``within_class`` is the AUROC among examples with the same right answer, with its interval, for tasks with at most
    :data:`CLASSES` different ones: a class may both move more and flip more, and then drift would only tell the class. NaN
    for other tasks. ``p`` and ``within_p`` are of the two, for all layers at once. Runs in which none, or all, of the
    examples flip have no rows.
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
        values = rows["moved"].to_numpy()
        whole = auroc_interval(values, flipped, rows["cluster"])
        within = (np.nan, np.nan, np.nan)
        if rows["class"].nunique() <= CLASSES:
            within = auroc_interval(values, flipped, rows["cluster"], rows["class"])
        counts = int(flipped.sum()), int((~flipped).sum())
        found.append((arm, seed, step, site, layer, measure, *whole, *counts, *within, np.nan, np.nan))
    return _with_chances(pd.DataFrame(found, columns=COLUMNS), both)


def _with_chances(table: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """Fill in both p-values, run by run: all places of a run share one permutation."""
    for run, rows in table.groupby(_RUN, sort=False):
        mine = moved
        for name, value in zip(_RUN, run, strict=True):
            mine = mine[mine[name] == value]
        wide = mine.pivot(index="example_id", columns=["site", "layer"], values="moved")
        wide = wide[[(row.site, row.layer) for row in rows.itertuples()]]
        wide = wide[np.isfinite(wide).all(axis=1)]
        told = mine.drop_duplicates("example_id").set_index("example_id").loc[wide.index]
        flipped, clusters = told["flipped"].to_numpy(bool), told["cluster"]
        table.loc[rows.index, "p"] = chances(wide.to_numpy(), flipped, clusters)
        if told["class"].nunique() <= CLASSES:
            table.loc[rows.index, "within_p"] = chances(wide.to_numpy(), flipped, clusters, told["class"])
    return table


def over_seeds(flips: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, place and measure: means over seeds, the outermost ends of the seeds' intervals. ``place`` −1:
    embedding.

    Of the seeds' p-values the largest, as every seed has to show it.
    """
    table = (
        flips.assign(place=places_of(flips))
        .groupby(["arm", "place", "measure"], sort=False, as_index=False)
        .agg(
            estimate=("estimate", "mean"),
            low=("low", "min"),
            high=("high", "max"),
            within_class=("within_class", "mean"),
            within_low=("within_low", "min"),
            within_high=("within_high", "max"),
            p=("p", "max"),
            within_p=("within_p", "max"),
            seeds=("estimate", "count"),
            n_flipped=("n_flipped", "sum"),
            n_kept=("n_kept", "sum"),
        )
    )
    return by_arm(table, "place")


def auroc(values: Float[ndarray, " n"], flipped: ndarray) -> float:
    """Compute the chance that one that flipped has the larger value; ties count half.

    >>> auroc(np.array([3.0, 1.0, 2.0]), np.array([True, False, False]))
    1.0
    """
    positive = int(flipped.sum())
    won = ranks(values)[flipped].sum() - positive * (positive + 1) / 2
    return float(won / (positive * (len(values) - positive)))


def auroc_interval(
    values: Float[ndarray, " n"], flipped: ndarray, clusters: pd.Series, strata: pd.Series | None = None
) -> tuple[float, float, float]:
    """Compute :func:`auroc` with its 95 % interval over clusters; with ``strata``, among pairs of one stratum only.

    Where all are told apart no draw differs, and the interval is Clopper and Pearson's with clusters as trials. NaN where no
    stratum has both kinds.
    """
    of, names = pd.factorize(clusters)
    n = len(names)
    weights = np.concatenate([np.ones((1, len(of))), bootstrap_weights(n, RESAMPLES)[:, of]])
    # higher[i, j]: does the i-th that flipped exceed the j-th that did not
    one, other = values[flipped], values[~flipped]
    higher = (one[:, None] > other) + 0.5 * (one[:, None] == other)
    kind = np.zeros(len(values)) if strata is None else pd.factorize(strata)[0]
    same = (kind[flipped][:, None] == kind[~flipped]).astype(float)
    a, b = weights[:, flipped], weights[:, ~flipped]
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = ((a @ (higher * same)) * b).sum(1) / ((a @ same) * b).sum(1)
    estimate = float(draws[0])
    if not np.isfinite(estimate):
        return float("nan"), float("nan"), float("nan")
    if estimate in (0.0, 1.0) and n > 1:
        return estimate, *clopper_pearson(estimate * n, n)
    low, high = ends(estimate, draws[1:], n)
    return estimate, max(low, 0.0), min(high, 1.0)


def _outcomes(generations: pd.DataFrame) -> pd.DataFrame:
    """Return ``flipped``, ``cluster`` and ``class`` (the right answer, as given) of every example that is right without
    context.
    """
    first = generations[generations["sample"] == 0]
    x = first[(first["view"] == "no_context") & (first["outcome"] == "right")]
    xc = first[(first["view"] == "with_context") & (first["control"] == "exact")]
    cluster = x["cluster"] if "cluster" in x else x["example_id"]
    keys = [*_RUN, "example_id"]
    said = (x["response"] if "response" in x else x["example_id"]).astype(str).str.strip().str.casefold()
    named = x[keys].assign(**{"cluster": cluster.fillna(x["example_id"]), "class": said})
    both = named.merge(xc[[*keys, "outcome"]], on=keys)
    return both.assign(flipped=both["outcome"] != "right").drop(columns="outcome")
