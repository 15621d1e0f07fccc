"""Answers that nobody could read, said beside every accuracy: an accuracy of 0 of which all answers were cut off is no 0.

Mental model: only ``right`` counts for an accuracy, so an answer that was cut off (``truncated``) or broke the format
(``unparsable``) lowers it like a false one. How many there were is counted per arm and view, over seeds; where they are
all, a table shows that instead of the number. Pandas only.
"""

from collections.abc import Iterable

import pandas as pd

from cr_interp.study.rows import counted_split
from cr_interp.study.study import Study
from cr_interp.tables.behaviour import outcome_shares
from cr_interp.tables.stored import of_study
from cr_interp.vocabulary import UNGRADED

#: Outcome → what it means, in a sentence about several answers.
UNREAD = {"truncated": "cut off before an answer (truncated)", "unparsable": "no answer to be read (unparsable)"}
#: Accuracy → its view.
VIEWS = {"acc_x": "without the context", "acc_xc": "with it"}


def unread(generations: pd.DataFrame, control: str = "exact", split: str | None = "test") -> pd.DataFrame:
    """Count, of the n answers behind an accuracy, the k that had an outcome: columns ``arm, metric, outcome, k, n``. Over
    seeds.
    """
    shares = outcome_shares(generations, split)
    shares = shares[shares["control"].isin(["none", control]) & shares["outcome"].isin(list(UNREAD))]
    shares = shares.assign(
        metric=shares["view"].map({"no_context": "acc_x", "with_context": "acc_xc"}),
        k=(shares["share"] * shares["n"]).round().astype("int64"),
    )
    counts = shares.groupby(["arm", "metric", "outcome"], as_index=False)[["k", "n"]].sum()
    return counts[["arm", "metric", "outcome", "k", "n"]]


def unread_of(study: Study, control: str = "exact") -> pd.DataFrame:
    """Return :func:`unread` of the split that :func:`~cr_interp.tables.metrics.metric_table` has."""

    def make() -> pd.DataFrame:
        generations = study.table("generations")
        return unread(generations, control, counted_split(generations))

    return of_study("unread", study, ("generations",), [control], make)


def keyless(study: Study) -> tuple[int, int]:
    """Count a study's examples, and those of them that have no answer key."""

    def make() -> pd.DataFrame:
        examples = study.table("generations").drop_duplicates(["split", "example_id"])
        return pd.DataFrame({"asked": [len(examples)], "without": [int((examples["outcome"] == UNGRADED).sum())]})

    row = of_study("keyless", study, ("generations",), [], make).iloc[0]
    return int(row["asked"]), int(row["without"])


def instead(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Map (arm, accuracy) → what to show for it where no answer could be read, such as ``24 of 24 truncated``."""
    found = {}
    for (arm, metric), of_one in rows.groupby(["arm", "metric"]):
        n = int(of_one["n"].max())
        if n and of_one["k"].sum() == n:
            kinds = [f"{row.k} {row.outcome}" for row in of_one.itertuples() if row.k]
            found[str(arm), str(metric)] = (
                f"{n} of {kinds[0]}" if len(kinds) == 1 else f"{' and '.join(kinds)} of {n}"
            )
    return found


def sentences(rows: pd.DataFrame, arms: Iterable[str], least: float = 0.0) -> list[str]:
    """Return a sentence for each outcome, with the arms in which more than the share ``least`` had it; none if there are none."""
    told = []
    for outcome, meaning in UNREAD.items():
        parts = []
        for arm in arms:
            of_arm = rows[(rows["arm"] == arm) & (rows["outcome"] == outcome) & (rows["k"] > least * rows["n"])]
            views = [f"{row.k} of {row.n} {VIEWS[str(row.metric)]}" for row in of_arm.itertuples()]
            parts += [f"{arm} {' and '.join(views)}"] if views else []
        if parts:
            told.append(f"Not false but {meaning}: {'; '.join(parts)}.")
    return told
