"""Whether a linear probe finds the context in a state, over seeds, beside shuffled labels. Pandas only."""

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm, places_of

#: question → in words.
QUESTIONS = {"presence": "is a context there?", "content": "is it this context?"}
#: What a question is shown for first: contexts that the probe was not fitted on.
HELD_OUT = {"presence": "paraphrase / none", "content": "paraphrase / irrelevant"}
CONTROLS = {"none": "true labels", "shuffled": "shuffled labels"}


def probe_table(probes: pd.DataFrame, question: str = "presence", tested: str | None = None) -> pd.DataFrame:
    """Return a row per arm, place and control: AUROC, mean over seeds, the outermost ends of the seeds' intervals.

    ``tested`` None: the pair of contexts that the probe was not fitted on, or where the study has none, the first that there
    is.
    """
    rows = last_step(probes)
    rows = rows[rows["question"] == question]
    if tested is None:
        there = list(rows["tested"].unique())
        tested = HELD_OUT.get(question) if HELD_OUT.get(question) in there else next(iter(there), None)
    rows = rows[rows["tested"] == tested]
    table = (
        rows.assign(place=places_of(rows))
        .groupby(["arm", "place", "control", "question", "tested"], sort=False, as_index=False)
        .agg(
            estimate=("estimate", "mean"),
            low=("low", "min"),
            high=("high", "max"),
            seeds=("estimate", "count"),
            n_examples=("n_examples", "min"),
            n_most=("n_examples", "max"),
        )
    )
    return by_arm(table, "place")
