"""In how many settings a claim holds: what may be counted, and when it counts.

Mental model: a setting is counted by its interval, never by the sign of its estimate, since one flip in 768 answers has a sign
too. A claim about *other seeds* is asked of the settings that have several; one flip or none, the settings in which the two
arms are the same within a margin are counted as such, and what is neither is open. Twelve settings are twelve tests, so beside
each count by single intervals stands the one after Holm's adjustment for all of them.
"""

from dataclasses import dataclass

import pandas as pd

from cr_interp.statistics import MARGIN, not_lower, same
from cr_interp.tables.estimates import Kind

#: What arms are compared by.
COMPARED = ("harm", "harm_common", "acc_x", "acc_xc", "both_correct", "delta_len")
#: Lengths that differ by no more than this count as equal; the paper's own threshold.
SAME_LENGTH = 0.03
#: So many settings are named where they are counted.
FEW = 3
#: Of a p that has been adjusted for several tests.
ALPHA = 0.05


def count_claims(
    compared: pd.DataFrame, arm: str = "nca", baseline: str = "opd", interval: Kind = "across"
) -> pd.DataFrame:
    """Turn :func:`~cr_interp.tables.suite.comparisons` into ``claim, k, of, settings``: the claim holds in k of so many
    settings.

    ``settings`` is the tuple of those k. ``of`` leaves out where the claim has no answer: Harm is undefined where an arm is
    never right without the context, a floor where decoding is sampled once, and an *across* interval or a p where there is
    one seed. ``interval`` is the kind that ``compared`` was made with; with *within* no p is counted.
    """
    asked = compared[(compared["interval"] == interval) & compared["low"].notna()]
    by_metric = {
        name: asked[asked["metric"] == name].set_index("setting").astype({"excludes_zero": bool})
        for name in COMPARED
    }
    harm, common, acc_x, acc_xc = (by_metric[name] for name in ("harm", "harm_common", "acc_x", "acc_xc"))
    of_baseline = compared[(compared["metric"] == "harm") & (compared["baseline_interval"] == interval)]
    above = of_baseline.set_index("setting").dropna(subset=["baseline_low", "baseline_floor"])
    is_above = above["baseline_low"] > above["baseline_floor"]
    among = harm[harm.index.isin(above.index[is_above])]
    lengths = compared[compared["metric"] == "delta_len"].set_index("setting")["arm_estimate"].dropna()
    beyond, points = f"{interval} interval excludes 0", f"{100 * MARGIN:g} points"
    claims = [
        (f"harm lower under {arm}, {beyond}", _lower(harm)),
        (f"harm lower under {arm}, after Holm", _lower(harm) & _holm(harm)),
        (f"harm the same under {arm} and {baseline} within {points}", _same(harm)),
        (f"harm higher under {arm}, {beyond}", _higher(harm)),
        (f"harm higher under {arm}, after Holm", _higher(harm) & _holm(harm)),
        ("harm open: none of these", ~(_lower(harm) | _higher(harm) | _same(harm))),
        (f"harm on common prompts lower under {arm}, {beyond}", _lower(common)),
        (f"harm on common prompts higher under {arm}, {beyond}", _higher(common)),
        (f"harm of {baseline} above its floor, {interval} interval excludes the floor", is_above),
        (f"among these, harm lower under {arm}, {beyond}", _lower(among)),
        (f"acc_x not lower under {arm} by {points}", acc_x["low"].map(not_lower).astype(bool)),
        (f"acc_x lower under {arm}, {beyond}", _lower(acc_x)),
        (f"acc_xc higher under {arm}, {beyond}", _higher(acc_xc)),
        (f"acc_xc lower under {arm}, {beyond}", _lower(acc_xc)),
        (f"|delta_len| at most {100 * SAME_LENGTH:g} % under {arm}", lengths.abs() <= SAME_LENGTH + 1e-12),
    ]
    rows = []
    for claim, holds in claims:
        if "Holm" in claim and interval == "within":
            continue
        settings = tuple(str(name) for name in holds.index[holds.astype(bool)])
        rows.append({"claim": claim, "k": len(settings), "of": len(holds), "settings": settings})
    return pd.DataFrame(rows, columns=["claim", "k", "of", "settings"])


