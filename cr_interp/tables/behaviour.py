"""What the context does to the answers: accuracy in both views, Harm, Rescue, length, and their intervals.

Mental model: a row of ``generations`` is one answer. The two answers to the same example and sample, one
without the context and one with it, form a **pair**, and every metric is a ratio of two counts of pairs:

    acc_x         right without c                / pairs
    acc_xc        right with c                   / pairs
    both_correct  right in both                  / pairs           = acc_x · (1 − harm)
    harm          right without c, wrong with c  / right without c
    rescue        wrong without c, right with c  / wrong without c
    delta_len     mean length with c / mean length without c − 1

"Wrong" is everything that is not ``right``: see :func:`outcome_shares` for what kind of wrong. So a table
shrinks to six sums for each example (:data:`_SUMS`), and a bootstrap replicate is weights times sums: over
examples within a seed; over seeds, then examples, for the value over seeds, which is the ratio of the sums
over all seeds (a seed with more right answers counts for more in Harm). Comparisons between arms use the same
draws for both, so they are paired.

An answer without its partner is left out. A metric with an empty denominator is NaN with n = 0. Everything
here is a function from a table to a table and needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.errors import UserError, unknown
from cr_interp.statistics import bootstrap_weights, hierarchical_weights, interval
from cr_interp.study.rows import last_step
from cr_interp.vocabulary import CONTROLS, METRICS, OUTCOMES

#: Per example, summed over its samples: all that the metrics need.
_SUMS = ("pairs", "right_x", "right_xc", "both", "tokens_x", "tokens_xc")

_COLUMNS = ("arm", "seed", "metric", "estimate", "low", "high", "n")


def metrics(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    crossed: bool = True,
) -> pd.DataFrame:
    """The six metrics of every arm and seed, and over seeds (``seed`` is NA), with 95 % intervals.

    Columns ``arm, seed, metric, estimate, low, high, n``; n is the metric's denominator in pairs. Of several
    steps of an (arm, seed) the last counts. ``crossed``: see :func:`~cr_interp.statistics.hierarchical_weights`.
    """
    rows = []
    for arm, sums in _sums_by_arm(generations, control, split).items():
        rows += _rows(arm, tuple(METRICS), [sums], resamples, seed, crossed)
    return _table(rows, _COLUMNS)


def metrics_by_step(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 1000,
    seed: int = 0,
    split: str | None = "test",
    crossed: bool = True,
) -> pd.DataFrame:
    """:func:`metrics` of each step apart, with ``step`` in front: when a metric changed, if checkpoints of several steps
    were evaluated. Rows without a step are left out."""
    if split is not None:
        generations = generations[generations["split"] == split]
    parts = [
        metrics(rows, control, resamples, seed, None, crossed).assign(step=int(step))
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
    crossed: bool = True,
) -> pd.DataFrame:
    """``arm`` minus ``baseline`` for every metric, paired over examples and seeds.

    Seed s of the arm meets seed s of the baseline; a baseline with one seed (``base``) meets every seed. Only
    pairs that both arms have count. Columns ``metric, seed, estimate, low, high, n``; n is the smaller of
    the two denominators.
    """
    by_arm = _sums_by_arm(generations, control, split)
    first, second = _aligned([_get(by_arm, arm), _get(by_arm, baseline)], [arm, baseline])
    rows = _rows(arm, tuple(METRICS), [first, second], resamples, seed, crossed)
    return _table(rows, ("metric", "seed", "estimate", "low", "high", "n"))


def harm_on_common(
    generations: pd.DataFrame,
    arms: Sequence[str] | None = None,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    crossed: bool = True,
) -> pd.DataFrame:
    """Harm on the prompts that every one of ``arms`` solves without the context at the same seed.

    Harm conditions on being right without the context, so each arm has its own denominator; here it is the
    same for all. ``arms=None`` means all but ``base``, which solves too little without the context to be asked.
    Columns as in :func:`metrics`, with ``metric = harm_common``.
    """
    pairs = _pairs(generations, control, split)
    present = sorted(pairs["arm"].unique())
    names = [name for name in present if name != "base"] if arms is None else list(dict.fromkeys(arms))
    for name in names:
        if name not in present:
            raise unknown("arm", name, present)
    if not names:
        return _table([], _COLUMNS)
    # "Every arm solves it" is asked of each sample; the bootstrap then draws whole examples, as everywhere.
    pairs = pairs.assign(unit=pairs.groupby(["example_id", "sample"]).ngroup())
    example_of = pairs.drop_duplicates("unit").set_index("unit")["example_id"]
    aligned = _aligned([_sums(pairs[pairs["arm"] == name], "unit") for name in names], names)
    common = np.prod([one["right_x"] for one in aligned], axis=0)
    rows = []
    for name, one in zip(names, aligned, strict=True):
        only = _Sums(one.seeds, one.examples, one.values * common[:, :, None])
        only = only.grouped([example_of[unit] for unit in only.examples])
        rows += _rows(name, ("harm_common",), [only], resamples, seed, crossed)
    return _table(rows, _COLUMNS)


def regimes(
    generations: pd.DataFrame,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    crossed: bool = True,
) -> pd.DataFrame:
    """Per arm, acc_xc − acc_x over seeds and what it means: columns ``arm, estimate, low, high, regime``.

    **A** the context perturbs (the interval lies below 0), **B** it still helps (above 0), **C** the views
    agree (the interval touches 0); NA without pairs.
    """
    rows = []
    for arm, sums in _sums_by_arm(generations, control, split).items():
        row = _rows(arm, ("acc_change",), [sums], resamples, seed, crossed)[-1]
        rows.append({**row, "regime": _regime(row["low"], row["high"])})
    return _table(rows, ("arm", "estimate", "low", "high", "regime"))


def outcome_shares(generations: pd.DataFrame, split: str | None = "test") -> pd.DataFrame:
    """How the answers of each arm, seed, view and control divide into the four outcomes.

    Columns ``arm, seed, view, control, outcome, share, n``; every outcome has a row, n is all answers of the
    group, paired or not.
    """
    keys = ["arm", "seed", "view", "control"]
    answers = _select(generations, split)
    if answers.empty:
        return pd.DataFrame(columns=[*keys, "outcome", "share", "n"])
    count = answers.groupby([*keys, "outcome"]).size().unstack("outcome", fill_value=0)
    count = count.reindex(columns=pd.Index(OUTCOMES, name="outcome"), fill_value=0)
    n = count.sum(axis=1)
    shares = count.div(n, axis=0).stack().rename("share").reset_index()
    shares["n"] = np.repeat(n.to_numpy(), len(OUTCOMES))
    return shares.astype({"seed": "Int64"})


def metrics_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of :func:`metrics` as plain dicts; ``None`` where a seed or a number is missing."""
    return [
        {
            "arm": str(row.arm),
            "seed": None if pd.isna(row.seed) else int(row.seed),
            "metric": str(row.metric),
            "estimate": _number(row.estimate),
            "low": _number(row.low),
            "high": _number(row.high),
            "n": int(row.n),
        }
        for row in table.itertuples(index=False)
    ]


