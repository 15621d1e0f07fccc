"""How often each interval holds what it is about, in simulations: ``make coverage`` prints the table, a test asks for it.

Mental model: an example has a hidden number U, and a run of rate p answers it right where U < p. With a chance of λ the number
is the cluster's, which all its examples and *all seeds* share; else it is fresh in every run. So examples of one cluster agree
(design effect 1 + (size − 1)·λ²), and seeds agree on what is hard, as they do in truth. Seeds have rates of their own, normal
around a mean and cut at 2.5 SD. Each interval is asked for what it is about:

    within   the mean over all examples there could be, of these seeds' rates
    across   the mean over all seeds there could be, on these examples
    both     the mean over all seeds and all examples, which neither promises; nor does the bootstrap that draws both, of which
             the last column says why it is not used

Intervals are the project's own, of ``statistics.py``, on many data sets at once: a bootstrap's weights are the same for all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from cr_interp.statistics import bootstrap_weights, interval, t_interval

SEED_SDS, SEEDS, DESIGN_EFFECTS = (0.0, 0.07, 0.17), (3, 5, 10), (1, 3)
EXAMPLES, SIZE, RATE, OTHER_RATE, CUT = 448, 8, 0.4, 0.6, 2.5
#: λ² = 2/7 makes a design effect of 3 of clusters of eight.
SHARED = (2 / 7) ** 0.5


@dataclass(frozen=True)
class Simulated:
    """Data sets of one cell: sums of right answers per cluster, and what the intervals are asked for."""

    sums: np.ndarray
    """[sets, seeds, clusters], each of ``size`` answers."""
    size: int
    within: np.ndarray
    across: np.ndarray
    both: float


def simulate(
    rng: np.random.Generator, seeds: int, seed_sd: float, design_effect: int, sets: int, rates: tuple[float, ...]
) -> list[Simulated]:
    """``sets`` data sets of as many arms as there are ``rates``, on the same examples."""
    size = SIZE if design_effect > 1 else 1
    clusters = EXAMPLES // size
    hidden = rng.random((sets, clusters))
    shares = rng.random((sets, clusters, size)) < SHARED
    found = []
    for rate in rates:
        z = special.ndtri(special.ndtr(-CUT) + rng.random((sets, seeds)) * (1 - 2 * special.ndtr(-CUT)))
        p = rate + seed_sd * z
        sums = np.zeros((sets, seeds, clusters))
        for seed in range(seeds):
            fresh = rng.random((sets, clusters, size), dtype=np.float32)
            of = np.where(shares, hidden[:, :, None], fresh)
            sums[:, seed] = (of < p[:, seed, None, None]).sum(axis=2)
        passed = _above(hidden, rate, seed_sd)  # the share of seeds that get the cluster's number right
        across = np.where(shares, passed[:, :, None], rate).mean(axis=(1, 2))
        found.append(Simulated(sums, size, p.mean(axis=1), across, rate))
    return found


def _above(hidden: np.ndarray, rate: float, seed_sd: float) -> np.ndarray:
    """P(p > U) of a seed's rate p."""
    if seed_sd == 0:
        return (hidden < rate).astype(float)
    edge = special.ndtr(-CUT)
    return np.clip((special.ndtr((rate - hidden) / seed_sd) - edge) / (1 - 2 * edge), 0, 1)


def covered(arms: list[Simulated], resamples: int = 500, crossed_sets: int = 300) -> dict[str, float]:
    """The share of data sets in which each interval holds its truth; of one arm, or of the first minus the second."""

    def minus(parts: list) -> np.ndarray:
        return parts[0] if len(parts) == 1 else parts[0] - parts[1]

    cells = minus([one.sums / one.size for one in arms])  # [sets, seeds, clusters]
    low, high = interval_within(cells, resamples)
    t_low, t_high = t_interval(cells.mean(axis=2).T)
    within, across = (minus([getattr(one, name) for one in arms]) for name in ("within", "across"))
    both = minus([np.array(one.both) for one in arms])
    crossed = interval_crossed(cells[:crossed_sets], resamples)
    return {
        "within": _share(low, within, high),
        "across": _share(t_low, across, t_high),
        "within, of both": _share(low, both, high),
        "across, of both": _share(t_low, both, t_high),
        "crossed bootstrap, of both": _share(crossed[0], both, crossed[1]),
    }


def interval_within(cells: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    n = cells.shape[2]
    return interval(bootstrap_weights(n, resamples) @ cells.mean(axis=1).T / n, units=n)


def interval_crossed(cells: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """What is not used: seeds and clusters are both drawn with replacement."""
    _, seeds, n = cells.shape
    of_seed, of_cluster = bootstrap_weights(seeds, resamples, 1), bootstrap_weights(n, resamples, 2)
    drawn = sum(of_seed[:, s, None] * (of_cluster @ cells[:, s].T) for s in range(seeds))
    return interval(drawn / seeds / n)


def _share(low: np.ndarray, truth: np.ndarray, high: np.ndarray) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


def rows(sets: int = 2000, resamples: int = 500) -> Iterator[dict[str, object]]:
    grid = product(DESIGN_EFFECTS, SEED_SDS, SEEDS)
    for number, (effect, sd, seeds) in enumerate(grid):
        arms = simulate(np.random.default_rng(number), seeds, sd, effect, sets, (RATE, OTHER_RATE))
        for what, chosen in (("share", arms[:1]), ("difference", arms)):
            yield {
                "of": what,
                "design effect": effect,
                "seed SD": sd,
                "seeds": seeds,
                **covered(chosen, resamples),
            }


def table(sets: int = 2000, resamples: int = 500) -> pd.DataFrame:
    found = pd.DataFrame(rows(sets, resamples))
    return found.sort_values("of", key=lambda of: of != "share", kind="stable").reset_index(drop=True)


def markdown(found: pd.DataFrame) -> str:
    """In per cent; seed SD in points."""
    shown = found.copy()
    for name in shown.columns[4:]:
        shown[name] = [f"{100 * value:.1f}" for value in shown[name]]
    shown["seed SD"] = [f"{100 * sd:g}" for sd in shown["seed SD"]]
    lines = [
        list(shown.columns),
        ["---"] + ["---:"] * (len(shown.columns) - 1),
        *shown.astype(str).values.tolist(),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(markdown(table()))
