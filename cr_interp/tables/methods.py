"""How a table's numbers were computed, where that has changed: studies keep what they were measured with.

Mental model. The tables ``drift`` and ``cka_map`` of today have columns that earlier ones lack, and a measurement is not made
anew without its checkpoints. So whoever shows an earlier table says what its numbers are; what a newer one has beside
them (the interval of a minimum, the example level of a map) is taken where it is there.
"""

import pandas as pd

#: measure → what an estimate, or its interval, is in a table without the column ``method``.
FORMERLY = {
    "shift_share": (
        "not debiased: about 1/n too high for n tokens that share no shift, and under 'floor' 0 by construction; intervals "
        "of small shares lie above their estimate"
    ),
    "cka_examples": (
        "as many tokens of each example as each checkpoint's shortest response has, so arms may differ in it; examples of one "
        "cluster meet as if they were independent"
    ),
}


def formerly(drift: pd.DataFrame, measure: str) -> str | None:
    """Return a sentence on rows of ``drift`` that were measured in an earlier way; None if there are none of this measure."""
    rows = drift[drift["measure"] == measure]
    if measure not in FORMERLY or rows.empty:
        return None
    old = rows if "method" not in rows else rows[rows["method"].isna()]
    return None if old.empty else f"{measure} was measured in an earlier way here: {FORMERLY[measure]}."


def with_minimum(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the cosine whose ``low, high`` are the interval of the lowest layer *as the lowest*, where it was
    measured.

    Elsewhere they stay those of the layer, as if it had been chosen before looking: too narrow where layers are alike.
    """
    if "min_low" not in rows:
        return rows
    return rows.assign(low=rows["min_low"].fillna(rows["low"]), high=rows["min_high"].fillna(rows["high"]))
