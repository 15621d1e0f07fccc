"""What a comparison of two arms says, as a word and a sentence: made from paired differences and their intervals.

"No loss" never means "equal", nor an interval that touches 0: it means that the whole interval of the difference lies above
−2 points, and the sentence says so. Pure functions of tables.
"""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from cr_interp.statistics import MARGIN, not_lower
from cr_interp.system.percent import percent
from cr_interp.vocabulary import JUDGED, METRICS

Verdict = Literal["yes", "partly", "no", "open"]

COMMON = "Harm on the prompts that both solve without the context"


@dataclass(frozen=True)
class Headline:
    """Did the arm reduce Harm without losing accuracy? A word, a sentence, and a line for each metric."""

    verdict: Verdict
    sentence: str
    numbers: tuple[str, ...]


def headline(metrics: pd.DataFrame, differences: pd.DataFrame, arm: str, baseline: str) -> Headline:
    """Judge by ``metrics`` of both arms and ``differences`` arm − baseline, as ``cr_interp.tables.behaviour`` makes them.

    By the *across* intervals where there are several seeds; else by the *within* ones, and the sentence says "one seed".
    """
    change = {row.metric: row for row in differences[differences["seed"].isna()].itertuples()}
    harm = change.get("harm")
    if harm is None or pd.isna(harm.estimate):
        return Headline(
            "open", f"Harm of {arm} and {baseline} cannot be compared.", ("One of them has no right answers.",)
        )
    accuracies = [name for name in ("acc_x", "acc_xc") if name in change]
    lost = [METRICS[name].short for name in accuracies if change[name].high < 0]
    unknown = [METRICS[name].short for name in accuracies if not not_lower(change[name].low)]
    margin = f"{100 * MARGIN:g} points"
    verdict: Verdict
    if harm.high < 0 and not lost and not unknown:
        verdict, sentence = (
            "yes",
            f"{arm} has less Harm than {baseline}, and no accuracy is lost (by {margin} or more).",
        )
    elif harm.high < 0 and lost:
        verdict, sentence = "partly", f"{arm} has less Harm than {baseline}, but lower {' and '.join(lost)}."
    elif harm.high < 0:
        sentence = (
            f"{arm} has less Harm than {baseline}; whether {' and '.join(unknown)} is lost by {margin} is open."
        )
        verdict = "partly"
    elif harm.low > 0:
        verdict, sentence = "no", f"{arm} has more Harm than {baseline}."
    else:
        verdict = "open"
        sentence = f"It is open whether {arm} has less Harm than {baseline}: the interval contains zero."
        if lost:
            sentence += f" {arm} has lower {' and '.join(lost)}."
    if getattr(harm, "interval", "across") == "within":
        sentence += " This is one seed: the intervals are about other examples, and other seeds are not known."
    parts = []
    for name in JUDGED:
        if name in change:
            before, after = (value(metrics, each, name) for each in (baseline, arm))
            row = change[name]
            called, from_to = COMMON, ""
            if name in METRICS:
                called = METRICS[name].short
                from_to = f"{percent(before, unit=' %')} → {percent(after, unit=' %')}, "
            parts.append(
                f"{called}: {from_to}difference {percent(row.estimate, sign=True, unit=' points')} "
                f"[{percent(row.low, sign=True)}, {percent(row.high, sign=True)}]{_p_values(row)}"
            )
    return Headline(verdict, sentence, tuple(parts))


def _p_values(row: Any) -> str:
    """Write ``, p 0.011 (t), 0.250 (sign flips)``; nothing with one seed."""
    p, flips = getattr(row, "p", None), getattr(row, "p_sign_flip", None)
    return "" if pd.isna(p) or pd.isna(flips) else f", p {p:.3f} (t), {flips:.3f} (sign flips)"


def value(metrics: pd.DataFrame, arm: str, metric: str) -> float:
    """Estimate over seeds; NaN if the table has none."""
    rows = metrics[(metrics["arm"] == arm) & (metrics["metric"] == metric) & metrics["seed"].isna()]
    return float(rows["estimate"].iloc[0]) if len(rows) else float("nan")


def change(differences: pd.DataFrame, metric: str) -> float:
    """Return difference over seeds; NaN if the table has none."""
    rows = differences[(differences["metric"] == metric) & differences["seed"].isna()]
    return float(rows["estimate"].iloc[0]) if len(rows) else float("nan")