# -- from answers to sums ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sums:
    """One arm: ``values[s, e]`` are the six sums of example e under seed s, zero where it was not asked."""

    seeds: list[int]
    examples: list[Any]
    values: Float[ndarray, "seeds examples sums"]

    def __getitem__(self, name: str) -> Float[ndarray, "seeds examples"]:
        return self.values[:, :, _SUMS.index(name)]

    def at(self, seeds: list[int], examples: list[Any]) -> "_Sums":
        """The same arm with these seeds and examples only, in this order."""
        row = [self.seeds.index(seed) for seed in seeds]
        position = {example: index for index, example in enumerate(self.examples)}
        column = [position[example] for example in examples]
        return _Sums(seeds, examples, self.values[row][:, column])

    def grouped(self, to: list[Any]) -> "_Sums":
        """Add up columns that belong to the same example: ``to[e]`` is the new name of column e."""
        where, names = pd.factorize(np.asarray(to, dtype=object), sort=True)
        values = np.zeros((len(names), len(self.seeds), len(_SUMS)))
        np.add.at(values, where, self.values.swapaxes(0, 1))
        return _Sums(self.seeds, list(names), values.swapaxes(0, 1))


def _select(generations: pd.DataFrame, split: str | None) -> pd.DataFrame:
    """The answers of one split, at the last step of every (arm, seed)."""
    if generations.empty:
        return generations
    if generations["seed"].isna().any():
        raise UserError(
            "The table 'generations' has rows without a seed; every answer belongs to one (use 0 for an arm "
            "that is not trained). Make the table again."
        )
    unknown_outcomes = generations.loc[~generations["outcome"].isin(OUTCOMES), "outcome"]
    if len(unknown_outcomes):
        raise UserError(
            f"The table 'generations' has {len(unknown_outcomes)} answers whose outcome is none of {', '.join(OUTCOMES)} (the "
            f"first: {unknown_outcomes.iloc[0]!r}). Whether they are right is not known, so no share is. Evaluate again."
        )
    if split is not None:
        found = generations["split"].unique()
        if split not in found:
            raise unknown("split", split, map(str, found))
        generations = generations[generations["split"] == split]
    return last_step(generations)


