"""Bootstrap weights, intervals of the two kinds, and tests: against values worked out by hand or found in tables."""

from itertools import product
from math import comb

import numpy as np
import pytest

from cr_interp.statistics import (
    bootstrap_weights,
    clopper_pearson,
    cluster_weights,
    holm,
    interval,
    next_seed,
    not_lower,
    ranks,
    same,
    sign_flip,
    t_interval,
    t_test,
)


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


@pytest.mark.parametrize("shape", [(0,), (1,), (40,), (40, 1), (40, 7), (7, 40)])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_ranks_are_scipy_s_bit_for_bit(shape, axis):
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=shape),
        rng.integers(0, 5, shape),
        np.zeros(shape, bool),
        rng.choice([np.inf, -1.0], shape),
    ):
        assert np.array_equal(ranks(values, axis), rankdata(values, axis=axis))
    if values.size:
        values.flat[values.size // 2] = np.nan
        assert np.array_equal(ranks(values, axis), rankdata(values, axis=axis), equal_nan=True)


def test_nothing_to_draw_from():
    assert bootstrap_weights(0, 10).shape == (10, 0)
    assert cluster_weights([], 10).shape == (10, 0)


def test_clusters_are_drawn_whole():
    clusters = ["a", "b", "a", "c", "b", "a"]
    weights = cluster_weights(clusters, 300)
    for name in "abc":
        of = [i for i, each in enumerate(clusters) if each == name]
        assert (weights[:, of] == weights[:, of[:1]]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all(), "as many clusters as there are"


def test_examples_that_are_their_own_clusters_are_drawn_alone():
    assert np.array_equal(cluster_weights(range(7), 50, seed=2), bootstrap_weights(7, 50, seed=2))


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


# -- across: other seeds -------------------------------------------------------------------------------------


def test_t_interval_by_hand():
    """t with 2 degrees of freedom and 97.5 % is 4.302653 (any table); mean 0.12, SD 0.1697, three seeds."""
    values = np.array([0.047, 0.312, 0.0])
    mean, half = values.mean(), 4.302653 * values.std(ddof=1) / np.sqrt(3)
    low, high = t_interval(values)
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-6)
    # 2.570582: five degrees of freedom. A missing seed is no seed.
    values = np.array([1.0, 2, 3, 4, 5, 6, np.nan])
    low, high = t_interval(values)
    assert high - 3.5 == pytest.approx(2.570582 * np.sqrt(3.5 / 6), rel=1e-6)
    assert low == pytest.approx(7 - high)


def test_one_seed_has_no_interval_and_no_p(recwarn):
    assert np.isnan(t_interval(np.array([0.3]))).all()
    assert np.isnan(t_interval(np.array([[0.3], [np.nan]]))).all()
    assert np.isnan([t_test(np.array([0.3])), sign_flip(np.array([0.3])), t_test(np.array([]))]).all()
    assert not recwarn


def test_t_test_is_the_interval_s_other_side():
    rng = np.random.default_rng(3)
    for n in (2, 3, 5, 10):
        values = rng.normal(0.1, 0.1, n)
        low, high = t_interval(values)
        for shift in (float(low), float(high)):
            assert t_test(values - shift) == pytest.approx(0.05, abs=1e-9)
    assert t_test(np.zeros(3)) == 1
    assert t_test(np.array([-2.0, -1.0, 3.0])) == pytest.approx(1)


def test_sign_flips_are_counted_exactly():
    for values in ([0.1, 0.2, 0.3], [0.5, -0.1, 0.2, 0.0], [0.1] * 5):
        sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=len(values))]
        expected = np.mean([each >= abs(sum(values)) - 1e-12 for each in sums])
        assert sign_flip(np.array(values)) == pytest.approx(expected)
    assert sign_flip(np.array([0.3, 0.1, 0.2])) == 2 / 8
    assert sign_flip(np.array([1.0] * 10)) == 2 / 2**10
    assert sign_flip(np.zeros(4)) == 1
    assert 0 < sign_flip(np.ones(20)) < 1e-3, "drawn, not counted"


# -- no events -----------------------------------------------------------------------------------------------


def test_clopper_pearson_is_where_the_binomial_tails_are():
    for k, n in ((0, 256), (3, 40), (17, 20), (12, 12)):
        low, high = clopper_pearson(k, n)
        below = sum(comb(n, i) * high**i * (1 - high) ** (n - i) for i in range(k + 1))
        above = sum(comb(n, i) * low**i * (1 - low) ** (n - i) for i in range(k, n + 1))
        assert (k == n and high == 1) or below == pytest.approx(0.025)
        assert (k == 0 and low == 0) or above == pytest.approx(0.025)
    assert clopper_pearson(0, 256)[1] == pytest.approx(1 - 0.025 ** (1 / 256))
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_the_next_seed_by_laplace_s_rule():
    """After no event in N of the same chance, all of the next m are without: (N + 1)/(N + m + 1)."""
    for seeds, n in ((3, 256), (3, 22), (10, 56)):
        low, high = next_seed(0, seeds * n, n)
        chance, reached = 1.0, 0.0
        for k in range(n + 1):  # P(K = k) = C(m, k) B(k + 1, N + m − k + 1) / B(1, N + 1), step by step
            chance = (
                (seeds * n + 1) / (seeds * n + n + 1)
                if k == 0
                else chance * (n - k + 1) / (seeds * n + n - k + 1)
            )
            reached += chance
            if reached >= 0.975:
                break
        assert (low, high) == (0, max(k, 1) / n)
    assert next_seed(0, 10_000, 10)[1] == 0.1, "one event is always allowed for"
    assert next_seed(768, 768, 256) == pytest.approx((1 - 2 / 256, 1))
    low, high = next_seed(384, 768, 256)
    assert low < 0.5 < high
    assert np.isnan(next_seed(0, 0, 0)).all()


# -- several tests, and no difference ------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    adjusted = holm([0.02, np.nan, 0.01])
    assert adjusted[[0, 2]].tolist() == pytest.approx([0.02, 0.02])
    assert np.isnan(adjusted[1])
    assert holm([]).shape == (0,)


def test_no_loss_is_a_margin_not_an_interval_that_touches_zero():
    assert not_lower(-0.02)
    assert not not_lower(-0.021)
    assert not not_lower(float("nan"))
    assert same(-0.01, 0.02)
    assert not same(-0.01, 0.03)
    assert not same(-0.3, 0.3), "a wide interval around 0 is no evidence of no difference"
    assert not same(float("nan"), float("nan"))
