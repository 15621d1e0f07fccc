"""The tables behind the figures of drift: a measure by layer, and the layer at which it is extreme.

Mental model: ``drift`` has a row per arm, seed, step, site, layer, measure and control. Here one measure and one control are
taken from it, at the embedding and after every block, at the last step of each run.
"""

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import COMPOSITION, EMBEDDING, MOVEMENTS, RATIOS, arm_order, by_arm, layer_name


def resid_rows(drift: pd.DataFrame, measure: str, control: str) -> pd.DataFrame:
    """Rows of the embedding and of ``resid_post``, last step of each run, with ``place`` on the layer axis."""
    sites = drift["site"]
    keep = (drift["measure"] == measure) & (drift["control"] == control)
    keep &= ((sites == "resid_pre") & (drift["layer"] == 0)) | (sites == "resid_post")
    rows = drift[keep]
    if rows.empty:
        return rows.assign(place=pd.Series(dtype=int))
    rows = last_step(rows)
    embedded = rows["site"] == "resid_pre"
    layers = rows["layer"].astype(int)
    return rows.assign(
        place=layers.where(~embedded, EMBEDDING), layer=layers.astype(str).where(~embedded, layer_name(EMBEDDING))
    )


def layer_table(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """A measure per arm and layer over seeds; what :func:`drift_by_layer` draws.

    Columns ``arm, layer, estimate, low, high, seeds, n_tokens, n_examples``. ``layer`` is ``emb`` (the
    embedding) or a number (``resid_post``); ``estimate`` is the mean over seeds, ``low`` and ``high`` the
    outermost ends of the seeds' intervals; ``n_tokens`` and ``n_examples`` are the smallest of the seeds'.
    Of several training steps the last of each run is taken.
    """
    rows = resid_rows(drift, measure, control)
    table = rows.groupby(["arm", "place", "layer"], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"), low=("low", "min"), high=("high", "max"), seeds=("estimate", "size"),
        n_tokens=("n_tokens", "min"), n_examples=("n_examples", "min"),
    )  # fmt: skip
    return by_arm(table, "place").drop(columns="place")


def extreme_layer(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """Per arm the block that drifts most, in the sense of :func:`as_movement`: for a similarity the lowest value.

    Columns ``arm, layer, estimate, low, high, seeds``. Each seed has its own extreme layer; ``estimate`` is the
    mean of the seeds' extremes, ``low`` and ``high`` the outermost ends of their intervals, and ``layer`` names
    all their layers. For the cosine this is the ``min_cosine`` of ``cr-interp table``.
    """
    rows = resid_rows(drift, measure, control)
    rows = rows[(rows["place"] >= 0) & rows["estimate"].notna()].reset_index(drop=True)
    moved = as_movement(rows, measure)["estimate"]
    worst = rows.loc[moved.groupby([rows["arm"], rows["seed"]], dropna=False).idxmax()]
    found = []
    for arm in arm_order(rows["arm"]):
        mine = worst[worst["arm"] == arm]
        found.append(
            {
                "arm": arm,
                "layer": ", ".join(str(place) for place in sorted(set(mine["place"]))),
                "estimate": mine["estimate"].mean(),
                "low": mine["low"].min(),
                "high": mine["high"].max(),
                "seeds": len(mine),
            }
        )
    return pd.DataFrame(found, columns=["arm", "layer", "estimate", "low", "high", "seeds"])


def as_movement(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows whose ``estimate, low, high`` are how far from identical the two views are: 1 − a similarity, |1 − a ratio|.

    What grows with drift stays as it is, and so does what says of what a movement is made, which no distance belongs to.
    """
    if measure in (*MOVEMENTS, *COMPOSITION):
        return rows
    if measure not in RATIOS:
        return rows.assign(estimate=1 - rows["estimate"], low=1 - rows["high"], high=1 - rows["low"])
    ends = (1 - rows[["low", "high"]]).abs()
    around = (rows["low"] <= 1) & (rows["high"] >= 1)
    low = ends.min(axis=1, skipna=False).mask(around, 0.0)
    return rows.assign(estimate=(1 - rows["estimate"]).abs(), low=low, high=ends.max(axis=1, skipna=False))


def extreme_word(measure: str) -> str:
    """What :func:`extreme_layer` looks for: ``lowest``, ``highest`` or ``farthest from 1``."""
    if measure in RATIOS:
        return "farthest from 1"
    return "highest" if measure in (*MOVEMENTS, *COMPOSITION) else "lowest"
