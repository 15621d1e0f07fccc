"""CKA against its definition, its invariances, and its behaviour on unrelated data."""

import itertools
import math

import numpy as np
import pytest
import torch

from cr_interp.similarity import PairMoments, cka, group_cka, weighted_example_cka

torch.set_num_threads(1)


def draw(n: int, width: int, seed: int, mix: torch.Tensor | None = None) -> torch.Tensor:
    rows = torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rows if mix is None else rows + mix


def four_tuples(k: torch.Tensor, l_: torch.Tensor) -> float:
    """HSIC as the mean of its kernel over all ordered 4-tuples of distinct rows (Song et al. 2012, eq. 3 ff.)."""
    total, count = 0.0, 0
    for i, j, q, r in itertools.permutations(range(len(k)), 4):
        total += float(k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q]))
        count += 1
    return total / count


def test_row_level_equals_the_four_tuple_statistic():
    x = draw(8, 3, 0)
    y = draw(8, 4, 1)
    y[:, :3] += x
    k, l_ = x @ x.T, y @ y.T
    expected = four_tuples(k, l_) / math.sqrt(four_tuples(k, k) * four_tuples(l_, l_))
    assert cka(x, y) == pytest.approx(expected, abs=1e-10)
    moments = PairMoments()
    moments.update(x, y)
    assert moments.hsic()[0] == pytest.approx(four_tuples(k, l_), abs=1e-10)


def of_examples(k: torch.Tensor, l_: torch.Tensor, g: int, t: int) -> float:
    """The same over 4-tuples of distinct examples, averaged over a token of each."""
    total, count = 0.0, 0
    for chosen in itertools.permutations(range(g), 4):
        for tokens in itertools.product(range(t), repeat=4):
            i, j, q, r = (one * t + token for one, token in zip(chosen, tokens, strict=True))
            total += float(k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q]))
            count += 1
    return total / count


def test_example_level_equals_the_definition_by_distinct_examples():
    g, t = 5, 2
    groups = torch.arange(g).repeat_interleave(t)
    x = draw(g * t, 3, 0) + draw(g, 3, 2)[groups]
    y = draw(g * t, 3, 1, 0.5 * x)
    k, l_ = x @ x.T, y @ y.T
    expected = of_examples(k, l_, g, t) / math.sqrt(of_examples(k, k, g, t) * of_examples(l_, l_, g, t))
    order = torch.randperm(g * t, generator=torch.Generator().manual_seed(0))
    assert cka(x, y, groups=groups) == pytest.approx(expected, abs=1e-10)
    # Rows in another order, and the Gram form of the same statistic.
    shuffled = torch.argsort(groups[order], stable=True)
    again = order[shuffled]
    assert cka(x[again], y[again], groups=groups) == pytest.approx(expected, abs=1e-10)
    gram = weighted_example_cka(k, l_, torch.ones(1, g, dtype=torch.float64), t).item()
    assert gram == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("groups", [None, torch.arange(20).repeat_interleave(3)])
def test_invariances(groups):
    x = draw(60, 6, 0)
    y = draw(60, 6, 1, 0.7 * x)
    rotation = torch.linalg.qr(draw(6, 6, 2)).Q
    value = cka(x, y, groups=groups)
    assert cka(x @ rotation, y, groups=groups) == pytest.approx(value, abs=1e-10)
    assert cka(17 * x, 0.01 * y, groups=groups) == pytest.approx(value, abs=1e-10)
    assert cka(x + 5, y - 3, groups=groups) == pytest.approx(value, abs=1e-10)
    assert cka(x, x, groups=groups) == pytest.approx(1, abs=1e-12)


