"""What the context does to the answers: accuracy in both views, Harm, Rescue, length, and their intervals.

Mental model: a row of ``generations`` is one answer. The two answers to the same example and sample, one
without the context and one with it, form a **pair**, and every metric is a ratio of two counts of pairs:

    acc_x         right without c                / pairs
    acc_xc        right with c                   / pairs
    both_correct  right in both                  / pairs           = acc_x · (1 − harm)
    harm          right without c, wrong with c  / right without c
    rescue        wrong without c, right with c  / wrong without c
    delta_len     mean length with c / mean length without c − 1
    changed       the two answers differ        / pairs           = 1 − agreement, where there are answers without a key

"Wrong" is everything that is not ``right``: see :func:`outcome_shares` for what kind of wrong. A table shrinks to
sums for each example (``answer_sums.py``), and every row says of which kind its interval is (``estimates.py``):

    within   these runs, other examples: bootstrap over clusters of examples; each seed's rows, and what has one seed
    across   other seeds: the mean of the seeds' values with Student's t; the rows over seeds (``seed`` is NA). With
             ``interval="within"`` they are the ratio of the sums of all seeds instead, with a bootstrap over clusters

Comparisons between arms use the same seeds, examples and draws for both, so they are paired. A metric with an empty
denominator is NaN with n = 0; where no answer at all has a key, the metrics that need one have no rows. Everything here is a
function from a table to a table and needs no torch.
"""

from __future__ import annotations  # shapes are for readers and type checkers: loading jaxtyping takes its time

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy import ndarray

from cr_interp.errors import unknown
from cr_interp.statistics import same
from cr_interp.tables.answer_sums import (
    SUMS,
    Block,
    aligned,
    block,
    blocks_by_arm,
    pairs_of,
    select,
)
from cr_interp.tables.estimates import Kind, Sums, estimates
from cr_interp.tables.pairing import UNTRAINED
from cr_interp.vocabulary import AGREEMENT, CONTROLS, METRICS, OUTCOMES, UNGRADED, differing, of_answers

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "CONTROLS",
    "METRICS",
    "OUTCOMES",
    "UNTRAINED",
    "differences",
    "harm_on_common",
    "metrics",
    "metrics_by_step",
    "metrics_json",
    "outcome_shares",
    "regimes",
]

_COLUMNS = ("arm", "seed", "metric", "estimate", "low", "high", "n", "interval")
_DIFFERENCE = ("metric", "seed", "estimate", "low", "high", "n", "interval", "p", "p_sign_flip")


