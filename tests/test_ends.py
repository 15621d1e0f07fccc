"""Intervals of the panel: they hold their estimate, and the truth about as often as they say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cr_interp.ends import ends
from cr_interp.similarity import MEASURES, DriftAccumulator

torch.set_num_threads(1)
WIDTH = 8


def test_a_biased_measures_replicates_are_put_around_the_estimate():
    replicates = 5 + np.arange(-100, 101) / 100
    assert ends(1.0, replicates, 1000) == (1.0, pytest.approx(5.95, abs=0.01))
    assert ends(1.0, replicates, 1000, biased=True) == pytest.approx((0.05, 1.95), abs=0.01)
    assert ends(1.0, replicates, 1000, biased=True, scale=0.5) == pytest.approx((0.525, 1.475), abs=0.01)


def test_few_units_meet_students_t():
    rng = np.random.default_rng(0)
    values = rng.normal(size=6)
    drawn = values[rng.integers(0, 6, (20000, 6))].mean(1)
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    assert ends(values.mean(), drawn, 6) == pytest.approx((values.mean() - half, values.mean() + half), rel=0.02)
    assert all(math.isnan(end) for end in ends(1.0, np.ones(10), 1))
    assert all(math.isnan(end) for end in ends(1.0, np.full(10, np.nan), 30))


def states(generator, examples: int, tokens: int, cluster: int = 1):
    """Rows of examples; all examples of a cluster move alike, besides a shift common to all."""
    clusters = examples // cluster

    def normal(*shape):
        return torch.randn(*shape, WIDTH, generator=generator)

    x = normal(examples, 1) + 0.5 * normal(examples, tokens) + 1
    moved = 0.7 * normal(clusters, 1).repeat_interleave(cluster, 0) + 0.35 * normal(examples, tokens) + 0.3
    return x.flatten(0, 1), (x + moved).flatten(0, 1), torch.arange(examples).repeat_interleave(tokens)


def rows_of(x, y, example, resamples: int, clusters=None, **more):
    drift = DriftAccumulator(WIDTH, **more)
    drift.update(x, y, example)
    return {row["measure"]: row for row in drift.finish(resamples, clusters=clusters)}


@pytest.mark.parametrize("examples", [2, 3, 5, 9, 12, 40])
@pytest.mark.parametrize("noise", [0, 1e-7, 1.0])
def test_no_interval_excludes_its_own_estimate(examples, noise):
    for seed in range(6):
        x, y, example = states(torch.Generator().manual_seed(seed), examples, 4)
        y = (
            x + noise * (y - x)
            if seed % 2
            else x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 50))
        )
        for name, row in rows_of(x, y, example, 60).items():
            if math.isfinite(row["low"]):
                assert row["low"] <= row["estimate"] <= row["high"], name
            elif math.isnan(row["estimate"]):
                assert row["reason"], name


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "cluster"), [(30, 1), (80, 4)])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(examples, cluster):
    """Of CKA the truth is what it is at this number of examples: of the row-level one, pairs within an example count."""
    names = ("cosine", "centred_cosine", "relative_l2", "shift_share", "cka", "cka_examples")
    generator = torch.Generator().manual_seed(0)
    clusters = None if cluster == 1 else [one // cluster for one in range(examples)]
    runs = [
        rows_of(*states(generator, examples, 3, cluster), 200, clusters, measures=names, tokens=3)
        for _ in range(160)
    ]
    for name in names:
        truth = np.mean([run[name]["estimate"] for run in runs])
        held = np.mean([run[name]["low"] <= truth <= run[name]["high"] for run in runs])
        # A standard error of 160 is 1.7 points.
        assert 0.88 <= held <= 1.0, (name, held)


def test_without_its_clusters_an_interval_would_be_too_narrow():
    generator = torch.Generator().manual_seed(1)
    x, y, example = states(generator, 120, 3, 6)
    by = {
        name: rows_of(x, y, example, 300, clusters)["relative_l2"]
        for name, clusters in (("clusters", [one // 6 for one in range(120)]), ("examples", None))
    }
    width = {name: row["high"] - row["low"] for name, row in by.items()}
    assert width["clusters"] > 1.5 * width["examples"]
    assert by["clusters"]["estimate"] == by["examples"]["estimate"]
    one = rows_of(x, y, example, 50, ["all"] * 120)["cosine"]
    assert math.isnan(one["low"])
    assert one["reason"] == "no interval: one cluster of examples"


def test_every_measure_of_the_panel_is_there():
    x, y, example = states(torch.Generator().manual_seed(2), 12, 2)
    assert set(rows_of(x, y, example, 10)) == set(MEASURES)
