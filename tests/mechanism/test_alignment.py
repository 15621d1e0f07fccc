"""Agreement of gradients against closed forms: groups whose inner products are written by hand."""

import numpy as np
import pytest

from cr_interp.mechanism.alignment import measured

N = 8


def products(signal, noise):
    """Of a[i] = s + e[i], with ‖s‖² = ``signal`` and orthogonal e[i] of ‖e[i]‖² = ``noise``."""
    return np.full((N, N), float(signal)) + noise * np.eye(N)


def value(aa, ab, bb, measure, one=False):
    return measured(aa, ab, bb, measure, one)[0]


def test_a_term_with_itself_on_the_other_half():
    a = products(1.0, 3.0)  # a half is 4 s + four e: 16 of 16 + 4·3
    assert value(a, a, a, "cosine_halves", True) == pytest.approx(16 / 28)
    assert value(a, a, a, "norm", True) == pytest.approx((64 + 24) ** 0.5)
    assert value(a, a, a, "cosine") == pytest.approx(1.0)


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.3, 1.0])
def test_the_correction_gives_the_cosine_back_whatever_the_noise(cosine):
    a, b = products(1.0, 3.0), products(4.0, 20.0)
    ab = np.full((N, N), 2.0 * cosine)
    assert value(a, ab, b, "cosine_corrected") == pytest.approx(cosine)
    assert value(a, ab, b, "cosine_halves") == pytest.approx(cosine * (16 / 28 * 64 / (64 + 80)) ** 0.5)


def test_noise_that_both_share_counts_on_the_same_examples_only():
    a = products(1.0, 3.0)
    ab = 3.0 * np.eye(N)  # signals orthogonal, noise the same
    assert value(a, ab, a, "cosine") == pytest.approx(24 / 88)
    assert value(a, ab, a, "cosine_halves") == pytest.approx(0.0)
    assert value(a, ab, a, "cosine_corrected") == pytest.approx(0.0)


def test_a_term_that_does_not_agree_with_itself_has_no_corrected_cosine():
    a = products(0.0, 1.0)
    assert np.isnan(value(a, a, a, "cosine_corrected"))


def test_the_interval_is_the_jackknifes():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, N, 50)) + rng.normal(size=50)
    estimate, low, high = measured(a @ a.T, a @ b.T, b @ b.T, "cosine")
    assert estimate == pytest.approx(a.sum(0) @ b.sum(0) / np.linalg.norm(a.sum(0)) / np.linalg.norm(b.sum(0)))
    left_out = []
    for k in range(N):
        x, y = np.delete(a, k, 0).sum(0), np.delete(b, k, 0).sum(0)
        left_out.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    reach = 2.364624 * ((N - 1) / N * ((np.array(left_out) - np.mean(left_out)) ** 2).sum()) ** 0.5
    assert high - low == pytest.approx(2 * reach, rel=1e-4) or high == 1.0
    assert estimate - low == pytest.approx(reach, rel=1e-4)


def test_two_groups_have_no_interval():
    a = np.eye(2) + 1
    assert np.isnan(measured(a, a, a, "cosine_halves", True)[1:]).all()
