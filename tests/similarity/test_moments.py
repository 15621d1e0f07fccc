"""Streaming CKA against its definition, and everything it must not depend on."""

import itertools
import math
import re

import numpy as np
import pytest
import torch

from cr_interp.similarity import PairMoments, cka, weighted_cka

torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def related(n: int, p: int, q: int, noise: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = normal(n, p, seed=seed)
    return x, x @ normal(p, q, seed=seed + 1) + noise * normal(n, q, seed=seed + 2)


def u_statistic(k: torch.Tensor, l: torch.Tensor, w: list[float] | None = None) -> float:  # noqa: E741
    """HSIC₁ as a sum over all ordered tuples of distinct rows, each index with its weight."""
    n = len(k)
    w = w or [1.0] * n
    k, l = k.tolist(), l.tolist()  # noqa: E741
    t2 = e2 = t3 = e3 = t4 = e4 = 0.0
    for i, j in itertools.permutations(range(n), 2):
        t2, e2 = t2 + w[i] * w[j] * k[i][j] * l[i][j], e2 + w[i] * w[j]
    for i, j, q in itertools.permutations(range(n), 3):
        t3, e3 = t3 + w[i] * w[j] * w[q] * k[i][j] * l[i][q], e3 + w[i] * w[j] * w[q]
    for i, j, q, r in itertools.permutations(range(n), 4):
        weight = w[i] * w[j] * w[q] * w[r]
        t4, e4 = t4 + weight * k[i][j] * l[q][r], e4 + weight
    return t2 / e2 - 2 * t3 / e3 + t4 / e4


def correlation(of, k, l, *more) -> float:  # noqa: E741
    return of(k, l, *more) / math.sqrt(of(k, k, *more) * of(l, l, *more))


def gram_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Debiased CKA from U-centred float64 Gram matrices, a third way to write it."""

    def u_centred(rows):
        k = (rows - rows.mean(0)).double()
        k = (k @ k.T).fill_diagonal_(0)
        n = len(k)
        s = k.sum(0)
        k = k - (s[:, None] + s[None, :]) / (n - 2) + s.sum() / ((n - 1) * (n - 2))
        return k.fill_diagonal_(0)

    k, l = u_centred(x.double()), u_centred(y.double())  # noqa: E741
    return ((k * l).sum() / (k.norm() * l.norm())).item()


@pytest.mark.parametrize("n", [4, 5, 8])
def test_debiased_is_the_u_statistic(n):
    x, y = related(n, 3, 5)
    moments = PairMoments()
    moments.update(x, y)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    hsic = moments.hsic()
    for mine, theirs in zip(hsic, (u_statistic(k, l), u_statistic(k, k), u_statistic(l, l)), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10)
    assert moments.cka() == pytest.approx(correlation(u_statistic, k, l), abs=1e-10)


def test_biased_is_the_definition():
    x, y = related(30, 3, 5)
    xc, yc = x - x.mean(0), y - y.mean(0)
    expected = (xc.T @ yc).square().sum() / ((xc.T @ xc).norm() * (yc.T @ yc).norm())
    assert cka(x, y, debiased=False) == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(("n", "p", "q"), [(50, 3, 7), (20, 64, 32), (3000, 5, 4)])
def test_against_grams(n, p, q):
    x, y = related(n, p, q)
    assert cka(x, y) == pytest.approx(gram_cka(x, y), abs=1e-10)


@pytest.mark.parametrize("debiased", [True, False])
def test_invariances(debiased):
    x, y = related(40, 6, 5)
    rotation = torch.linalg.qr(normal(5, 5, seed=9)).Q
    before = cka(x, y, debiased)
    assert cka(x, y @ rotation, debiased) == pytest.approx(before, abs=1e-10)
    assert cka(1e-6 * x, 1e4 * y, debiased) == pytest.approx(before, abs=1e-10)
    assert cka(x + 3, y - normal(5, seed=4), debiased) == pytest.approx(before, abs=1e-10)
    assert cka(y, x, debiased) == pytest.approx(before, abs=1e-12)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert cka(x[order], y[order], debiased) == pytest.approx(before, abs=1e-10)
    assert cka(x, x, debiased) == pytest.approx(1, abs=1e-12)


def test_shift_larger_than_the_signal():
    x, y = related(40, 6, 5)
    assert cka(x + 1e5, y - 1e5) == pytest.approx(cka(x, y), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_do_not_matter(dtype):
    x, y = (side.to(dtype) for side in related(2500, 7, 4))
    whole = PairMoments()
    whole.update(x, y)
    for size in (1, 33, 1024, 2499):
        pieces = PairMoments()
        for start in range(0, len(x), size):
            pieces.update(x[start : start + size], y[start : start + size])
        assert pieces.n == 2500
        assert pieces.cka() == pytest.approx(whole.cka(), rel=1e-12)


def test_chunks_do_not_matter_in_float64():
    x, y = related(2500, 7, 4)
    values = []
    for chunk in (10, 1024, 5000):
        moments = PairMoments(chunk)
        moments.update(x, y)
        values.append(moments.cka())
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("chunk", [10, 1024])
def test_merge_with_different_pilots(chunk):
    """A small chunk makes the pilot differ from the mean, so that no term of the shift vanishes."""
    x, y = related(900, 7, 4)
    x[600:] += 3.0
    y[600:] *= 2.0
    whole = PairMoments()
    whole.update(x, y)
    for cut in (1, 3, 600):
        first, second = PairMoments(chunk), PairMoments(chunk)
        first.update(x[:cut], y[:cut])
        second.update(x[cut:], y[cut:])
        untouched = second.cka()
        first.merge(second)
        assert first.n == 900
        assert first.cka() == pytest.approx(whole.cka(), rel=1e-12)
        assert first.hsic() == pytest.approx(whole.hsic(), rel=1e-12)
        assert second.cka() == untouched


def test_merge_into_and_of_an_empty_one():
    x, y = related(50, 3, 3)
    one, empty = PairMoments(), PairMoments()
    one.update(x, y)
    one.merge(PairMoments())
    empty.merge(one)
    assert one.cka() == empty.cka() == cka(x, y)
    empty.update(x + 1, y)
    assert one.cka() == cka(x, y), "merging copies"


def test_reading_does_not_disturb_the_stream():
    x, y = related(100, 3, 3)
    moments = PairMoments()
    for start in range(0, 100, 10):
        moments.update(x[start : start + 10], y[start : start + 10])
        moments.cka()
    assert moments.cka() == pytest.approx(cka(x, y), rel=1e-12)


def test_the_caller_may_reuse_its_buffer():
    x, y = related(10, 3, 3)
    moments, buffer = PairMoments(), x.clone()
    moments.update(buffer, y)
    buffer.zero_()
    assert moments.cka() == cka(x, y)


def test_a_massive_mean_costs_no_digits():
    """Float32 rows with a common component 10⁴ times their signal; the truth is of the same rounded rows."""
    x = 1e4 + normal(1500, 32, dtype=torch.float32)
    y = x + 0.05 * normal(1500, 32, seed=5, dtype=torch.float32)
    x64, y64 = x.double(), y.double()
    truth = gram_cka(x64 - x64.mean(0), y64 - y64.mean(0))
    assert 1e-4 < 1 - truth < 1e-2
    assert 1 - cka(x, y) == pytest.approx(1 - truth, abs=1e-6)


def test_half_precision_is_computed_in_float32():
    x, y = related(60, 4, 4)
    x, y = x.bfloat16(), y.bfloat16()
    assert cka(x, y) == pytest.approx(cka(x.double(), y.double()), abs=1e-6)


def test_independent_data_scatter_around_zero():
    values = np.array([cka(normal(64, 128, seed=2 * s), normal(64, 128, seed=2 * s + 1)) for s in range(60)])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / math.sqrt(60)
    assert (values < 0).any(), "never clamped"
    assert cka(normal(64, 128), normal(64, 128, seed=1), debiased=False) > 0.5, "what debiasing is for"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_undefined_is_nan_with_a_reason(dtype):
    x, y = (side.to(dtype) for side in related(30, 3, 3))
    single = torch.zeros_like(x)
    single[7] = 1
    for one, other, words in (
        (x[:3], y[:3], "3 rows.*at least 4"),
        (x[:0], y[:0], "0 rows"),
        (torch.full_like(x, 0.1), y, "first side's features are constant"),
        (x, torch.full_like(y, 1e4), "second side's features are constant"),
        (x, torch.zeros_like(y), "second side's features are constant"),
        (single, y, "first side varies in a single row"),
        (x * torch.inf, y, "first side's rows are not finite"),
    ):
        moments = PairMoments()
        moments.update(one, other)
        estimate = moments.estimate()
        assert math.isnan(estimate.value)
        assert math.isnan(moments.cka())
        assert re.search(words, estimate.reason)
    assert PairMoments().estimate(debiased=False).reason
    good = PairMoments()
    good.update(x, y)
    assert good.estimate().reason is None


def test_wrong_shapes():
    with pytest.raises(ValueError, match="equally many rows"):
        PairMoments().update(normal(3, 2), normal(4, 2))


# -- weighted ------------------------------------------------------------------------------------------------


def test_weights_of_one_are_debiased_cka():
    x, y = related(20, 3, 5)
    xc, yc = x - x.mean(0), y - y.mean(0)
    value = weighted_cka(xc @ xc.T, yc @ yc.T, torch.ones(1, 20, dtype=torch.float64))
    assert value.item() == pytest.approx(cka(x, y), abs=1e-10)


def test_weighted_is_the_weighted_u_statistic():
    x, y = related(7, 3, 5)
    xc, yc = x - x.mean(0), y - y.mean(0)
    k, l = xc @ xc.T, yc @ yc.T  # noqa: E741
    w = [[2, 0, 1, 3, 0, 1, 1], [1, 1, 1, 1, 1, 1, 0], [0.5, 1.5, 1, 1, 2, 0, 1]]
    values = weighted_cka(k, l, torch.tensor(w, dtype=torch.float64)).tolist()
    assert values == pytest.approx([correlation(u_statistic, k, l, row) for row in w], abs=1e-10)


def test_rows_of_a_group_share_their_weight():
    x, y = related(9, 3, 5)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    group = torch.tensor([2, 0, 0, 1, 1, 1, 2, 3, 0])
    w = torch.tensor([[2, 0, 1, 3], [1, 1, 2, 0]], dtype=torch.float64)
    grouped = weighted_cka(k, l, w, group)
    assert grouped.tolist() == pytest.approx(weighted_cka(k, l, w[:, group]).tolist(), abs=1e-12)


def test_too_few_distinct_rows_are_nan():
    x, y = related(6, 3, 5)
    w = torch.tensor([[2, 2, 2, 0, 0, 0], [1, 1, 1, 1, 0, 0]], dtype=torch.float64)
    values = weighted_cka(x @ x.T, y @ y.T, w)
    assert values.isnan().tolist() == [True, False]
