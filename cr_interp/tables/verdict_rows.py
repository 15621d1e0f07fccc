"""What a comparison of two arms costs and gains: a row per question, each a paired difference with its interval.

Mental model: whether an arm helps is more than its Harm. It may lose accuracy, stop listening to any context (then it no longer
obeys a new instruction), or be shaken by a context that means nothing. :func:`verdict_rows` sets these beside each other and
says of each how it reads: ``better`` or ``worse`` where the interval excludes 0, else ``open``; ``not measured`` where the study
has no such table. Each arm's value is that of ``cr-interp table``. :func:`chips` are the things that everything else stands on:
seeds, truncated answers, how few answers flip.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from cr_interp.statistics import MARGIN, not_lower
from cr_interp.tables import behaviour
from cr_interp.tables.answer_sums import select
from cr_interp.tables.divergence import divergence_differences, divergence_metrics
from cr_interp.tables.estimates import Kind
from cr_interp.tables.obedience import new_instruction, new_instruction_difference
from cr_interp.tables.pairing import is_untrained, meetings
from cr_interp.vocabulary import METRICS, UNGRADED

#: A share of truncated answers that a reader has to know of.
MANY_TRUNCATED = 0.05
#: Fewer flips than this, of both arms together, make Harm a matter of single answers.
FEW_FLIPS = 10


Word = Literal["yes", "no", "open"]


class Asked(NamedTuple):
    """A row: its words, in which unit, which end is better, and what it is called as a price inside a sentence."""

    words: str
    unit: str
    better: str
    price: str = ""


ROWS: dict[str, Asked] = {
    "changed": Asked("Answers that the context changes", "%", "less"),
    "harm": Asked("Harm", "%", "less"),
    "harm_common": Asked("Harm on common prompts", "%", "less"),
    "acc_x": Asked("Acc_x: right without the context", "%", "more", METRICS["acc_x"].short),
    "acc_xc": Asked("Acc_xc: right with the context", "%", "more", METRICS["acc_xc"].short),
    "fidelity": Asked("Fidelity: distance from the teacher", "nats", "less", "fidelity"),
    "invariance": Asked("Invariance: distance between the views", "nats", "less", "invariance"),
    "new_instruction": Asked("Obeys a new instruction", "%", "more", "obeying a new instruction"),
    "harm_irrelevant": Asked(
        "Harm behind an irrelevant context", "%", "less", "Harm behind an irrelevant context"
    ),
}
COLUMNS = (
    "metric",
    "words",
    "unit",
    "better",
    "baseline",
    "arm",
    "estimate",
    "low",
    "high",
    "n",
    "interval",
    "reading",
)


def verdict_rows(
    generations: pd.DataFrame,
    arm: str,
    baseline: str,
    control: str = "exact",
    split: str | None = "test",
    divergence: pd.DataFrame | None = None,
    interval: Kind = "across",
) -> pd.DataFrame:
    """Return a row per question of :data:`ROWS`, over seeds: both arms' values, ``arm`` − ``baseline`` with its interval, its
    reading.

    ``divergence`` is the study's table of fidelity and invariance, if it has one. Where the asked ``control`` is the irrelevant
    one already, its row is not said twice.
    """
    both = generations[generations["arm"].isin([arm, baseline])]
    found: dict[str, dict[str, Any]] = {}
    values = behaviour.metrics(both, control, split=split, interval=interval)
    change = behaviour.differences(both, arm, baseline, control, split=split, interval=interval)
    keyed = "harm" in set(change["metric"])
    for metric in ("harm", "acc_x", "acc_xc") if keyed else ("changed",):
        found[metric] = _row(values, change, metric, arm, baseline)
    if keyed:
        common = behaviour.harm_on_common(both, [arm, baseline], control, split=split, interval=interval)
        found["harm_common"] = _row(common, change, "harm_common", arm, baseline)
    obeys = new_instruction(both, split=split, interval=interval)
    if len(obeys):
        found["new_instruction"] = _row(
            obeys,
            new_instruction_difference(both, arm, baseline, split=split, interval=interval),
            "new_instruction",
            arm,
            baseline,
        )
    if keyed and control != "irrelevant" and (both["control"] == "irrelevant").any():
        values = behaviour.metrics(both, "irrelevant", split=split, interval=interval)
        change = behaviour.differences(both, arm, baseline, "irrelevant", split=split, interval=interval)
        found["harm_irrelevant"] = _row(values, change, "harm", arm, baseline)
    if divergence is not None and len(divergence):
        divergence = divergence[divergence["arm"].isin([arm, baseline])]
        # Fidelity is of the exact context, whichever is asked.
        for metric, under in (("fidelity", "exact"), ("invariance", control)):
            change = divergence_differences(divergence, arm, baseline, under, interval=interval)
            if (change["metric"] == metric).any():
                values = divergence_metrics(divergence, under, interval=interval)
                found[metric] = _row(values, change, metric, arm, baseline)
    rows = [
        {"metric": name, **asked._asdict(), **found.get(name, dict.fromkeys(COLUMNS[4:-1]))}
        for name, asked in ROWS.items()
        if (name != "harm_irrelevant" or control != "irrelevant") and _asked(name, keyed)
    ]
    table = pd.DataFrame(rows).astype({name: float for name in ("baseline", "arm", "estimate", "low", "high")})
    table["reading"] = [_reading(row, row.metric in found) for row in table.itertuples()]
    return table.reindex(columns=COLUMNS)


def _asked(name: str, keyed: bool) -> bool:
    """Tell whether a row belongs to a study: without an answer key answers are only the same or not, never right or wrong."""
    if name == "changed":
        return not keyed
    return keyed or not name.startswith(("harm", "acc"))


def is_keyless(rows: pd.DataFrame) -> bool:
    """Tell whether the study has no answer key."""
    return bool((rows["metric"] == "changed").any())


def keyless_verdict(rows: pd.DataFrame, arm: str, baseline: str) -> tuple[Word, str]:
    """Return a word (``yes``, ``no``, ``open``) and a sentence, where nothing says which answer is right."""
    row = rows[rows["metric"] == "changed"].iloc[0]
    words: dict[str, Word] = {"better": "yes", "worse": "no"}
    word = words.get(str(row["reading"]), "open")
    said = {
        "yes": f"{arm}'s answers change less often than {baseline}'s when the context returns.",
        "no": f"{arm}'s answers change more often than {baseline}'s when the context returns.",
        "open": f"It is open whether {arm}'s answers change less often than {baseline}'s: the interval contains zero.",
    }[word]
    return word, f"{said} No key says which answers are right, so this is not Harm."


def is_deafer(rows: pd.DataFrame) -> bool:
    """Tell whether the arm surely listens less to a new instruction."""
    return bool(((rows["metric"] == "new_instruction") & (rows["reading"] == "worse")).any())


def price(rows: pd.DataFrame, arm: str) -> str:
    """Say in words what ``arm`` pays: what is worse by its interval, and where an interval does not exclude a loss of the margin.

    ``rows`` is :func:`verdict_rows`'s, where the numbers stand. What Harm itself does is no price.
    """
    prices = {name: asked.price for name, asked in ROWS.items() if asked.price}
    paid = rows[rows["metric"].isin(list(prices)) & rows["low"].notna()]
    if paid.empty:
        return "Nothing else was measured that could have become worse."
    worse = [prices[name] for name in paid.loc[paid["reading"] == "worse", "metric"]]
    shares = paid[(paid["unit"] == "%") & (paid["reading"] != "worse")]
    lowest = shares["low"].where(shares["better"] == "more", -shares["high"])
    may = [prices[name] for name, low in zip(shares["metric"], lowest, strict=True) if not not_lower(low)]
    sure = [prices[name] for name in shares["metric"] if prices[name] not in may]
    margin = f"{100 * MARGIN:g} points"
    said = [f"{arm} is worse in {_listed(worse)}."] if worse else []
    if may:
        begun = "A loss" if worse else "No loss is shown, but one"
        said.append(f"{begun} of {margin} or more is not excluded in {_listed(may)}.")
    if sure:
        loss = "It is excluded" if may else f"No loss of {margin} or more"
        said.append(f"{loss} in {_listed(sure)}.")
    return " ".join(said) or "No loss is shown."


def common_open(rows: pd.DataFrame) -> bool:
    """Tell whether Harm differs surely and Harm on the prompts that both arms solve does not: their denominators may say it."""
    readings = rows.set_index("metric")["reading"]
    return readings.get("harm") in ("better", "worse") and readings.get("harm_common") == "open"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def chips(
    generations: pd.DataFrame, arm: str, baseline: str, control: str = "exact", split: str | None = "test"
) -> list[str]:
    """List what a reader has to know before the numbers: ``1 seed``, ``54 % truncated (opd, with …)``, ``3 flips in all``."""
    answers = select(generations[generations["arm"].isin([arm, baseline])], split)
    runs = [(name, sorted(answers.loc[answers["arm"] == name, "seed"].unique())) for name in (arm, baseline)]
    seeds = len(meetings(runs)[0]) if all(mine for _, mine in runs) else max(len(mine) for _, mine in runs)
    fewer = any(len(mine) > seeds and not is_untrained(name, mine) for name, mine in runs)
    said = [f"{seeds} seed{'s' * (seeds != 1)}{' in common' * fewer}"]
    asked = answers[(answers["view"] == "no_context") | (answers["control"] == control)]
    cut = (asked["outcome"] == "truncated").groupby([asked["arm"], asked["view"]]).mean()
    if len(cut) and cut.max() >= MANY_TRUNCATED:
        of, view = cut.idxmax()
        said.append(
            f"{100 * cut.max():.0f} % truncated ({of}, {'with' if view == 'with_context' else 'without'} the context)"
        )
    flips = _flips(asked, control)
    if flips < FEW_FLIPS and (asked["outcome"] != UNGRADED).any():
        said.append(f"{flips} flip{'s' * (flips != 1)} in all")
    return said


def _flips(asked: pd.DataFrame, control: str) -> int:
    """Count the answers of both arms that are right in one view only."""
    keys = ["arm", "seed", "example_id", "sample"]
    right = asked.assign(right=asked["outcome"] == "right")
    x = right[right["view"] == "no_context"][[*keys, "right"]]
    xc = right[(right["view"] == "with_context") & (right["control"] == control)][[*keys, "right"]]
    pairs = x.merge(xc, on=keys)
    return int((pairs["right_x"] != pairs["right_y"]).sum())


def _row(values: pd.DataFrame, change: pd.DataFrame, metric: str, arm: str, baseline: str) -> dict[str, Any]:
    over = values[values["seed"].isna() & (values["metric"] == metric)].set_index("arm")["estimate"]
    row = {"baseline": over.get(baseline, np.nan), "arm": over.get(arm, np.nan)}
    paired = change[change["seed"].isna() & (change["metric"] == metric)] if len(change) else change
    if len(paired):
        first = paired.iloc[0]
        row |= {name: first[name] for name in ("estimate", "low", "high", "n", "interval")}
    return row


def _reading(row: Any, measured: bool) -> str:
    if not measured:
        return "not measured"
    if pd.isna(row.estimate) or pd.isna(row.low):
        return "undefined"
    if row.low <= 0 <= row.high:
        return "open"
    return "better" if (row.estimate < 0) == (row.better == "less") else "worse"
