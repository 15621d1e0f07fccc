"""Pick rows of a study's table: the last step, some arms, some seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd


def last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Pick a table's rows of the last step of each (arm, seed); rows without a step count as before all others."""
    step = rows["step"].fillna(-1)
    return rows[step == step.groupby([rows["arm"], rows["seed"]], dropna=False).transform("max")]


def rows_of(
    frame: pd.DataFrame, arms: Sequence[Any] | None = None, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Pick the rows of some arms, in the order of ``arms``, and of some seeds; None: all.

    An arm that was run once, as the base model is, has no seeds to choose from and stays.
    """
    if seeds is not None and not frame.empty:
        once = frame.groupby("arm")["seed"].nunique() <= 1
        frame = frame[frame["seed"].isin(seeds) | frame["arm"].isin(once[once].index)]
    if arms is None:
        return frame
    order = {arm: index for index, arm in enumerate(arms)}
    frame = frame[frame["arm"].isin(order)]
    return frame.sort_values("arm", key=lambda names: names.map(order), kind="stable")


def counted_split(generations: pd.DataFrame) -> str:
    """Name the split whose answers count: the test examples; without any, the first split there is."""
    splits = generations["split"].unique()
    return str(splits[0]) if len(splits) and "test" not in splits else "test"
