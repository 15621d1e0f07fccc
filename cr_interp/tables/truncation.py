"""How many answers were cut at the length limit: said wherever an accuracy is, since a truncated answer is graded as not right.

Mental model: an accuracy of 0 can mean that a model is wrong, or that it was not let finish. So beside ``acc_x`` and ``acc_xc``
stand ``truncated_x`` and ``truncated_xc`` where anything was cut: the share, and in n how many answers there are.
"""

from typing import Any

import pandas as pd

from cr_interp.study.rows import last_step

COLUMNS = ["arm", "seed", "metric", "estimate", "low", "high", "n"]
#: Accuracy → the metric that says how many of its answers were truncated.
TRUNCATED = {"acc_x": "truncated_x", "acc_xc": "truncated_xc"}


def truncation(generations: pd.DataFrame, control: str = "exact", split: str | None = "test") -> pd.DataFrame:
    """Rows ``arm, seed, metric, estimate, low, high, n`` for every arm and view with a truncated answer; else none.

    Per seed and over seeds (``seed`` NA): estimate is the share truncated of n answers. It is a count and has no interval:
    ``low`` and ``high`` are NaN.
    """
    answers = generations if split is None else generations[generations["split"] == split]
    answers = last_step(answers)
    rows: list[dict[str, Any]] = []
    for metric, view, of in (
        (TRUNCATED["acc_x"], "no_context", "none"), (TRUNCATED["acc_xc"], "with_context", control)
    ):  # fmt: skip
        chosen = answers[(answers["view"] == view) & (answers["control"] == of)]
        for arm, of_arm in chosen.groupby("arm", sort=False):
            cut = of_arm["outcome"] == "truncated"
            if not cut.any():
                continue
            for seed, mine in cut.groupby(of_arm["seed"]):
                rows.append(_row(arm, int(seed), metric, mine))  # type: ignore[call-overload]
            rows.append(_row(arm, None, metric, cut))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(arm: Any, seed: int | None, metric: str, cut: "pd.Series[bool]") -> dict[str, Any]:
    nan = float("nan")
    return {
        "arm": arm, "seed": seed, "metric": metric, "estimate": float(cut.mean()), "low": nan, "high": nan, "n": len(cut)
    }  # fmt: skip


def counted(estimate: float, n: int) -> str:
    """A share as the count that it is.

    >>> counted(0.25, 8)
    '2 of 8'
    """
    return f"{round(estimate * n)} of {n}"


def truncation_notes(table: pd.DataFrame) -> list[str]:
    """A sentence on what was truncated, from a table of metrics (with a column ``setting`` or without); none if nothing was."""
    over_seeds = table[table["metric"].isin(list(TRUNCATED.values())) & table["seed"].isna()]
    words = {TRUNCATED["acc_x"]: "without context", TRUNCATED["acc_xc"]: "with it"}
    told = [
        f"{getattr(row, 'setting', '')} {row.arm} {words[str(row.metric)]} {counted(float(row.estimate), int(row.n))}".strip()  # type: ignore[arg-type]
        for row in over_seeds.itertuples()
    ]
    if not told:
        return []
    return [f"Truncated at the length limit, and so not right: {', '.join(told)} answers."]