def _pairs(generations: pd.DataFrame, control: str, split: str | None) -> pd.DataFrame:
    """A row per pair: arm, seed, split, example_id, sample and the six sums of that one pair."""
    valid = set(CONTROLS) | set(generations["control"].unique()) - {"none"}
    if control not in valid:
        raise unknown("control", control, map(str, valid))
    answers = _select(generations, split)
    keys = ["arm", "seed", "split", "example_id", "sample"]
    answers = answers.assign(right=(answers["outcome"] == "right").astype(float))
    x = answers.loc[answers["view"] == "no_context", [*keys, "right", "n_tokens"]]
    xc = answers.loc[
        (answers["view"] == "with_context") & (answers["control"] == control), [*keys, "right", "n_tokens"]
    ]
    for side in (x, xc):
        twice = side.duplicated(keys)
        if twice.any():
            where = ", ".join(f"{key} {value}" for key, value in side.loc[twice, keys].iloc[0].items())
            raise UserError(
                f"The table 'generations' has {int(twice.sum())} answers twice (the first: {where}). A pair "
                f"has one answer in each view; evaluate again, or number the answers in the column 'sample'."
            )
    pairs = x.merge(xc, on=keys, suffixes=("_x", "_xc"))
    pairs = pairs.rename(columns={"n_tokens_x": "tokens_x", "n_tokens_xc": "tokens_xc"})
    return pairs.assign(pairs=1.0, both=pairs["right_x"] * pairs["right_xc"])


def _sums(pairs: pd.DataFrame, unit: str = "example_id") -> _Sums:
    """Sum the pairs of one arm into a dense block of seeds × units; sorted, so that row order cannot matter."""
    row, seeds = pd.factorize(pairs["seed"], sort=True)
    column, units = pd.factorize(pairs[unit], sort=True)
    values = np.zeros((len(seeds), len(units), len(_SUMS)))
    np.add.at(values, (row, column), pairs[list(_SUMS)].to_numpy(dtype=float))
    return _Sums([int(seed) for seed in seeds], list(units), values)


def _sums_by_arm(generations: pd.DataFrame, control: str, split: str | None) -> dict[str, _Sums]:
    """Every arm of the table, those without pairs for this control included (so that they show as NaN)."""
    pairs = _pairs(generations, control, split)
    asked = _select(generations, split)
    by_arm = {}
    for arm in sorted(asked["arm"].unique()):
        sums = _sums(pairs[pairs["arm"] == arm])
        seeds = sorted({int(seed) for seed in asked.loc[asked["arm"] == arm, "seed"]})
        values = np.zeros((len(seeds), len(sums.examples), len(_SUMS)))
        values[[seeds.index(seed) for seed in sums.seeds]] = sums.values
        by_arm[str(arm)] = _Sums(seeds, sums.examples, values)
    return by_arm


def _get(by_arm: dict[str, _Sums], arm: str) -> _Sums:
    if arm not in by_arm:
        raise unknown("arm", arm, by_arm)
    return by_arm[arm]


