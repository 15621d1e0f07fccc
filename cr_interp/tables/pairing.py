"""Two arms' rows side by side, seed by seed: what every difference of drift and of maps is made from.

The rule is that of :func:`cr_interp.tables.behaviour.differences`, so that a difference of states and one of answers compare the
same runs.
"""

from collections.abc import Sequence

import pandas as pd

#: How the figures' captions say it.
PAIRED = "paired by seed (an arm that was run once meets every seed)"


def beside(mine: pd.DataFrame, other: pd.DataFrame, places: Sequence[str], value: str) -> pd.DataFrame:
    """Put beside each row of one arm the other arm's value at the same ``places`` and seed, as ``<value>_other``.

    If one of the two was run once, as the base model is, that run meets every seed of the other. Otherwise rows whose seed
    the other arm does not have are left out: there is nothing to pair them with. ``n_tokens`` is the smaller of the two.
    """
    once = min(frame["seed"].nunique(dropna=False) for frame in (mine, other)) <= 1
    on = [*places] if once else [*places, "seed"]
    both = mine.merge(other[[*on, value, "n_tokens"]], on=on, suffixes=("", "_other"))
    return both.assign(n_tokens=both[["n_tokens", "n_tokens_other"]].min(axis=1))
