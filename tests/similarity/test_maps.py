"""Layer × layer maps against CKA pair by pair."""

import math

import numpy as np
import pytest
import torch

from cr_interp.similarity import CkaMapAccumulator, cka, cka_map, group_cka
from cr_interp.similarity.samples import RowSample

torch.set_num_threads(1)


def layers(n: int, seed: int = 0, count: int = 3) -> list[torch.Tensor]:
    """Layers of different width that each keep part of the one before."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(n, 8, generator=generator) + 50]
    for index in range(1, count):
        width = 8 + 2 * index
        into = torch.randn(found[-1].shape[1], width, generator=generator) / 3
        found.append(found[-1] @ into + 0.5 * torch.randn(n, width, generator=generator))
    return found


def pairwise(left, right):
    return np.array([[cka(a.double(), b.double()) for b in right] for a in left])


def test_one_batch_is_cka_of_every_pair():
    x, y = layers(200), layers(200, 1)
    y[1] = x[1] + 0.1
    assert cka_map(x, y, batch=256) == pytest.approx(pairwise(x, y), abs=1e-6)


def test_within_a_checkpoint_it_is_symmetric_with_ones():
    x = layers(700)
    found = cka_map(x, x)
    assert np.diag(found) == pytest.approx(1, abs=1e-6)
    assert found == pytest.approx(found.T, abs=1e-6)
    assert found == pytest.approx(cka_map(x, [layer.clone() for layer in x]), abs=1e-6)


def test_batches_estimate_the_same():
    x = layers(6000)
    assert cka_map(x, x, batch=256) == pytest.approx(pairwise(x, x), abs=0.02)


def test_a_stream_is_one_call_and_merging_adds():
    x, y = layers(3000), layers(3000, 1)
    one = CkaMapAccumulator(3, 3, batch=128)
    two = CkaMapAccumulator(3, 3, batch=128, seed=1)
    for start in range(0, 3000, 40):
        part = [[layer[start : start + 40] for layer in side] for side in (x, y)]
        (one if start < 1500 else two).update(*part)
    one.merge(two)
    assert one.n == 3000
    assert one.finish() == pytest.approx(pairwise(x, y), abs=0.03)


def test_unrelated_layers_are_zero_in_the_mean():
    values = [cka_map([torch.randn(64, 40)], [torch.randn(64, 40)], batch=32)[0, 0] for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))


def test_undefined_says_why():
    few = CkaMapAccumulator(1, 1)
    few.update([torch.randn(3, 4)], [torch.randn(3, 4)])
    assert np.isnan(few.finish()).all()
    assert "3 rows" in str(few.reason)
    constant = CkaMapAccumulator(2, 1)
    constant.update([torch.randn(50, 4), torch.full((50, 4), 0.1)], [torch.randn(50, 4)])
    assert np.isnan(constant.finish()).tolist() == [[False], [True]]
    assert "constant" in str(constant.reason)
    with pytest.raises(ValueError, match="equally many rows"):
        few.update([torch.randn(3, 4)], [torch.randn(4, 4)])
    with pytest.raises(ValueError, match="at least 4"):
        CkaMapAccumulator(1, 1, batch=2)


@pytest.mark.parametrize("step", [7, 100, 1000])
def test_how_the_stream_is_cut_does_not_matter(step):
    x, y = layers(1500), layers(1500, 1)
    whole, pieces = (CkaMapAccumulator(3, 3, batch=64) for _ in range(2))
    whole.update(x, y)
    for start in range(0, 1500, step):
        pieces.update(*([layer[start : start + step] for layer in side] for side in (x, y)))
        if start < 3 * step:
            pieces.finish()  # reading does not disturb the stream
    assert pieces.finish() == pytest.approx(whole.finish(), abs=1e-12)
    assert cka_map(x, y, batch=64) == pytest.approx(whole.finish(), abs=1e-12)
    other = cka_map(x, y, batch=64, seed=1)
    assert other != pytest.approx(whole.finish(), abs=1e-9), "the seed shuffles"


def test_a_massive_mean_costs_no_digits():
    x = [layer + 1e4 for layer in layers(200)]
    y = [layer + 0.1 * torch.randn_like(layer) for layer in x]
    assert cka_map(x, y) == pytest.approx(pairwise(x, y), abs=2e-6)


def test_one_side_cannot_become_two():
    x = layers(20)
    maps = CkaMapAccumulator(3, 3)
    maps.update(x, x)
    with pytest.raises(ValueError, match="same layers on both sides"):
        maps.update(x, layers(20, 1))
    with pytest.raises(ValueError, match="shape"):
        maps.merge(CkaMapAccumulator(2, 3))


def views_of_responses(responses: int, tokens: int, width: int, seed: int):
    """A view whose tokens resemble those of the same response, as hidden states do."""
    generator = torch.Generator().manual_seed(seed)
    effect = torch.randn(responses, 1, width, generator=generator)
    return (effect + 0.6 * torch.randn(responses, tokens, width, generator=generator)).flatten(0, 1)


def test_a_map_of_long_responses_is_drawn_from_all_of_them():
    """Independent views of 256 responses of 512 tokens, response by response: the row-level value, which is low."""
    x, y = (views_of_responses(256, 512, 24, seed) for seed in (0, 1))
    maps = CkaMapAccumulator(1, 1)
    for start in range(0, len(x), 2048):
        maps.update([x[start : start + 2048]], [y[start : start + 2048]])
    expected = cka(x, y)
    assert expected < 0.3
    assert maps.finish()[0, 0] == pytest.approx(expected, abs=0.02)


def test_the_sample_is_uniform_and_holds_the_same_rows_of_every_layer():
    sample = RowSample(100, seed=3)
    for start in range(0, 1000, 37):
        rows = torch.arange(start, min(start + 37, 1000)).double()[:, None]
        sample.offer([rows, -rows])
    first, second = (slots[sample.order(), 0] for slots in sample.slots)
    assert (first == -second).all()
    assert len(set(first.tolist())) == 100
    assert abs(first.mean() - 500) < 5 * 289 / 10
    whole = RowSample(100, seed=3)
    whole.offer([torch.arange(1000).double()[:, None]] * 2)
    assert (whole.slots[0][whole.order(), 0] == first).all(), "however the stream was cut"


@pytest.mark.parametrize("within", [True, False])
def test_an_example_level_map_is_example_level_cka_of_every_pair(within):
    groups = torch.arange(11).repeat_interleave(4)
    x, y = layers(44), layers(44, 1)
    y = x if within else [y[0], x[1] + 0.1, y[2]]
    expected = [[group_cka(a.double(), b.double(), groups, 3).value for b in y] for a in x]
    assert cka_map(x, y, groups=groups, tokens=3) == pytest.approx(np.array(expected), abs=1e-6)


def test_in_an_example_level_map_tokens_of_one_response_do_not_count():
    x, y = (views_of_responses(40, 6, 16, seed) for seed in (0, 1))
    groups = torch.arange(40).repeat_interleave(6)
    assert cka_map([x], [y])[0, 0] > cka_map([x], [y], groups=groups)[0, 0] + 0.05
    few = cka_map([x[:18]], [y[:18]], groups=groups[:18])
    assert few.shape == (1, 1)
    assert math.isnan(few[0, 0]), "three examples"
