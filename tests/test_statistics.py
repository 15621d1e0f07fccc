"""Bootstrap weights and intervals."""

import numpy as np
import pytest

from cr_interp.statistics import bootstrap_weights, hierarchical_weights, interval


def test_each_replicate_draws_n_examples():
    weights = bootstrap_weights(7, resamples=500)
    assert weights.shape == (500, 7)
    assert (weights.sum(1) == 7).all()
    assert np.allclose(weights.mean(0), 1, atol=4 / np.sqrt(500))
    # multinomial: variance (n−1)/n, covariance −1/n
    assert np.isclose(weights.var(), 6 / 7, rtol=0.1)


def test_weights_depend_on_the_seed_only():
    assert np.array_equal(bootstrap_weights(5, 10, seed=3), bootstrap_weights(5, 10, seed=3))
    assert not np.array_equal(bootstrap_weights(5, 10, seed=3), bootstrap_weights(5, 10, seed=4))


def test_nothing_to_draw_from():
    assert bootstrap_weights(0, 10).shape == (10, 0)
    assert hierarchical_weights(3, 0, 10).shape == (10, 3, 0)
    assert hierarchical_weights(0, 3, 10).shape == (10, 0, 3)


@pytest.mark.parametrize("crossed", [False, True])
def test_hierarchical_draws_seeds_then_examples(crossed):
    weights = hierarchical_weights(3, 11, resamples=400, crossed=crossed)
    assert weights.shape == (400, 3, 11)
    per_seed = weights.sum(2)
    assert (per_seed.sum(1) == 33).all()
    assert (per_seed % 11 == 0).all(), "a drawn seed brings one whole draw of the examples"
    assert set(np.unique(per_seed / 11)) == {0, 1, 2, 3}


def test_crossed_seeds_share_the_drawn_examples():
    weights = hierarchical_weights(2, 11, resamples=50, crossed=True)
    both = weights[(weights.sum(2) == 11).all(1)]
    assert len(both)
    assert np.array_equal(both[:, 0], both[:, 1])
    apart = hierarchical_weights(2, 11, resamples=50)
    assert not np.array_equal(apart[:, 0], apart[:, 1])


def test_one_seed_is_the_bootstrap_over_examples():
    weights = hierarchical_weights(1, 9, resamples=20)
    assert (weights.sum((1, 2)) == 9).all()


def test_hierarchical_interval_is_wider_where_seeds_differ():
    values = np.array([[0.0] * 50, [1.0] * 50, [0.5] * 50])  # examples agree, seeds do not
    weights = hierarchical_weights(3, 50, resamples=500)
    low, high = interval((weights * values).sum((1, 2)) / weights.sum((1, 2)))
    assert low < 0.2
    assert high > 0.8


def test_interval_is_the_percentiles_and_ignores_nan():
    samples = np.arange(101.0)
    assert interval(samples, 0.9) == pytest.approx((5, 95))
    low, high = interval(np.concatenate([samples, [np.nan] * 50]), 0.9)
    assert (low, high) == pytest.approx((5, 95))


def test_interval_of_nothing_is_nan_without_a_warning(recwarn):
    low, high = interval(np.full((10, 2), np.nan))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert np.isnan(interval(np.zeros((0,)))).all()
    assert not recwarn


def test_interval_covers():
    rng = np.random.default_rng(0)
    weights = bootstrap_weights(60, 500)
    covered = 0
    for _ in range(300):
        low, high = interval(weights @ rng.exponential(size=60) / 60)
        covered += low <= 1 <= high
    assert 0.88 <= covered / 300 <= 0.98
