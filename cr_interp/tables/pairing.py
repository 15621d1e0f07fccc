"""Two arms' rows side by side, seed by seed: every difference of drift and of maps is made from these.

The rule is that of :func:`cr_interp.tables.behaviour.differences`, so that differences of states and of answers compare the
same runs.
"""

from collections.abc import Sequence

import pandas as pd

#: The rule in a figure's caption.
PAIRED = "paired by seed (an arm that was run once meets every seed)"


def beside(mine: pd.DataFrame, other: pd.DataFrame, places: Sequence[str], value: str) -> pd.DataFrame:
    """Put beside each row of one arm the other arm's value at the same ``places`` and seed, as ``<value>_other``.

    An arm that was run once, as the base model is, meets every seed of the other arm. Otherwise a row is left out if the
    other arm does not have its seed. ``n_tokens`` is the smaller of the two rows'.
    """
    once = min(frame["seed"].nunique(dropna=False) for frame in (mine, other)) <= 1
    on = [*places] if once else [*places, "seed"]
    both = mine.merge(other[[*on, value, "n_tokens"]], on=on, suffixes=("", "_other"))
    return both.assign(n_tokens=both[["n_tokens", "n_tokens_other"]].min(axis=1))
