"""What training changed, over seeds: by module, by module and layer, and between runs. Pandas only.

Mental model. ``updates`` has a row per weight. Norms of several weights together are roots of sums of squares, so a module in all
layers has ‖ΔW‖ = √Σ‖ΔW_l‖² and, relative to its own weights, √Σ‖ΔW_l‖² / √Σ‖W_l‖². A share of weights counts each weight once;
ranks and shares of ‖ΔW‖² are means over layers.
"""

import numpy as np
import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm

#: measure → what its number is.
MEASURES = {
    "relative": "‖ΔW‖ / ‖W‖",
    "norm": "‖ΔW‖",
    "stable_rank": "stable rank of ΔW",
    "top_share": "share of ‖ΔW‖² in the leading tenth of W's singular directions",
    "unchanged_bf16": "share of weights that bfloat16 does not tell apart",
}
#: measure of two runs → what its number is.
OVERLAPS = {
    "cosine": "cosine of the two ΔW",
    "output_space": "share of the leading output directions that both have",
    "input_space": "share of the leading input directions that both have",
}


def update_table(updates: pd.DataFrame, measure: str = "relative") -> pd.DataFrame:
    """Return a row per arm, module, layer and control: ``estimate`` is the mean over seeds, ``low`` and ``high`` the
    outermost.
    """
    rows = last_step(updates)
    rows = rows[rows["measure"] == measure]
    return by_arm(_over_seeds(rows, ["arm", "module", "layer", "control"]), "module", "layer")


def by_module(updates: pd.DataFrame, measure: str = "relative") -> pd.DataFrame:
    """Return a row per arm, module and control, all layers together, and one of all modules, ``all``; over seeds as above."""
    rows = last_step(updates)
    run = ["arm", "seed", "step"]
    found = []
    for module, mine in [("all", rows), *rows.groupby("module", sort=False)]:
        if measure in ("relative", "norm"):
            squares = mine[mine["control"] == "none"].assign(estimate=lambda each: each["estimate"] ** 2)
            sums = squares.pivot_table(index=run, columns="measure", values="estimate", aggfunc="sum")
            value = np.sqrt(sums["norm"] / (sums["weight_norm"] if measure == "relative" else 1.0))
            found.append(value.rename("estimate").reset_index().assign(module=str(module), control="none"))
        else:
            weighed = mine[mine["measure"] == measure]
            counts = weighed["n_weights"] if measure == "unchanged_bf16" else 1
            sums = (
                weighed.assign(total=weighed["estimate"] * counts, counts=counts)
                .groupby([*run, "control"], sort=False)[["total", "counts"]]
                .sum()
            )
            value = (sums["total"] / sums["counts"]).rename("estimate")
            found.append(value.reset_index().assign(module=str(module)))
    table = pd.concat(found, ignore_index=True)
    return by_arm(_over_seeds(table, ["arm", "module", "control"]), "module")


def overlap_table(overlaps: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """Return a row per pair of arms and control: mean over modules, layers and pairs of runs; ``low`` and ``high`` the
    outermost pairs'.

    Different arms are compared at the same seed, an arm with itself across seeds: how alike updates of one objective are.
    """
    rows = last_step(overlaps)
    same = rows["arm"] == rows["other_arm"]
    rows = rows[(rows["measure"] == measure) & (same | (rows["seed"] == rows["other_seed"]))]
    pair = ["arm", "other_arm", "seed", "other_seed", "control"]
    of_pair = rows.groupby(pair, sort=False, as_index=False)["estimate"].mean()
    table = of_pair.groupby(["arm", "other_arm", "control"], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("estimate", "min"),
        high=("estimate", "max"),
        pairs=("estimate", "count"),
    )
    return by_arm(table, "other_arm")


def _over_seeds(rows: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    found: pd.DataFrame = rows.groupby(place, sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("estimate", "min"),
        high=("estimate", "max"),
        seeds=("estimate", "count"),
    )
    return found