def _aligned(arms: list[_Sums], names: list[str]) -> list[_Sums]:
    """The arms on the seeds and examples they share; an arm with one seed is paired with every seed.

    An example that one arm was not asked under some seed is set to zero there for all of them.
    """
    several = [set(one.seeds) for one in arms if len(one.seeds) > 1]
    shared = set.intersection(*several) if several else set(arms[0].seeds)
    examples = sorted(set.intersection(*(set(one.examples) for one in arms)))
    if not shared:
        having = "; ".join(f"{name}: {one.seeds}" for name, one in zip(names, arms, strict=True))
        raise UserError(
            f"These arms have no seed in common ({having}), so they cannot be paired. Train more seeds."
        )
    seeds = sorted(shared)
    arms = [
        _Sums(seeds, examples, one.at(one.seeds * len(seeds) if len(one.seeds) == 1 else seeds, examples).values)
        for one in arms
    ]
    everywhere = np.prod([one["pairs"] > 0 for one in arms], axis=0)
    return [_Sums(seeds, examples, one.values * everywhere[:, :, None]) for one in arms]


# -- from sums to rows ---------------------------------------------------------------------------------------


def _ratios(sums: Float[ndarray, "*any sums"], names: Sequence[str]) -> tuple[ndarray, ndarray]:
    """``(values, n)``, each [*any, metrics], from the six sums in the last axis."""
    pairs, x, xc, both, tokens_x, tokens_xc = np.moveaxis(sums, -1, 0)
    # name → numerator, denominator, n where it is not the denominator itself
    formulas: dict[str, tuple[ndarray, ndarray, ndarray]] = {
        "acc_x": (x, pairs, pairs),
        "acc_xc": (xc, pairs, pairs),
        "both_correct": (both, pairs, pairs),
        "harm": (x - both, x, x),
        "rescue": (xc - both, pairs - x, pairs - x),
        "delta_len": (tokens_xc - tokens_x, tokens_x, pairs),
        "harm_common": (x - both, x, x),
        "acc_change": (xc - x, pairs, pairs),
    }
    numerator, denominator, n = (
        np.stack(part, axis=-1) for part in zip(*(formulas[each] for each in names), strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(denominator > 0, numerator / denominator, np.nan)
    return values, np.where(denominator > 0, n, 0)


def _rows(
    arm: str, names: Sequence[str], sides: list[_Sums], resamples: int, seed: int, crossed: bool
) -> list[dict[str, Any]]:
    """Rows of one arm (one side) or of a difference (first side minus second), the last ones over seeds."""
    seeds, examples = sides[0].seeds, len(sides[0].examples)

    def rows(
        of_seed: Any, blocks: list[Float[ndarray, "examples sums"]], weights: ndarray
    ) -> list[dict[str, Any]]:
        points = [_ratios(block.sum(axis=0), names) for block in blocks]
        draws = [_ratios(weights @ block, names)[0] for block in blocks]
        estimate = points[0][0] - points[1][0] if len(blocks) == 2 else points[0][0]
        low, high = interval(draws[0] - draws[1] if len(blocks) == 2 else draws[0])
        low, high = (np.where(np.isnan(estimate), np.nan, end) for end in (low, high))
        n = np.min([point[1] for point in points], axis=0)
        return [
            {"arm": arm, "seed": of_seed, "metric": name, "estimate": e, "low": a, "high": b, "n": int(k)}
            for name, e, a, b, k in zip(names, estimate, low, high, n, strict=True)
        ]

    weights = bootstrap_weights(examples, resamples, seed)
    found = []
    for index, of_seed in enumerate(seeds):
        found += rows(of_seed, [side.values[index] for side in sides], weights)
    if len(seeds) > 1:
        weights = hierarchical_weights(len(seeds), examples, resamples, seed, crossed)
        weights = weights.reshape(resamples, len(seeds) * examples)
    return found + rows(pd.NA, [side.values.reshape(-1, len(_SUMS)) for side in sides], weights)


def _regime(low: float, high: float) -> Any:
    if np.isnan(low) or np.isnan(high):
        return pd.NA
    return "A" if high < 0 else "B" if low > 0 else "C"


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    types = {"seed": "Int64", "n": "int64", "estimate": float, "low": float, "high": float}
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: kind for name, kind in types.items() if name in columns})


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
