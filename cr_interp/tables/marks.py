"""How often a pattern stands in the answers of either view, and how long they are: does the context's return do its work twice?

Mental model: a context may ask for something that can be counted, a marker before the answer or an exclamation mark. A student
that has taken the context in says it without being told. Where it is told again it may say it once more, in longer answers: then
the number a response, and its length, with the context over without it are near 2. Where it adds nothing they are near 1.
Pairs, clusters and intervals are those of every metric (``behaviour.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import regex

from cr_interp.errors import UserError
from cr_interp.study.rows import last_step
from cr_interp.tables.answer_sums import with_clusters
from cr_interp.tables.estimates import Kind, Sums, estimates

#: Seconds that a pattern may take on a response.
SECONDS = 2.0
#: Numbers a response without and with the context, and the second over the first; of the pattern, and of tokens.
MARKS = ("marks_x", "marks_xc", "marks_times", "len_x", "len_xc", "len_times")


def marks(
    generations: pd.DataFrame,
    pattern: str,
    control: str = "exact",
    resamples: int = 2000,
    seed: int = 0,
    split: str | None = "test",
    interval: Kind = "across",
) -> pd.DataFrame:
    """Return rows ``arm, seed, metric, estimate, low, high, n, interval`` of :data:`MARKS`; ``seed`` is NA over seeds; n
    counts pairs.

    ``marks_times`` has no value where nothing is counted without the context. Raises :class:`UserError` for what is no
    pattern, and for one that takes more than seconds.
    """
    try:
        looked_for = regex.compile(pattern, regex.DOTALL)
    except (regex.error, OverflowError, RecursionError) as error:
        raise UserError(f"{pattern[:80]!r} is no regular expression ({error}).") from error
    answers = with_clusters(last_step(generations))
    if split is not None:
        answers = answers[answers["split"] == split]
    answers = answers[answers["control"].isin(["none", control])]
    answers = answers.assign(marks=[_count(looked_for, text) for text in answers["response"]])
    keys = ["arm", "seed", "example_id", "sample"]
    sides = [
        answers.loc[answers["view"] == view, [*keys, "cluster", "marks", "n_tokens"]]
        for view in ("no_context", "with_context")
    ]
    pairs = sides[0].merge(sides[1].drop(columns="cluster"), on=keys, suffixes=("_x", "_xc"))
    rows: list[dict[str, Any]] = []
    for arm, of_arm in pairs.groupby("arm", sort=True):
        rows += _rows(str(arm), of_arm, interval, resamples, seed)
    table = pd.DataFrame(rows, columns=["arm", "seed", "metric", "estimate", "low", "high", "n", "interval"])
    return table.astype({"seed": "Int64"})


def _rows(arm: str, pairs: pd.DataFrame, interval: Kind, resamples: int, seed: int) -> list[dict[str, Any]]:
    place, seeds = pd.factorize(pairs["seed"], sort=True)
    column, examples = pd.factorize(pairs["example_id"], sort=True)

    def summed(values: Any) -> np.ndarray:
        found = np.zeros((len(seeds), len(examples)))
        np.add.at(found, (place, column), np.asarray(values, dtype=float))
        return found

    n = summed(np.ones(len(pairs)))
    x, xc, tokens_x, tokens_xc = (
        summed(pairs[name]) for name in ("marks_x", "marks_xc", "n_tokens_x", "n_tokens_xc")
    )
    num = np.stack([x, xc, xc, tokens_x, tokens_xc, tokens_xc], axis=-1)
    den = np.stack([n, n, x, n, n, tokens_x], axis=-1)
    clusters = pairs.assign(column=column).drop_duplicates("column").set_index("column")["cluster"].sort_index()
    found = []
    for row in estimates([Sums(num, den, clusters.tolist())], [False] * len(MARKS), interval, resamples, seed):
        counted = n.sum() if row.seed is None else n[row.seed].sum()
        found += [
            {
                "arm": arm,
                "seed": pd.NA if row.seed is None else int(seeds[row.seed]),
                "metric": metric,
                "estimate": row.estimate[i],
                "low": float(np.maximum(0.0, row.low[i])),
                "high": row.high[i],
                "n": int(counted),
                "interval": row.kinds[i],
            }
            for i, metric in enumerate(MARKS)
        ]
    return found


def _count(pattern: Any, text: str) -> int:
    try:
        return sum(1 for _ in pattern.finditer(str(text), timeout=SECONDS))
    except TimeoutError as error:
        raise UserError(
            f"The pattern {pattern.pattern[:80]!r} takes longer than {SECONDS:g} seconds on a response: it backtracks. Write it "
            f"without nested repetitions."
        ) from error
