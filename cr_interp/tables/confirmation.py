"""What a preregistered comparison says: success, failure or neither, by criteria that were fixed before.

Mental model. :func:`~cr_interp.tables.suite.comparisons` has the paired differences of every setting. Each criterion counts
the settings in which one statement holds; a setting without an answer does not count for it. Criteria that were written for
twelve settings are scaled to the k that there are, rounded up for success and down for failure: k of k is never easier.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

import pandas as pd

from cr_interp.statistics import not_lower
from cr_interp.tables.claims import ALPHA

SUCCESS, FAILURE, INCONCLUSIVE = "success", "failure", "inconclusive"


def criteria(compared: pd.DataFrame, rule: Mapping[str, float]) -> pd.DataFrame:
    """Turn :func:`~cr_interp.tables.suite.comparisons` (over seeds) into a row per criterion: ``criterion, k, needed, of,
    holds, settings``.

    ``rule`` is a preregistration's ``success``: ``lower, holm, not_lower, common`` (settings needed of ``of``) and
    ``margin``.
    """
    settings = compared["setting"].nunique()
    by = {name: rows.set_index("setting") for name, rows in compared.groupby("metric")}
    none = compared.iloc[:0].set_index("setting")
    harm, common, acc_x = (by.get(name, none) for name in ("harm", "harm_common", "acc_x"))
    statements = {
        "lower": ("Harm lower", harm["estimate"] < 0),
        "holm": ("Harm lower after Holm", (harm["estimate"] < 0) & (harm["p_holm"].astype(float) < ALPHA)),
        "not_lower": (
            f"Acc_x not lower by {100 * rule['margin']:g} points",
            acc_x["low"].map(lambda low: not_lower(low, rule["margin"])).astype(bool),
        ),
        "common": ("Harm lower on common prompts", common["estimate"] < 0),
    }
    rows = []
    for key, (criterion, holds) in statements.items():
        where = tuple(str(name) for name in holds.index[holds.to_numpy(dtype=bool)])
        needed = scaled(rule[key], rule["of"], settings, up=True)
        rows.append((criterion, len(where), needed, settings, len(where) >= needed, where))
    return pd.DataFrame(rows, columns=["criterion", "k", "needed", "of", "holds", "settings"])


def verdict(found: pd.DataFrame, rule: Mapping[str, float]) -> str:
    """Return ``success`` if every criterion holds; ``failure`` if Harm is lower in ``rule['failure']`` (scaled) or fewer;
    else ``inconclusive``. Without a setting nothing has been shown.
    """
    settings = int(found["of"].iloc[0])
    if settings and found["holds"].all():
        return SUCCESS
    lower = int(found.loc[found["criterion"] == "Harm lower", "k"].iloc[0])
    return (
        FAILURE if settings and lower <= scaled(rule["failure"], rule["of"], settings, up=False) else INCONCLUSIVE
    )


def scaled(count: float, of: float, settings: int, up: bool) -> int:
    """Scale a count of ``of`` settings to one of ``settings``.

    >>> scaled(10, 12, 7, up=True), scaled(6, 12, 7, up=False)
    (6, 3)
    """
    exact = Fraction(count) * settings / Fraction(of)
    return math.ceil(exact) if up else math.floor(exact)
