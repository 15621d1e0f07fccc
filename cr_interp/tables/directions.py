"""Directions over seeds, and the verdict on the double dose: supported, not supported, or open. Pandas only.

Mental model. The double dose has two parts, and both have controls: what training did (u) has the direction of what the context
does to the base (v_base), and taking v_base out of the run with the context repairs answers. It is, for one run,

    supported       in some layer u's cosine lies above where 95 % of both controls' lie, and removing v_base returns more answers
                    than each control does, by an interval that holds for all layers at once
    not supported   u's cosine is within the controls in every layer; or removing v_base returns at most a tenth of the answers
                    more than a control does, in every layer where it is not, and that interval says so
    open            else: mostly too few flips

Taking v_base out is not the second dose itself but its antidote, and whatever harm the context does might go when what it does
is taken out. So beside the verdict stands a stronger reading, by what *adding* v_base to the run without the context does to
the same answers: a second dose should break them. It is

    supported       the verdict is, and in the same layer adding v_base loses more answers than each control does
    not supported   the verdict is; or adding v_base loses at most a tenth of the answers more than a control does, in every layer
                    where u has v's direction, and the interval says so
    open            else

One bootstrap over clusters serves all layers (the largest deviation over layers decides the width), so choosing the layer
afterwards costs nothing more.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cr_interp.statistics import bootstrap_weights, clopper_pearson
from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm

MEASURES = {
    "cos_u_v": "cosine of what training did (u) with what the context does to the base (v)",
    "share_along": "share of what the context does to the student that lies along v of the base",
    "size_ratio": "‖v of the student‖ / ‖v of the base‖",
    "step_ratio": "‖u‖ / ‖v of the base‖",
}
ACTIONS = {"remove": "taken out of the run with the context", "add": "put into the run without it"}
CONTROLS = {
    "none": "v itself",
    "random": "a random direction of the same norm",
    "unrelated": "the difference of two other prompts, of the same norm",
}
#: Repairing this much more than a control would be worth speaking of.
MARGIN = 0.1
#: Fewer clusters of flips give no verdict.
FEWEST = 8
RESAMPLES = 2000


class Verdict(NamedTuple):
    """On one run."""

    arm: str
    seed: int
    verdict: str
    layer: int | None
    """Where v_base repairs most beyond the controls; None without flips."""
    cosine: float
    """Of u and v_base there."""
    repaired: float
    """Share of answers that are back there …"""
    beyond: float
    """… more than with the better of the two controls, and the ends that hold for all layers at once."""
    low: float
    high: float
    n_examples: int
    lost: float
    """Share of the same answers that are gone when v_base is *added* to the run without the context there: the second dose
    itself. NaN where that was not tried."""
    why: str
    stronger: str = "open"
    """The stronger reading: the verdict, and adding v_base breaks answers too."""
    added_layer: int | None = None
    """Where adding v_base surely breaks most beyond the controls, of the layers where u has v's direction; None: not tried …"""
    added_beyond: float = float("nan")
    """… how much more than the control that breaks more, and the ends that hold for all layers at once."""
    added_low: float = float("nan")
    added_high: float = float("nan")


def direction_table(directions: pd.DataFrame, measure: str = "cos_u_v") -> pd.DataFrame:
    """Return a row per arm, layer and control: mean over seeds, the outermost ends of the seeds' intervals."""
    rows = last_step(directions)
    return _over_seeds(rows[rows["measure"] == measure], ["arm", "layer", "control"], "layer")


def effect_table(
    effects: pd.DataFrame,
    group: str = "harmed",
    action: str = "remove",
    vector: str = "base",
    readout: str = "answer",
) -> pd.DataFrame:
    """Return a row per arm, layer and control, likewise; ``before`` is the share without any change."""
    rows = last_step(effects)
    for column, wanted in (("group", group), ("action", action), ("vector", vector), ("readout", readout)):
        rows = rows[rows[column] == wanted]
    return _over_seeds(rows, ["arm", "layer", "control"], "layer")


def verdicts(directions: pd.DataFrame, examples: pd.DataFrame, group: str = "harmed") -> list[Verdict]:
    """Return the verdict on every trained run, from the tables ``directions`` and ``direction_examples``."""
    cosines = last_step(directions)
    cosines = cosines[cosines["measure"] == "cos_u_v"]
    flips = last_step(examples)
    flips = flips[(flips["group"] == group) & (flips["vector"] == "base")]
    added, flips = (flips[flips["action"] == action] for action in ("add", "remove"))
    found = []
    for (arm, seed), of in cosines.groupby(["arm", "seed"], sort=False):
        mine, put_in = (rows[(rows["arm"] == arm) & (rows["seed"] == seed)] for rows in (flips, added))
        verdict = _verdict(str(arm), int(seed), of, mine, group)
        there = put_in[(put_in["control"] == "none") & (put_in["layer"] == verdict.layer)]
        lost = float(there["answer"].mean()) if len(there) else float("nan")
        found.append(_stronger(verdict._replace(lost=lost), _above_controls(of), mine, put_in))
    return found