@dataclass(frozen=True)
class Fair:
    """The outcomes of ``arm`` where ``baseline`` is harmed, and where it is not; each a tuple of settings.

    ``repaired``, ``left_open`` and ``worsened`` are the harmed ones apart, so they add up to ``harmed``.
    """

    asked: tuple[str, ...]
    harmed: tuple[str, ...]
    repaired: tuple[str, ...]
    left_open: tuple[str, ...]
    worsened: tuple[str, ...]
    newly_harmed: tuple[str, ...]
    """Where the baseline is not shown to be harmed, and the arm has more Harm than it."""
    kinds: frozenset[str]
    """Of which kinds the intervals are that this was read from."""


def count_fairly(compared: pd.DataFrame) -> Fair:
    """Count, from :func:`~cr_interp.tables.suite.comparisons`, what there was to repair, and what became of it.

    Harmed: the interval of the baseline's Harm lies above its floor. Repaired: the interval of the paired difference lies
    below 0; worsened: above 0; what is neither is open. Settings whose Harm is undefined are not asked.
    """
    harm = (
        compared[compared["metric"] == "harm"].dropna(subset=["low", "high", "baseline_low"]).set_index("setting")
    )
    floor = harm["baseline_floor"].astype(float).fillna(0.0)
    is_harmed = harm["baseline_low"].astype(float) > floor
    lower, higher = harm["high"] < 0, harm["low"] > 0

    def named(which: pd.Series) -> tuple[str, ...]:
        return tuple(str(name) for name in harm.index[which.astype(bool)])

    return Fair(
        named(is_harmed | ~is_harmed),
        named(is_harmed),
        named(is_harmed & lower),
        named(is_harmed & ~lower & ~higher),
        named(is_harmed & higher),
        named(~is_harmed & higher),
        frozenset(map(str, harm["interval"].dropna())),
    )


def said_fairly(fair: Fair, arm: str, baseline: str) -> str:
    """Say the counts in a sentence.

    >>> said_fairly(Fair(("a", "b", "c"), ("a", "b"), ("a",), ("b",), (), (), frozenset({"across"})), "nca", "opd")
    'opd is harmed in 2 of 3 settings; nca repairs 1, leaves 1 open and worsens 0. In the others it adds Harm in 0.'
    """
    others = len(fair.asked) - len(fair.harmed)
    rest = f" In the others it adds Harm in {len(fair.newly_harmed)}." if others else ""
    settings = "setting" if len(fair.asked) == 1 else "settings"
    if not fair.harmed:
        return f"{baseline} is not shown to be harmed in any of {len(fair.asked)} {settings}: there is nothing to repair.{rest}"
    return (
        f"{baseline} is harmed in {len(fair.harmed)} of {len(fair.asked)} {settings}; {arm} repairs {len(fair.repaired)}, "
        f"leaves {len(fair.left_open)} open and worsens {len(fair.worsened)}.{rest}"
    )


def said_price(compared: pd.DataFrame) -> str:
    """Tell what the arm pays in accuracy, in how many settings: lower by the interval, not lower by the margin, or open."""
    said = []
    for metric, name in (("acc_x", "Acc_x"), ("acc_xc", "Acc_xc")):
        rows = compared[compared["metric"] == metric].dropna(subset=["low", "high"])
        lower, kept = rows["high"] < 0, rows["low"].map(not_lower).astype(bool)
        if len(rows):
            said.append(
                f"{name} is lower in {int(lower.sum())} of {len(rows)}{_named(rows.loc[lower, 'setting'])}, "
                f"not lower by {100 * MARGIN:g} points in "
                f"{int((kept & ~lower).sum())}, and open in {int((~kept & ~lower).sum())}."
            )
    return " ".join(said) or "No accuracy can be compared."


def _named(settings: pd.Series) -> str:
    """Name them, if they are few."""
    return f" ({', '.join(map(str, settings))})" if 0 < len(settings) <= FEW else ""


def _lower(rows: pd.DataFrame) -> pd.Series:
    return (rows["estimate"] < 0) & rows["excludes_zero"]


def _higher(rows: pd.DataFrame) -> pd.Series:
    return (rows["estimate"] > 0) & rows["excludes_zero"]


def _holm(rows: pd.DataFrame) -> pd.Series:
    return rows["p_holm"].astype(float) < ALPHA


def _same(rows: pd.DataFrame) -> pd.Series:
    found = [same(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)]
    return pd.Series(found, index=rows.index, dtype=bool) & ~(_lower(rows) | _higher(rows))