def metrics(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute the six metrics of every arm and seed, and over seeds (``seed`` is NA), with 95 % intervals.

    Columns ``arm, seed, metric, estimate, low, high, n, interval``; n is the metric's denominator in pairs, ``interval``
    the kind of the row's. Of several steps of an (arm, seed) the last counts.
    """
    rows = []
    names = answered_by(generations)
    for arm, sums in blocks_by_arm(generations, control, split).items():
        rows += _rows(arm, names, [sums], resamples, seed, interval)
    return _table(rows, _COLUMNS)


def answered_by(generations: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics that these answers have: with a key those that need one, agreement only if some answers have none."""
    ungraded = generations["outcome"] == UNGRADED
    if not ungraded.any():
        return tuple(METRICS)
    if not ungraded.all():
        return (*METRICS, *AGREEMENT)
    return tuple(name for name, metric in of_answers().items() if not metric.keyed)


def metrics_by_step(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 1000,
    seed: int = 0,
    split: str | None = "test",
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute :func:`metrics` of each step apart, with ``step`` in front: when a metric changed, if checkpoints of several
    steps were evaluated. Rows without a step are left out.
    """
    if split is not None:
        generations = generations[generations["split"] == split]
    parts = [
        metrics(rows, control, resamples, seed, None, interval).assign(step=int(step))
        for step, rows in generations.groupby("step")
    ]
    table = pd.concat(parts, ignore_index=True) if parts else _table([], _COLUMNS).assign(step=0)
    return table[["step", *_COLUMNS]]


def differences(
    generations: pd.DataFrame,
    arm: str,
    baseline: str,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute ``arm`` minus ``baseline`` for every metric, paired over examples and seeds.

    Seed s of the arm meets seed s of the baseline; the untrained ``base`` meets every seed (``pairing.py``). Only
    pairs that both arms have count. ``harm_common`` is the difference in Harm on the pairs that both arms solve without the
    context at the same seed, since Harm's own denominators differ.

    Columns ``metric, seed, estimate, low, high, n, interval, p, p_sign_flip``; n is the smaller of the two denominators.
    Beside an *across* interval stand the two-sided p of the paired t and the exact one of flipped signs.
    """
    by_arm = blocks_by_arm(generations, control, split)
    for name in (arm, baseline):
        if name not in by_arm:
            raise unknown("arm", name, by_arm)
    sides = aligned([by_arm[arm], by_arm[baseline]], [arm, baseline])
    names = answered_by(generations)
    rows = _rows(arm, names, sides, resamples, seed, interval)
    if "harm" in names:
        common = _on_common(pairs_of(generations, control, split), [arm, baseline])
        rows += _rows(arm, ("harm_common",), common, resamples, seed, interval)
    table = _table(rows, _DIFFERENCE)
    order = table["seed"].astype(float).fillna(np.inf), table["metric"].map(differing().index)
    return table.iloc[np.lexsort(order[::-1])].reset_index(drop=True)


def harm_on_common(
    generations: pd.DataFrame,
    arms: Sequence[str] | None = None,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    interval: Kind = "across",
) -> pd.DataFrame:
    """Compute Harm on the prompts that every one of ``arms`` solves without the context at the same seed.

    Harm conditions on being right without the context, so each arm has its own denominator; here it is the
    same for all. ``arms=None`` means all but ``base``, which solves too little without the context to be asked.
    Columns as in :func:`metrics`, with ``metric = harm_common``.
    """
    pairs = pairs_of(generations, control, split)
    present = sorted(pairs["arm"].unique())
    names = [name for name in present if name != UNTRAINED] if arms is None else list(dict.fromkeys(arms))
    for name in names:
        if name not in present:
            raise unknown("arm", name, present)
    rows = []
    for name, one in zip(names, _on_common(pairs, names), strict=True):
        rows += _rows(name, ("harm_common",), [one], resamples, seed, interval)
    return _table(rows, _COLUMNS)


def regimes(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
) -> pd.DataFrame:
    """Return per arm, acc_xc − acc_x over seeds and what it means.

    Columns ``arm, estimate, low, high, interval, seeds, regime``. **A** the context perturbs (the *across* interval lies
    below 0), **B** it still helps (above 0), **C** the views agree (it lies within ±2 points: :data:`MARGIN` of
    ``statistics.py``); else ``open``. A trained arm with one seed is ``open`` too: other seeds are not known. The base model,
    which is not trained, is judged by its *within* interval. NA without pairs.
    """
    rows = []
    for arm, sums in blocks_by_arm(generations, control, split).items():
        row = _rows(arm, ("acc_change",), [sums], resamples, seed, "across")[-1]
        rows.append({**row, "seeds": len(sums.seeds), "regime": _regime(arm, row)})
    return _table(rows, ("arm", "estimate", "low", "high", "interval", "seeds", "regime"))


def outcome_shares(generations: pd.DataFrame, split: str | None = "test") -> pd.DataFrame:
    """Divide the answers of each arm, seed, view and control into the four outcomes.

    Columns ``arm, seed, view, control, outcome, share, n``; every outcome has a row, n is all answers of the
    group, paired or not.
    """
    keys = ["arm", "seed", "view", "control"]
    answers = select(generations, split)
    answers = answers[answers["outcome"] != UNGRADED] if len(answers) else answers
    if answers.empty:
        return pd.DataFrame(columns=[*keys, "outcome", "share", "n"]).astype({"share": float, "n": "int64"})
    count = answers.groupby([*keys, "outcome"]).size().unstack("outcome", fill_value=0)
    count = count.reindex(columns=pd.Index(OUTCOMES, name="outcome"), fill_value=0)
    n = count.sum(axis=1)
    shares = count.div(n, axis=0).stack().rename("share").reset_index()
    shares["n"] = np.repeat(n.to_numpy(), len(OUTCOMES))
    return shares.astype({"seed": "Int64"})


def metrics_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of :func:`metrics` as plain dicts; ``None`` where a seed or a number is missing."""
    return [
        {
            "arm": str(row.arm),
            "seed": None if pd.isna(row.seed) else int(row.seed),
            "metric": str(row.metric),
            "estimate": _number(row.estimate),
            "low": _number(row.low),
            "high": _number(row.high),
            "n": int(row.n),
            "interval": str(row.interval),
        }
        for row in table.itertuples(index=False)
    ]


# -- from sums to rows ---------------------------------------------------------------------------------------


def _on_common(pairs: pd.DataFrame, names: Sequence[str]) -> list[Block]:
    """Return these arms on the pairs that all of them solve without the context at the same seed."""
    if not names:
        return []
    # "Every arm solves it" is asked of each sample; the bootstrap then draws whole examples, as everywhere.
    pairs = pairs.assign(unit=pairs.groupby(["example_id", "sample"]).ngroup())
    example_of = pairs.drop_duplicates("unit").set_index("unit")["example_id"]
    blocks = [block(pairs[pairs["arm"] == name], "unit") for name in names]
    if not all(one.seeds for one in blocks):  # an arm without answers under this control: nothing is common
        seeds = max((one.seeds for one in blocks), key=len) or [0]
        return [Block(seeds, [], [], np.zeros((len(seeds), 0, len(SUMS)))) for _ in blocks]
    found = aligned(blocks, names)
    common = np.prod([one["right_x"] for one in found], axis=0)
    return [one.only(common).grouped([example_of[unit] for unit in one.examples]) for one in found]


def _counts(
    values: Float[ndarray, "*any sums"], names: Sequence[str]
) -> tuple[Float[ndarray, "*any metrics"], Float[ndarray, "*any metrics"], Float[ndarray, "*any metrics"]]:
    """Return numerators, denominators and n of these metrics from the sums in the last axis."""
    found = formulas(values)
    num, den, n = (np.stack(part, axis=-1) for part in zip(*(found[each] for each in names), strict=True))
    return num, den, np.where(den > 0, n, 0)


def formulas(values: Float[ndarray, "*any sums"]) -> dict[str, tuple[ndarray, ndarray, ndarray]]:
    """Map each metric to its numerator, its denominator, and its n where that is not the denominator itself."""
    pairs, x, xc, both, tokens_x, tokens_xc, graded, changed = np.moveaxis(values, -1, 0)
    return {
        "acc_x": (x, graded, graded),
        "acc_xc": (xc, graded, graded),
        "both_correct": (both, graded, graded),
        "harm": (x - both, x, x),
        "rescue": (xc - both, graded - x, graded - x),
        "delta_len": (tokens_xc - tokens_x, tokens_x, pairs),
        "harm_common": (x - both, x, x),
        "acc_change": (xc - x, graded, graded),
        "changed": (changed, pairs, pairs),
        "agreement": (pairs - changed, pairs, pairs),
    }


def _rows(
    arm: str, names: Sequence[str], sides: Sequence[Block], resamples: int, seed: int, kind: Kind
) -> list[dict[str, Any]]:
    """Return rows of one arm (one side) or of a difference (first side minus second), the last ones over seeds."""
    counted = [_counts(side.values, names) for side in sides]
    if names == ("acc_change",):  # a difference between an arm's own two views
        sides = [sides[0]] * 2
        counted = [_counts(sides[0].values, (name,)) for name in ("acc_xc", "acc_x")]
    sums = [Sums(num, den, sides[0].clusters) for num, den, _ in counted]
    shares = [name not in METRICS or METRICS[name].share for name in names]
    found = []
    for row in estimates(sums, shares, kind, resamples, seed):
        asked = [
            side.values.sum(axis=(0, 1)) if row.seed is None else side.values[row.seed].sum(axis=0)
            for side in sides
        ]
        n = np.min([_counts(each, names)[2] for each in asked], axis=0)
        of_seed = pd.NA if row.seed is None else sides[0].seeds[row.seed]
        found += [
            {
                "arm": arm,
                "seed": of_seed,
                "metric": name,
                "estimate": row.estimate[i],
                "low": row.low[i],
                "high": row.high[i],
                "n": int(n[i]),
                "interval": row.kinds[i],
                "p": row.p[i],
                "p_sign_flip": row.p_sign_flip[i],
            }
            for i, name in enumerate(names)
        ]
    return found


def _regime(arm: str, row: dict[str, Any]) -> Any:
    if np.isnan(row["estimate"]):
        return pd.NA
    if row["interval"] == "within" and arm != UNTRAINED:
        return "open"
    if row["high"] < 0 or row["low"] > 0:
        return "A" if row["high"] < 0 else "B"
    return "C" if same(row["low"], row["high"]) else "open"


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    types = {
        "seed": "Int64",
        "n": "int64",
        "seeds": "int64",
        "estimate": float,
        "low": float,
        "high": float,
        "p": float,
        "p_sign_flip": float,
    }
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: kind for name, kind in types.items() if name in columns})


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
