"""How often the intervals of the drift panel hold their truth, in simulations: the second table of ``make coverage``.

Mental model: states are normal, and what is true of all tokens there could be follows from their covariance. A token's state
without the context is a mean + what its cluster, its example and it alone add; with the context all of that + a common shift +
a movement made of the same three parts. The parts' shares differ between cells, their sum does not, so one truth holds for all:
a cell with clusters only has fewer independent draws in it. With S and V the variances of the state and of the movement, and m
the shift,

    centred cosine   ΣS / √(ΣS · Σ(S + V))
    shift_share      |m|² / (|m|² + ΣV)
    cka_examples     ΣS² / √(ΣS² · Σ(S + V)²)
    cosine, relative L2   a mean over a million tokens, to 1/100 of an interval's width

Every interval is that of :class:`~cr_interp.similarity.DriftAccumulator`, from beginning to end.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import torch

from cr_interp.similarity import DriftAccumulator

DRIFT_MEASURES = ("cosine", "centred_cosine", "relative_l2", "shift_share", "cka_examples")
EXAMPLES, CLUSTER_SIZES, TOKENS = (20, 80), (1, 4), 2
STATE = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5])
MOVEMENT = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 2.0, 2.0])
MEAN, SHIFT = np.full(8, 2.0), np.full(8, 0.7)
#: Shares of a variance that are the cluster's, the example's and the token's.
SHARES = {1: (0.0, 0.5, 0.5), 4: (0.3, 0.2, 0.5)}


def states(
    rng: np.random.Generator, sets: int, examples: int, size: int, tokens: int = TOKENS
) -> tuple[np.ndarray, np.ndarray]:
    """Data sets of states without and with the context: twice [sets, examples * tokens, width]."""
    shape = (sets, examples // size, size, tokens)

    def varied(variance: np.ndarray) -> np.ndarray:
        parts = ((*shape[:2], 1, 1), (*shape[:3], 1), shape)
        total = np.zeros((*shape, len(variance)))
        for share, part in zip(SHARES[size], parts, strict=True):
            total += np.sqrt(share * variance) * rng.standard_normal((*part, len(variance)))
        return total

    x = MEAN + varied(STATE)
    y = x + SHIFT + varied(MOVEMENT)
    return x.reshape(sets, -1, len(MEAN)), y.reshape(sets, -1, len(MEAN))


@cache
def truths() -> dict[str, float]:
    moved = float(SHIFT @ SHIFT)
    x, y = (each[0] for each in states(np.random.default_rng(0), 1, 1_000_000, 1, 1))
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    both = STATE + MOVEMENT
    return {
        "cosine": float(((x * y).sum(axis=1) / lengths[0] / lengths[1]).mean()),
        "centred_cosine": float(STATE.sum() / np.sqrt(STATE.sum() * both.sum())),
        "relative_l2": float((np.linalg.norm(y - x, axis=1) / lengths[0]).mean()),
        "shift_share": moved / (moved + float(MOVEMENT.sum())),
        "cka_examples": float(STATE @ STATE / np.sqrt((STATE @ STATE) * (both @ both))),
    }


def drift_rows(sets: int, resamples: int) -> Iterator[dict[str, object]]:
    """Of every number of examples and size of clusters: the share of data sets whose interval holds the truth."""
    for number, (examples, size) in enumerate(product(EXAMPLES, CLUSTER_SIZES)):
        example = torch.arange(examples).repeat_interleave(TOKENS)
        clusters = [one // size for one in range(examples)] if size > 1 else None
        held = dict.fromkeys(DRIFT_MEASURES, 0)
        for x, y in zip(*states(np.random.default_rng(number), sets, examples, size), strict=True):
            drift = DriftAccumulator(len(MEAN), measures=DRIFT_MEASURES, tokens=TOKENS)
            drift.update(torch.from_numpy(x), torch.from_numpy(y), example)
            for row in drift.finish(resamples, clusters=clusters):
                held[row["measure"]] += row["low"] <= truths()[row["measure"]] <= row["high"]
        yield {
            "examples": examples,
            "of a cluster": size,
            "units": examples // size,
            **{name: count / sets for name, count in held.items()},
        }


def drift_table(sets: int = 1000, resamples: int = 500) -> pd.DataFrame:
    return pd.DataFrame(drift_rows(sets, resamples))


def drift_markdown(found: pd.DataFrame) -> str:
    """In per cent."""
    lines = ["| " + " | ".join(found) + " |", "|" + "---:|" * len(found.columns)]
    for row in found.itertuples(index=False):
        cells = [f"{100 * value:.1f}" if isinstance(value, float) else str(value) for value in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(drift_markdown(drift_table()))
