"""The tables behind the figures of drift: a measure by layer, and the layer at which it is extreme.

Mental model. The table ``drift`` has a row per arm, seed, step, site, layer, measure and control. The functions here pick one
measure and one control, at the embedding and after every block, at the last step of each run.
"""

import pandas as pd

from cr_interp.statistics import t_interval
from cr_interp.study.rows import last_step
from cr_interp.tables.estimates import Kind
from cr_interp.tables.methods import with_minimum
from cr_interp.vocabulary import (
    COMPOSITION,
    EMBEDDING,
    MOVEMENTS,
    RATIOS,
    arm_order,
    at_embedding,
    by_arm,
    layer_name,
    places_of,
    site_at,
)


def resid_rows(drift: pd.DataFrame, measure: str, control: str) -> pd.DataFrame:
    """Pick the rows of one measure and control at the embedding and after every block, with their ``place`` on the layer axis."""
    drift = of_panel(drift)
    rows = placed(drift[(drift["measure"] == measure) & (drift["control"] == control)])
    layers = rows["layer"].astype(int).astype(str)
    return rows.assign(layer=layers.where(rows["place"] >= 0, layer_name(EMBEDDING)))


def of_panel(rows: pd.DataFrame) -> pd.DataFrame:
    """Turn the frame that ``similarity.panel`` returns into rows of ``drift``: one arm, ``states``, exact context. Give other
    frames as they are.

    The layers of a panel are sites, or numbers of blocks with −1 for the embedding.
    """
    if "arm" in rows:
        return rows
    numbers = [int(getattr(layer, "layer", layer)) for layer in rows["layer"]]
    sites = [
        getattr(layer, "name", site_at(number)[0]) for layer, number in zip(rows["layer"], numbers, strict=True)
    ]
    return rows.assign(
        arm="states",
        seed=0,
        step=0,
        site=sites,
        layer=[max(number, 0) for number in numbers],
        control=rows["control"].replace("given", "exact"),
    )


def placed(drift: pd.DataFrame) -> pd.DataFrame:
    """Pick the rows of the embedding and of ``resid_post``, last step of each run, with ``place``: the block's number, −1 for
    the embedding.

    The embedding is ``resid_pre`` at layer 0. At later layers ``resid_pre`` equals the ``resid_post`` before it, so those
    rows are left out.
    """
    rows = drift[at_embedding(drift["site"], drift["layer"]) | (drift["site"] == "resid_post")]
    if rows.empty:
        return rows.assign(place=pd.Series(dtype=int))
    rows = last_step(rows)
    return rows.assign(place=places_of(rows))


def layer_table(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """Average a measure over seeds, per arm and layer; what :func:`drift_by_layer` draws.

    Columns ``arm, layer, estimate, low, high, seeds, n_tokens, n_examples``. ``layer`` is ``emb`` (the embedding) or a number
    (``resid_post``). ``estimate`` is the mean over seeds. ``low`` and ``high`` are the outermost ends of the seeds' *within*
    intervals: a range, and no interval of that mean. ``n_tokens`` and ``n_examples`` are the smallest of the seeds'. Of
    several training steps the last of each run is taken.
    """
    rows = resid_rows(drift, measure, control)
    table = rows.groupby(["arm", "place", "layer"], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        seeds=("estimate", "size"),
        n_tokens=("n_tokens", "min"),
        n_examples=("n_examples", "min"),
    )
    return by_arm(table, "place").drop(columns="place")


def extreme_layer(
    drift: pd.DataFrame, measure: str, control: str = "exact", interval: Kind = "across"
) -> pd.DataFrame:
    """Find, per arm, the block that drifts most by :func:`as_movement`; of a similarity, the block where it is lowest.

    Columns ``arm, layer, estimate, low, high, seeds, interval``. Each seed has its own extreme layer: ``estimate`` is the
    mean of the seeds' extremes, and ``layer`` names all their layers. The interval is Student's t over the seeds (*across*);
    with one seed, or where *within* is asked for, that of :func:`mean_interval`. For the cosine this is the ``min_cosine`` of
    ``cr-interp table``.
    """
    worst = extremes(drift, measure, control)
    found = []
    for arm in arm_order(worst["arm"]):
        mine = worst[worst["arm"] == arm]
        low, high, kind = mean_interval(mine, measure, interval)
        found.append(
            {
                "arm": arm,
                "layer": ", ".join(str(place) for place in sorted(set(mine["place"]))),
                "estimate": mine["estimate"].mean(),
                "low": low,
                "high": high,
                "seeds": len(mine),
                "interval": kind,
            }
        )
    return pd.DataFrame(found, columns=["arm", "layer", "estimate", "low", "high", "seeds", "interval"])


def extremes(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """Pick, of every arm and seed, the row of the block that drifts most."""
    rows = resid_rows(drift, measure, control)
    rows = rows[(rows["place"] >= 0) & rows["estimate"].notna()].reset_index(drop=True)
    if measure == "cosine":
        rows = with_minimum(rows)
    moved = as_movement(rows, measure)["estimate"]
    return rows.loc[moved.groupby([rows["arm"], rows["seed"]], dropna=False).idxmax()]


def mean_interval(rows: pd.DataFrame, measure: str, interval: Kind = "across") -> tuple[float, float, Kind]:
    """Give low end, high end and kind of the interval of a mean over seeds; ``rows`` has ``estimate, low, high`` of each seed.

    *Across*, where there are two seeds or more: Student's t over the seeds' estimates, cut off where the measure ends.
    *Within*: the mean of the seeds' low ends and that of their high ends. This is exact for examples that move all seeds
    alike, and too wide otherwise; the table holds no single examples from which to do better.
    """
    if interval == "within" or len(rows) < 2:
        return float(rows["low"].mean()), float(rows["high"].mean()), "within"
    low, high = (float(end) for end in t_interval(rows["estimate"].to_numpy(dtype=float)))
    if measure in (*MOVEMENTS, *RATIOS):
        return max(low, 0.0), high, "across"
    return (low, high, "across") if measure in COMPOSITION else (low, min(high, 1.0), "across")


def as_movement(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Turn ``estimate, low, high`` into a distance from identical views: 1 − a similarity, |1 − a ratio|.

    Movements such as ``relative_l2`` are such distances already. Composition measures such as ``shift_share`` stay as they
    are: they describe a movement and do not say how large it is.
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
    """Name the extreme that :func:`extreme_layer` looks for: ``lowest``, ``highest`` or ``farthest from 1``."""
    if measure in RATIOS:
        return "farthest from 1"
    return "highest" if measure in (*MOVEMENTS, *COMPOSITION) else "lowest"