def test_merging_and_chunking_change_nothing():
    x = draw(500, 7, 0)
    y = draw(500, 7, 1, x)
    whole = PairMoments()
    whole.update(x, y)
    for chunk, cuts in ((16, (100, 101, 350)), (64, (3, 250)), (2048, (499,))):
        parts = []
        for piece in torch.tensor_split(torch.arange(500), cuts):
            one = PairMoments(chunk)
            one.update(x[piece], y[piece])
            parts.append(one)
        for other in parts[1:]:
            parts[0].merge(other)
        for name in ("cosine", "norm_ratio", "mean_shift_share", "procrustes", "subspace_overlap"):
            found = parts[0].measure(name, k=3).value
            assert found == pytest.approx(whole.measure(name, k=3).value, rel=1e-11), name
        assert parts[0].cka() == pytest.approx(whole.cka(), abs=1e-12)
        assert parts[0].cka(debiased=False) == pytest.approx(whole.cka(debiased=False), abs=1e-12)


def test_massive_dimensions_cost_no_digits():
    """A mean 10⁴ times the signal, in float32: 1 − CKA is right to 1e-6."""
    x = draw(3000, 32, 0)
    y = draw(3000, 32, 1) * 0.05 + x
    mean = 1e4 * draw(1, 32, 2).abs()
    x32, y32 = (x + mean).float(), (y + mean).float()
    # What float32 already lost in the data is not the statistic's fault: the truth is that of the rounded rows.
    a, b = x32.double() - x32.double().mean(0), y32.double() - y32.double().mean(0)
    truth = cka(a, b)
    moments = PairMoments()
    for start in range(0, 3000, 100):
        moments.update(x32[start : start + 100], y32[start : start + 100])
    assert abs((1 - moments.cka()) - (1 - truth)) < 1e-6
    groups = torch.arange(1000).repeat_interleave(3)
    assert abs(cka(x32, y32, groups=groups) - cka(a, b, groups=groups)) < 1e-6


@pytest.mark.parametrize("grouped", [False, True])
def test_unrelated_gaussians_scatter_around_zero(grouped):
    values = []
    for seed in range(150):
        x, y = draw(40, 30, 2 * seed), draw(40, 30, 2 * seed + 1)
        groups = None
        if grouped:  # tokens of one example are alike in both views, and still nothing is shared
            groups = torch.arange(20).repeat_interleave(2)
            x, y = (
                x[groups] + 0.3 * draw(40, 30, 2 * seed + 7001),
                y[groups] + 0.3 * draw(40, 30, 2 * seed + 9002),
            )
        values.append(cka(x, y, groups=groups))
    assert min(values) < 0, "never clamped"
    assert abs(np.mean(values)) < 3 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_responses_of_different_length_give_as_many_tokens_as_the_shortest_has():
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4])
    x = draw(13, 4, 0)
    y = draw(13, 4, 1, x)
    ends = torch.tensor([0, 3, 4, 5, 6, 8, 9, 10, 11, 12])
    assert group_cka(x, y, groups).value == pytest.approx(
        group_cka(x[ends], y[ends], groups[ends]).value, abs=1e-12
    )


def test_undefined_says_why():
    x = draw(12, 4, 0)
    groups = torch.arange(3).repeat_interleave(4)
    assert "3 examples" in str(group_cka(x, x, groups).reason)
    groups = torch.arange(6).repeat_interleave(2)
    assert "constant" in str(group_cka(torch.full_like(x, 0.1), x, groups).reason)
    bad = x.clone()
    bad[0, 0] = math.nan
    assert "not finite" in str(group_cka(bad, x, groups).reason)
    assert math.isnan(cka(bad, x, groups=groups))
    with pytest.raises(ValueError, match="debiased"):
        cka(x, x, debiased=False, groups=groups)


def test_examples_that_do_not_differ_have_no_similarity():
    groups = torch.arange(6).repeat_interleave(2)
    x = draw(12, 4, 0)
    single = torch.zeros_like(x)
    single[4:6] = 1  # HSIC is 0 up to rounding if one example alone differs
    assert "does not vary between distinct examples" in str(group_cka(single, x, groups).reason)
    with pytest.raises(ValueError, match="a group per pair of rows"):
        group_cka(x, x, groups[:5])
