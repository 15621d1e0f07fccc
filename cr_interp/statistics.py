"""Bootstrap intervals for ratios of sums: which weights to draw, and how to read an interval off replicates.

Mental model: every number of the project is a ratio of sums over examples, Σᵢ numᵢ / Σᵢ denᵢ. A bootstrap
replicate draws examples with replacement, which is the same as giving example i the integer weight wᵢ of how
often it was drawn. So nothing is ever copied or looped over: ``weights @ sums`` is all replicates at once.

    weights = bootstrap_weights(len(num))                    # [resamples, n]
    low, high = interval((weights @ num) / (weights @ den))  # a replicate may be 0/0: NaN, ignored

Two statistics computed with the *same* weights are paired: the interval of their difference is
``interval(first - second)``. The same ``seed`` and sizes always give the same weights.
"""

import warnings

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def bootstrap_weights(n: int, resamples: int = 2000, seed: int = 0) -> Float[ndarray, "resamples n"]:
    """How often each of ``n`` examples is drawn in each replicate of n draws with replacement."""
    if n == 0:
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    return _count(drawn + n * np.arange(resamples)[:, None], resamples * n).reshape(resamples, n)


def hierarchical_weights(
    seeds: int, examples: int, resamples: int = 2000, seed: int = 0, crossed: bool = True
) -> Float[ndarray, "resamples seeds examples"]:
    """Two levels: training seeds are drawn with replacement, then examples within each drawn seed.

    A seed that is drawn twice gets two independent draws of the examples. With ``crossed=True`` all seeds of
    a replicate share one draw of the examples, as they share the examples themselves: that also counts how
    far the *choice of test examples* moves every seed in the same direction, and is wider.

    Three seeds cannot measure the variance between seeds well: in simulations of right/wrong outcomes a nominal
    95 % covered 86–97 % for three seeds, crossed 91–99 %. Seeds that answer *identically* make the uncrossed
    interval √seeds too narrow. With one seed either is the bootstrap over examples.
    """
    if seeds == 0 or examples == 0:
        return np.zeros((resamples, seeds, examples))
    rng = np.random.default_rng(seed)
    drawn_seed = rng.integers(0, seeds, size=(resamples, seeds)) if seeds > 1 else np.zeros((resamples, 1), int)
    replicate = np.arange(resamples)[:, None]
    if crossed:
        times = _count(drawn_seed + seeds * replicate, resamples * seeds).reshape(resamples, seeds, 1)
        drawn = rng.integers(0, examples, size=(resamples, examples))
        of_example = _count(drawn + examples * replicate, resamples * examples)
        return times * of_example.reshape(resamples, 1, examples)
    drawn = rng.integers(0, examples, size=(resamples, seeds, examples))
    cell = drawn + examples * (drawn_seed + seeds * replicate)[:, :, None]
    return _count(cell, resamples * seeds * examples).reshape(resamples, seeds, examples)


def interval(
    samples: Float[ndarray, "resamples ..."], level: float = 0.95
) -> tuple[Float[ndarray, "..."], Float[ndarray, "..."]]:
    """Percentile interval over the first axis: ``(low, high)``.

    Replicates that are NaN (an empty denominator) are left out; if all are, so is the interval.
    """
    tail = (1 - level) / 2
    samples = np.asarray(samples, dtype=float)
    if samples.shape[0] == 0:
        return np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "All-NaN slice": NaN is the answer
        low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def _count(cells: ndarray, size: int) -> Float[ndarray, " size"]:
    return np.bincount(cells.ravel(), minlength=size).astype(float)
