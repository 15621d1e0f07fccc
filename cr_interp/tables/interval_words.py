"""What intervals are called wherever they are shown: which of the two kinds, and "one seed" where there is no other.

Every table of estimates has a column ``interval``; the words come from it and from nothing else, so that a caption cannot say
one kind and show the other.
"""

import pandas as pd

from cr_interp.system.percent import number
from cr_interp.vocabulary import arm_order

WITHIN = "within (these runs, other examples; bootstrap over clusters of examples)"
ACROSS = "across (other seeds; Student's t over the seeds' values, df = seeds − 1)"
#: In a few words, for the caption of a table.
SHORT = {
    "within": "within (bootstrap over clusters of examples)",
    "across": "across (t over seeds)",
}


def said_intervals(table: pd.DataFrame, short: bool = False, wanted: str = "across") -> str:
    """Say the kinds of intervals in a table of estimates over seeds; rows of arms that have one seed are named.

    ``table`` has the columns ``interval`` and, if it is of several arms, ``arm``. ``wanted`` is the kind that was asked for:
    where *across* was, what is *within* has one seed.
    """
    words = SHORT if short else {"within": WITHIN, "across": ACROSS}
    kinds = set(table["interval"].dropna())
    if kinds <= {"within"}:
        return words["within"] + (", one seed" if wanted == "across" else "")
    if kinds == {"across"}:
        return words["across"]
    if "arm" not in table:
        table = table.assign(arm="")  # paired differences, which are of no single arm
    kinds_of = {arm: set(rows["interval"].dropna()) for arm, rows in table.groupby("arm", sort=False)}
    alone = [str(arm) for arm in arm_order(table["arm"]) if kinds_of[arm] == {"within"}]
    said = words["across"]
    if alone:
        said += f"; of {', '.join(alone)}, one seed: {words['within']}"
    if any(len(each) > 1 for each in kinds_of.values()):
        said += f"; what one seed alone has a value of{'' if alone else ': ' + words['within']}{' likewise' * bool(alone)}"
    return said


def between(low: float, high: float) -> str:
    """Write ``[0.10, 0.30]``, or that there is no interval, which so few examples do not have.

    >>> between(0.1, 0.3), between(float("nan"), float("nan"))
    ('[0.10, 0.30]', '(no interval: a single cluster)')
    """
    if pd.isna(low) or pd.isna(high):
        return "(no interval: a single cluster)"
    return f"[{number(low, 2)}, {number(high, 2)}]"
