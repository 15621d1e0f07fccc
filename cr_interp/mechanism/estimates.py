"""From rows of single examples to shares with intervals: the table ``patching``.

Mental model. The recovered share of a group is a ratio of its means, Σ(patched − received) / Σ(given − received): an example
whose two views hardly differ has hardly a say, and none has a share of its own that explodes. It is not clipped. The share
of answers that follow is a mean of 0 and 1. Intervals draw clusters of examples, the same draws at every layer. Where all
answers agree no draw differs, so there the interval is Clopper and Pearson's with clusters as trials. Else
a single cluster gives no interval (NaN).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.ends import ends
from cr_interp.statistics import bootstrap_weights, clopper_pearson

RESAMPLES = 1000
_READ = ("received", "given", "patched", "answer", "before", "other_answer")
PLACE = ["group", "direction", "site", "layer", "control"]


def estimates(examples: pd.DataFrame, place: Sequence[str] = PLACE) -> pd.DataFrame:
    """Make rows of ``patching`` from rows of ``patching_examples`` of one checkpoint.

    ``readout`` is ``share`` (of the logit difference) or ``answer`` (the share of whole answers that follow; ``before`` is
    that share without the patch). Groups without a place where answers part have no ``share``. ``place`` are the columns
    whose values a row stands for.
    """
    found = []
    read = {name: examples[name] for name in _READ if name in examples}
    read["cluster"] = pd.Series(pd.factorize(examples["cluster"])[0])
    arrays = {name: column.to_numpy() for name, column in read.items()}
    cells = examples.groupby(list(place), sort=False).indices
    for values, rows in sorted(cells.items(), key=lambda cell: cell[1][0]):
        where = dict(zip(place, values if isinstance(values, tuple) else (values,), strict=True))
        for readout, row in _readouts({name: column[rows] for name, column in arrays.items()}):
            found.append({**where, "readout": readout, **row})
    columns = [*place, "readout", "estimate", "low", "high", "before", "n_examples", "n_clusters"]
    columns += ["n_other_answer"] if "other_answer" in examples else []
    return pd.DataFrame(found, columns=columns).astype(
        {c: "int32" for c in ("layer", "head", "width") if c in place}
    )


def _readouts(cell: Mapping[str, ndarray]) -> Iterator[tuple[str, dict[str, float | int]]]:
    """``cell``: column → its values, arrays since there are thousands of cells of a few rows."""
    finite = np.isfinite(cell["received"]) & np.isfinite(cell["given"])
    if finite.any():
        parted = {name: column[finite] for name, column in cell.items()}
        moved, way = parted["patched"] - parted["received"], parted["given"] - parted["received"]
        yield "share", {"before": 0.0, **_ratio(moved, way, parted["cluster"]), **_others(parted)}
    if "answer" not in cell:  # an estimate of the logits alone
        return
    answer = cell["answer"].astype(float)
    yield (
        "answer",
        {
            "before": float(pd.Series(cell["before"]).mean()),
            **_ratio(answer, np.ones(len(answer)), cell["cluster"], True),
            **_others(cell),
        },
    )


def _others(cell: Mapping[str, ndarray]) -> dict[str, float | int]:
    """Count the controls that are of an example with another answer, where that is known."""
    return {"n_other_answer": int(cell["other_answer"].sum())} if "other_answer" in cell else {}


def _ratio(
    above: Float[ndarray, " example"],
    below: Float[ndarray, " example"],
    clusters: ndarray,
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
