"""Probes: can a linear map tell from a state that the context is there?

Mental model. Of every training prompt there are states without a context and behind each that the study knows, on the same
answer: the mean over its aligned positions. Two questions:

    presence   is a context there?    fitted on exact against none, tried on exact, on paraphrase and on irrelevant against none
    content    is it this context?    fitted on exact against mismatched, tried on the same two, and on paraphrase against
                                      irrelevant, neither of which the probe has seen

The probe is a ridge regression on standardised states, fitted on three quarters of the clusters and tried on the rest, in
turn. What is reported is the AUROC: the chance that a state with the context is scored above one without. Beside it
``shuffled``: the same with the two labels of each prompt swapped by chance before fitting.

That something can be decoded does not say that the model uses it. A probe for ``presence`` senses *some* system message, which
a student that ignores its context must still read; ``content`` is what an ignored context need not leave.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.capture.sites import residual_sites
from cr_interp.mechanism.material import NONE, Material
from cr_interp.statistics import cluster_numbers
from cr_interp.tables.flips_by_drift import auroc, auroc_interval

#: question → what the probe is fitted on (label 1, label 0), and what it is tried on.
QUESTIONS: dict[str, tuple[tuple[str, str], tuple[tuple[str, str], ...]]] = {
    "presence": (("exact", NONE), (("exact", NONE), ("paraphrase", NONE), ("irrelevant", NONE))),
    "content": (("exact", "mismatched"), (("exact", "mismatched"), ("paraphrase", "irrelevant"))),
}
FOLDS = 4
SHUFFLES = 50
#: Of the mean eigenvalue of the states' Gram matrix.
RIDGE = 0.1
COLUMNS = ["site", "layer", "question", "tested", "control", "estimate", "low", "high", "n_examples"]

States = Float[ndarray, "prompt width"]


def rows(given: Material) -> dict[str, pd.DataFrame]:
    """Compute the table ``probes`` of one checkpoint; questions whose contexts the study does not know have no rows."""
    sites = residual_sites(given.loaded.model)
    wanted = {name for fitted, tried in _askable(given.views) for pair in (fitted, *tried) for name in pair}
    of = {}
    for done, view in enumerate(sorted(wanted)):
        of[view] = given.means(given.loaded, view, sites)
        given.progress(done + 1, len(wanted))
    found = []
    for site in sites:
        states = {view: each[site].double().numpy() for view, each in of.items()}
        found += [(site.name, site.layer, *row) for row in asked(states, given.clusters)]
    return {"probes": pd.DataFrame(found, columns=COLUMNS).astype({"layer": "int32"})}


def asked(states: dict[str, States], clusters: Sequence[str]) -> list[tuple[object, ...]]:
    """Return the rows of one site, from each view's states of the same prompts."""
    found: list[tuple[object, ...]] = []
    numbers = cluster_numbers(clusters)
    for question, (fitted, tried) in QUESTIONS.items():
        if not {*fitted} <= states.keys() or int(numbers.max()) + 1 < FOLDS:
            continue
        scores = _scores(states, fitted, numbers)
        for one, other in tried:
            if not {one, other} <= states.keys():
                continue
            # [label, prompt, 1 + shuffles] → both labels one after the other
            both = np.concatenate([scores[one], scores[other]])
            label = np.repeat([True, False], len(numbers))
            tested, n = f"{one} / {other}", len(numbers)
            doubled = pd.Series(np.tile(numbers, 2))
            found.append((question, tested, "none", *auroc_interval(both[:, 0], label, doubled), n))
            drawn = [auroc(both[:, 1 + k], label) for k in range(SHUFFLES)]
            low, high = np.quantile(drawn, [0.025, 0.975])
            found.append((question, tested, "shuffled", float(np.mean(drawn)), float(low), float(high), n))
    return found


def _scores(
    states: dict[str, States], fitted: tuple[str, str], numbers: ndarray
) -> dict[str, Float[ndarray, "prompt fit"]]:
    """Return every prompt's score in every view by probes that were fitted on other clusters; the first fit has the true
    labels.
    """
    rng = np.random.default_rng(0)
    n = len(numbers)
    found = {view: np.full((n, 1 + SHUFFLES), np.nan) for view in states}
    # Clusters are dealt into folds at random, so that an order of the prompts decides nothing.
    fold = rng.permutation(int(numbers.max()) + 1)[numbers] % FOLDS
    for part in range(FOLDS):
        mine, rest = fold != part, fold == part
        x = np.concatenate([states[fitted[0]][mine], states[fitted[1]][mine]])
        swapped = rng.choice([1.0, -1.0], size=(int(mine.sum()), SHUFFLES))
        labels = np.concatenate([np.ones((len(swapped), 1)), swapped], axis=1)
        weights, middle, scale = _fit(x, np.concatenate([labels, -labels]))
        for view, each in states.items():
            found[view][rest] = ((each[rest] - middle) / scale) @ weights
    return found


def _fit(
    x: Float[ndarray, "row width"], y: Float[ndarray, "row fit"]
) -> tuple[Float[ndarray, "width fit"], Float[ndarray, " width"], Float[ndarray, " width"]]:
    """Fit ridge regression for many columns of labels at once. Returns the middle and scale that the states are brought to as
    well.
    """
    middle, scale = x.mean(0), x.std(0)
    # A feature that does not vary (rounding apart) tells nothing, and must not be blown up.
    scale = np.where(scale > 1e-6 * max(float(np.abs(x).max()), 1e-30), scale, np.inf)
    z = (x - middle) / scale
    gram = z @ z.T
    ridge = RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    return z.T @ np.linalg.solve(gram + ridge * np.eye(len(gram)), y), middle, scale


def _askable(
    views: Iterable[str],
) -> list[tuple[tuple[str, str], tuple[tuple[str, str], ...]]]:
    """List the questions whose contexts for fitting are there, with the trials that can be made."""
    there = set(views)
    return [
        (fitted, tuple(pair for pair in tried if {*pair} <= there))
        for fitted, tried in QUESTIONS.values()
        if {*fitted} <= there
    ]
