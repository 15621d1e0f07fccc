"""Mutual neighbours, against sorting by hand and against random tie-breaking."""

import math

import numpy as np
import pytest
import torch

from cr_interp.similarity import knn_overlap


def by_sorting(x, y, k, groups=None, rng=None):
    n = len(x)
    groups = np.arange(n) if groups is None else groups.numpy()
    total = 0.0
    noise = np.zeros((n, n)) if rng is None else 1e-7 * rng.random((n, n))
    neighbours = []
    for rows in (x, y):
        unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
        cosine = np.round(unit @ unit.T, 6) + noise
        cosine[groups[:, None] == groups[None]] = -np.inf
        neighbours.append(np.argsort(-cosine, axis=1)[:, :k])
        if rng is not None:
            noise = 1e-7 * rng.random((n, n))
    for a, b in zip(*neighbours, strict=True):
        total += len(set(a) & set(b)) / k
    return total / n


def rows(n=80, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator)
    return x, x + 0.5 * torch.randn(n, width, generator=generator)


def test_equals_sorting():
    x, y = rows()
    assert knn_overlap(x, y, 6).value == pytest.approx(by_sorting(x, y, 6), abs=1e-6)
    groups = torch.arange(20).repeat_interleave(4)
    found = knn_overlap(x, y, 6, groups=groups)
    assert found.value == pytest.approx(by_sorting(x, y, 6, groups), abs=1e-6)
    assert found.chance == pytest.approx(6 / 76)
    assert knn_overlap(x, x, 6).value == pytest.approx(1)


def test_unrelated_states_are_at_chance():
    torch.manual_seed(0)  # the bound is three standard errors, which one order of tests in hundreds would exceed
    found = [knn_overlap(torch.randn(60, 20), torch.randn(60, 20), 10) for _ in range(40)]
    values = [each.value for each in found]
    assert abs(np.mean(values) - found[0].chance) < 3 * np.std(values) / math.sqrt(len(values))


def test_duplicates_are_the_mean_over_random_orders():
    x, y = rows(30, 3)
    x = x[torch.arange(30) % 8]  # each row about four times
    y = torch.cat([y[:15], y[:15]])
    rng = np.random.default_rng(0)
    sampled = [by_sorting(x, y, 5, rng=rng) for _ in range(300)]
    found = knn_overlap(x, y, 5).value
    assert abs(found - np.mean(sampled)) < 4 * np.std(sampled) / math.sqrt(len(sampled)) + 1e-6
    order = torch.randperm(30)
    assert knn_overlap(x[order], y[order], 5).value == pytest.approx(found, abs=1e-6)


def test_undefined_says_why():
    x, y = rows(8)
    assert "k = 8" in str(knn_overlap(x, y, 8).reason)
    assert math.isnan(knn_overlap(x, y, 8).value)
    y[0, 0] = math.inf
    assert "not finite" in str(knn_overlap(x, y, 3).reason)
    with pytest.raises(ValueError, match="equally many"):
        knn_overlap(x, y[:4], 2)


def test_euclidean_neighbours_are_those_of_the_distances():
    x, y = rows(40)
    near = [
        (-torch.cdist(side.double(), side.double())).fill_diagonal_(-torch.inf).topk(6).indices for side in (x, y)
    ]
    shared = [len(set(a.tolist()) & set(b.tolist())) / 6 for a, b in zip(*near, strict=True)]
    assert knn_overlap(x, y, 6, metric="euclidean").value == pytest.approx(np.mean(shared), abs=1e-12)
    assert knn_overlap(x + 7, 3 * y, 6, metric="euclidean").value == pytest.approx(np.mean(shared), abs=1e-12)
    with pytest.raises(ValueError, match="metric"):
        knn_overlap(x, y, 6, metric="manhattan")


def test_a_massive_common_component_makes_no_ties():
    """All cosines are 1 to eight digits; float32 would find everything tied, an overlap at chance."""
    x, y = rows(60)
    mean = torch.full((5,), 1e4, dtype=torch.float64)
    found = knn_overlap(x.double() + mean, x.double() * (1 + 1e-9) + mean, 6)
    assert found.value == pytest.approx(1, abs=1e-2)
    y[3] = 0
    assert "norm 0" in str(knn_overlap(x, y, 6).reason)
