"""Which runs of two arms are compared with each other: the one rule of every difference, of answers, states and maps alike.

Mental model: seed s of a trained arm meets seed s of another, since both saw the same examples in the same order. The base model
is not trained: its one run is all that there is, other seeds would give the same, and so it meets every seed. A *trained* arm
that was run once has no such right: met with every seed of another arm, its own luck would count as if it were none, and an
interval over seeds would leave out half of what varies.
"""

from collections.abc import Sequence

import pandas as pd

#: An arm that is not trained: its one run is all that there is, and other seeds would give the same.
UNTRAINED = "base"
#: How the figures' captions say it.
PAIRED = "paired by seed (the base model, which is not trained, meets every seed)"


def meetings(runs: Sequence[tuple[str, Sequence[int]]]) -> list[list[int]]:
    """Give, for each arm ``(name, its seeds)``, the seed that takes part in each comparison, in the order of the seeds.

    Trained arms meet at the seeds that all of them have; empty lists where there is none. Where each of them was run once,
    these runs meet whatever their seeds: two given models, of which nothing is said about other seeds.

    >>> meetings([("nca", [0, 1, 2]), ("base", [0])])
    [[0, 1, 2], [0, 0, 0]]
    >>> meetings([("nca", [0, 1, 2]), ("opd", [1])])
    [[1], [1]]
    """
    trained = [set(seeds) for name, seeds in runs if not is_untrained(name, seeds)] or [set(runs[0][1])]
    if all(len(seeds) == 1 for seeds in trained):
        return [[next(iter(seeds))] for _, seeds in runs]
    shared = sorted(set.intersection(*trained))
    return [list(seeds) * len(shared) if is_untrained(name, seeds) else shared for name, seeds in runs]


def named(names: Sequence[str], met: Sequence[list[int]]) -> list[int]:
    """Return the seeds by which the comparisons of :func:`meetings` are called: those of the first trained arm.

    >>> named(["base", "nca"], meetings([("base", [0]), ("nca", [0, 1, 2])]))
    [0, 1, 2]
    """
    return next((seeds for name, seeds in zip(names, met, strict=True) if name != UNTRAINED), met[0])


def is_untrained(name: str, seeds: Sequence[int]) -> bool:
    """Tell whether an arm is the base model, with the one run that it needs."""
    return name == UNTRAINED and len(set(seeds)) == 1


def beside(mine: pd.DataFrame, other: pd.DataFrame, places: Sequence[str], value: str) -> pd.DataFrame:
    """Put beside each row of one arm the other arm's value at the same ``places`` and seed, as ``<value>_other``.

    The runs are those of :func:`meetings`. Rows whose seed the other arm does not have are left out: there is nothing to pair
    them with. ``n_tokens`` is the smaller of the two.
    """
    seeds = [frame["seed"].unique().tolist() for frame in (mine, other)]
    names = [str(frame["arm"].iloc[0]) if len(frame) else "" for frame in (mine, other)]
    anyhow = any(map(is_untrained, names, seeds)) or all(len(each) <= 1 for each in seeds)
    on = [*places] if anyhow else [*places, "seed"]
    both = mine.merge(other[[*on, value, "n_tokens"]], on=on, suffixes=("", "_other"))
    return both.assign(n_tokens=both[["n_tokens", "n_tokens_other"]].min(axis=1))
