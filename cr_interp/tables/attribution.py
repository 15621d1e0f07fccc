"""What heads and windows of layers do, over seeds, and how well attribution agrees with patching.

Mental model: ``patching_heads``, ``patching_windows`` and ``attribution`` have a row per arm, seed, group, direction, cell,
control and read-out, as ``patching`` has. :func:`over_seeds` takes one group, direction and read-out from any of them.
:func:`agreement` joins attributed and patched cells. Pandas only.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.ends import ends
from cr_interp.statistics import bootstrap_weights, ranks
from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm

RESAMPLES = 500
_RUN = ["arm", "seed", "step"]
_CELL = ["site", "layer", "head"]


def over_seeds(
    table: pd.DataFrame, group: str = "harmed", direction: str = "repair", readout: str = "share"
) -> pd.DataFrame:
    """Return a row per arm, cell and control: means over seeds, the outermost ends of the seeds' intervals, the smallest n
    and the largest.

    The columns are ``arm, site, layer``, those of ``width``, ``head`` and ``chosen`` that the table has, and ``control,
    estimate, low, high, before, seeds, n_examples, n_most``.
    """
    rows = last_step(table)
    rows = rows[(rows["group"] == group) & (rows["direction"] == direction) & (rows["readout"] == readout)]
    cell = [name for name in ("site", "layer", "width", "head") if name in rows]
    chosen = {"chosen": ("chosen", "min")} if "chosen" in rows else {}  # named first in some seed: named first
    found = rows.groupby(["arm", *cell, "control"], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        **({"before": ("before", "mean")} if "before" in rows else {}),
        **chosen,
        seeds=("estimate", "count"),
        n_examples=("n_examples", "min"),
        n_most=("n_examples", "max"),
    )
    return by_arm(found[found["estimate"].notna()], *cell)


def first_cells(table: pd.DataFrame, count: int = 3, readout: str = "share") -> pd.DataFrame:
    """Return per arm, group and direction the cells of the highest estimates, with their controls at the same place.

    Columns as in :func:`over_seeds`, with ``group``, ``direction`` and the controls' estimates ``random`` and ``other``.
    """
    parts = []
    for group in table["group"].unique():
        for direction in table["direction"].unique():
            found = over_seeds(table, str(group), str(direction), readout)
            cell = [name for name in ("arm", "site", "layer", "width", "head") if name in found]
            real = found[found["control"] == "none"].drop(columns="control")
            for control in ("random", "other"):
                beside = found.loc[found["control"] == control, [*cell, "estimate"]]
                real = real.merge(beside.rename(columns={"estimate": control}), on=cell, how="left")
            best = (
                real.sort_values("estimate", ascending=False, kind="stable")
                .groupby("arm", sort=False)
                .head(count)
            )
            parts.append(best.assign(group=group, direction=direction))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def agreement(
    attribution_examples: pd.DataFrame,
    patching_examples: pd.DataFrame | None = None,
    heads_examples: pd.DataFrame | None = None,
    group: str | None = None,
) -> pd.DataFrame:
    """Return a row per run, direction and kind of site: how attributed shares go with patched ones over the cells that have
    both.

    Columns ``arm, seed, step, direction, site, n_cells, pearson, pearson_low, pearson_high, spearman, spearman_low,
    spearman_high, n_examples``. Each cell's share is a ratio of means over the examples that both have; the intervals draw
    clusters of examples, the same for all cells. ``group``: of these answers only. Fewer than three cells have no row.
    """
    exact = [
        each.assign(head=-1) if "head" not in each else each
        for each in (patching_examples, heads_examples)
        if each is not None
    ]
    if not exact or attribution_examples.empty:
        return pd.DataFrame()
    keys = [*_RUN, "example_id", "direction", *_CELL]
    guess = last_step(attribution_examples)
    guess = guess[guess["control"] == "none"]
    patched = pd.concat(
        [last_step(each)[lambda rows: rows["control"] == "none"] for each in exact], ignore_index=True
    )
    both = guess[[*keys, "cluster", "group", "received", "given", "patched"]].merge(
        patched[[*keys, "patched"]], on=keys, suffixes=("", "_exact")
    )
    both = both[np.isfinite(both["patched_exact"])]
    both = both if group is None else both[both["group"] == group]
    found = []
    for place, rows in both.groupby([*_RUN, "direction", "site"], sort=False):
        cells = rows.groupby(["layer", "head"], sort=False).ngroup()
        if cells.max() < 2:
            continue
        found.append(
            {**dict(zip([*_RUN, "direction", "site"], place, strict=True)), **_agreement(rows, cells.to_numpy())}
        )
    return pd.DataFrame(found)


def _agreement(rows: pd.DataFrame, cells: ndarray) -> dict[str, float | int]:
    of, names = pd.factorize(rows["cluster"])
    shape = (len(names), int(cells.max()) + 1)

    def summed(values: pd.Series) -> Float[ndarray, "cluster cell"]:
        return np.bincount(
            of * shape[1] + cells, weights=values.to_numpy(float), minlength=shape[0] * shape[1]
        ).reshape(shape)

    way = summed(rows["given"] - rows["received"])
    moved = [summed(rows[name] - rows["received"]) for name in ("patched", "patched_exact")]
    weights = np.concatenate([np.ones((1, len(names))), bootstrap_weights(len(names), RESAMPLES)])
    with np.errstate(divide="ignore", invalid="ignore"):
        guessed, exact = ((weights @ each) / (weights @ way) for each in moved)
        drawn = {
            "pearson": _correlation(guessed, exact),
            "spearman": _correlation(ranks(guessed, axis=1), ranks(exact, axis=1)),
        }
    said: dict[str, float | int] = {"n_cells": shape[1]}
    for name, values in drawn.items():
        low, high = ends(float(values[0]), values[1:], len(names))
        said |= {name: float(values[0]), f"{name}_low": max(low, -1.0), f"{name}_high": min(high, 1.0)}
    return {**said, "n_examples": int(rows["example_id"].nunique())}


def _correlation(one: Float[ndarray, "draw cell"], other: Float[ndarray, "draw cell"]) -> Float[ndarray, " draw"]:
    one, other = (each - each.mean(1, keepdims=True) for each in (one, other))
    found: ndarray = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return found