def _stronger(verdict: Verdict, above: pd.Series, removed: pd.DataFrame, added: pd.DataFrame) -> Verdict:
    """Add to the verdict the stronger reading, which asks of adding v_base what the verdict asks of removing it."""
    if verdict.verdict == "not supported":
        verdict = verdict._replace(stronger="not supported")
    if added["cluster"].nunique() < FEWEST or added["control"].nunique() < 2:
        return verdict
    beyond, low, high, _ = _beyond(added)
    layers = [layer for layer in above.index[above] if layer in beyond.index]
    if not layers:
        return verdict
    best = max(layers, key=lambda layer: low[layer])
    verdict = verdict._replace(
        added_layer=int(best),
        added_beyond=float(beyond[best]),
        added_low=float(low[best]),
        added_high=float(high[best]),
    )
    if verdict.verdict == "supported":
        repairs = _beyond(removed)[1]
        if any(low[layer] > 0 and repairs[layer] > 0 for layer in layers):
            return verdict._replace(stronger="supported")
    if all(high[layer] < MARGIN for layer in layers):
        return verdict._replace(stronger="not supported")
    return verdict


def _verdict(arm: str, seed: int, cosines: pd.DataFrame, flips: pd.DataFrame, group: str) -> Verdict:
    above = _above_controls(cosines)
    real = cosines[cosines["control"] == "none"].set_index("layer")["estimate"]
    n, clusters = flips["example_id"].nunique(), flips["cluster"].nunique()
    nan = float("nan")
    nothing = (None, nan, nan, nan, nan, nan, n, nan)
    if not above.any():
        return Verdict(
            arm,
            seed,
            "not supported",
            *nothing,
            "u has the direction of v no more than the controls, in any layer",
        )
    if clusters < FEWEST:
        why = f"{n} {group} answers of {clusters} clusters are too few to say what removing v does"
        return Verdict(arm, seed, "open", *nothing, why)
    beyond, low, high, repaired = _beyond(flips)
    best = int(beyond.idxmax())
    there = (best, float(real.get(best, np.nan)), repaired[best], beyond[best], low[best], high[best], n, nan)
    layers = [layer for layer in above.index[above] if layer in beyond.index]
    if any(low[layer] > 0 for layer in layers):
        best = max(layers, key=lambda layer: low[layer])
        there = (best, float(real[best]), repaired[best], beyond[best], low[best], high[best], n, nan)
        return Verdict(
            arm,
            seed,
            "supported",
            *there,
            "u has v's direction, and removing v repairs more than the controls do",
        )
    if all(high[layer] < MARGIN for layer in layers):
        why = "u has v's direction, but removing v repairs no more than the controls do"
        return Verdict(arm, seed, "not supported", *there, why)
    return Verdict(arm, seed, "open", *there, "the intervals allow both")


def _above_controls(cosines: pd.DataFrame) -> pd.Series:
    """Map layer → whether u's cosine lies above where 95 % of each control's lie."""
    real = cosines[cosines["control"] == "none"].set_index("layer")
    highest = cosines[cosines["control"] != "none"].groupby("layer")["high"].max()
    return real["low"] > highest.reindex(real.index)


def _beyond(flips: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series, pd.Series]:
    """Map layer → answers that are back beyond the better control, its simultaneous ends, and answers that are back."""
    of, names = pd.factorize(flips["cluster"])
    n = len(names)
    cells = flips.assign(cluster_number=of).pivot_table(
        index="cluster_number", columns=["layer", "control"], values="answer", aggfunc="sum"
    )
    counts = flips[flips["control"] == "none"].assign(
        cluster_number=pd.factorize(flips["cluster"])[0][flips["control"] == "none"]
    )
    sizes = counts.groupby("cluster_number")["example_id"].nunique().reindex(range(n)).to_numpy(float)
    weights = np.concatenate([np.ones((1, n)), bootstrap_weights(n, RESAMPLES)])
    layers = sorted(flips["layer"].unique())
    shares = {
        (layer, control): (weights @ cells[layer, control].reindex(range(n)).fillna(0.0).to_numpy(float))
        / (weights @ sizes)
        for layer in layers
        for control in flips["control"].unique()
    }
    others = [control for control in flips["control"].unique() if control != "none"]
    apart = np.stack(
        [
            np.stack([shares[layer, "none"] - shares[layer, control] for control in others]).min(0)
            for layer in layers
        ]
    )
    reach = np.quantile(np.abs(apart[:, 1:] - apart[:, :1]).max(0), 0.95) * np.sqrt(n / (n - 1))
    # Where nothing happens in any layer no draw differs, and yet so few clusters cannot say that nothing ever does.
    reach = max(float(reach), clopper_pearson(0, n)[1])
    middle = pd.Series(apart[:, 0], index=layers)
    repaired = pd.Series([shares[layer, "none"][0] for layer in layers], index=layers)
    return middle, middle - reach, middle + reach, repaired


def _over_seeds(rows: pd.DataFrame, place: list[str], then: str) -> pd.DataFrame:
    middle = {"before": ("before", "mean")} if "before" in rows else {}
    table = rows.groupby(place, sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        seeds=("estimate", "count"),
        n_examples=("n_examples", "min"),
        n_most=("n_examples", "max"),
        **middle,
    )
    return by_arm(table, then)
