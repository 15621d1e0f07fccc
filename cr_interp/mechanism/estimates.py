"""From rows of single examples to shares with intervals: the table ``patching``.

Mental model. The recovered share of a group is a ratio of its means, Σ(patched − received) / Σ(given − received): an example
whose two views hardly differ has hardly a say, and none has a share of its own that explodes. It is not clipped. The share
of answers that follow is a mean of 0 and 1. Intervals draw clusters of examples, the same draws at every layer. Where all
answers agree no draw differs, so there the interval is Clopper and Pearson's with clusters as trials. Else
a single cluster gives no interval (NaN).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.ends import ends
from cr_interp.statistics import bootstrap_weights, clopper_pearson

RESAMPLES = 1000
PLACE = ["group", "direction", "site", "layer", "control"]


def estimates(examples: pd.DataFrame, place: Sequence[str] = PLACE) -> pd.DataFrame:
    """Make rows of ``patching`` from rows of ``patching_examples`` of one checkpoint.

    ``readout`` is ``share`` (of the logit difference) or ``answer`` (the share of whole answers that follow; ``before`` is
    that share without the patch). Groups without a place where answers part have no ``share``. ``place`` are the columns
    whose values a row stands for.
    """
    found = []
    for values, cell in examples.groupby(list(place), sort=False):
        where = dict(zip(place, values, strict=True))
        for readout, row in _readouts(cell):
            found.append({**where, "readout": readout, **row})
    columns = [*place, "readout", "estimate", "low", "high", "before", "n_examples", "n_clusters"]
    columns += ["n_other_answer"] if "other_answer" in examples else []
    return pd.DataFrame(found, columns=columns).astype(
        {c: "int32" for c in ("layer", "head", "width") if c in place}
    )


def _readouts(cell: pd.DataFrame) -> Iterator[tuple[str, dict[str, float | int]]]:
    parted = cell[np.isfinite(cell["received"]) & np.isfinite(cell["given"])]
    if len(parted):
        moved, way = parted["patched"] - parted["received"], parted["given"] - parted["received"]
        yield (
            "share",
            {"before": 0.0, **_ratio(moved.to_numpy(), way.to_numpy(), parted["cluster"]), **_others(parted)},
        )
    if "answer" not in cell:  # an estimate of the logits alone
        return
    answer = cell["answer"].to_numpy(float)
    yield (
        "answer",
        {
            "before": float(cell["before"].mean()),
            **_ratio(answer, np.ones(len(cell)), cell["cluster"], True),
            **_others(cell),
        },
    )


def _others(cell: pd.DataFrame) -> dict[str, float | int]:
    """Count the controls that are of an example with another answer, where that is known."""
    return {"n_other_answer": int(cell["other_answer"].sum())} if "other_answer" in cell else {}


def _ratio(
    above: Float[ndarray, " example"],
    below: Float[ndarray, " example"],
    clusters: pd.Series,
    events: bool = False,
) -> dict[str, float | int]:
    of, names = pd.factorize(clusters)
    n = len(names)
    sums = [np.bincount(of, weights=each, minlength=n) for each in (above, below)]
    estimate = float(sums[0].sum() / sums[1].sum()) if sums[1].sum() else float("nan")
    if events and estimate in (0.0, 1.0):
        low, high = clopper_pearson(estimate * n, n)
    else:
        weights = bootstrap_weights(n, RESAMPLES)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = ends(estimate, (weights @ sums[0]) / (weights @ sums[1]), n)
        if events:
            low, high = max(low, 0.0), min(high, 1.0)
    return {"estimate": estimate, "low": low, "high": high, "n_examples": len(of), "n_clusters": n}
