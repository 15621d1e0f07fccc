"""Is an example-level similarity more than chance? Permutations of the examples, the same in every layer."""

import math

import numpy as np
import pytest
import torch

from cr_interp.similarity import DriftAccumulator, cka, panel
from cr_interp.similarity.permutation import over_layers, p_value

torch.set_num_threads(1)
G, T, WIDTH = 14, 2, 6
EXAMPLE = torch.arange(G).repeat_interleave(T)


def view(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(G, 1, WIDTH, generator=generator) + 0.3 * torch.randn(G, T, WIDTH, generator=generator)
    return rows.flatten(0, 1).double()


def accumulated(x, y, example=EXAMPLE) -> DriftAccumulator:
    drift = DriftAccumulator(WIDTH, measures=("cka_examples",), tokens=T)
    drift.update(x, y, example)
    return drift


def test_a_permuted_value_is_cka_of_the_permuted_states():
    x, y = view(0), view(0) + 0.5 * view(1)
    null = accumulated(x, y).permuted(5)
    for index, value in enumerate(null):
        order = np.argsort(np.random.default_rng([0, index]).random(G))
        moved = y.view(G, T, WIDTH)[torch.from_numpy(order)].flatten(0, 1)
        assert value == pytest.approx(cka(x, moved, groups=EXAMPLE), abs=1e-12)


def test_every_layer_has_the_same_permutations_also_where_an_example_is_left_out():
    x, y = view(0), view(1)
    assert (accumulated(x, y).permuted(6) == accumulated(x, y).permuted(6)).all()
    there = EXAMPLE != G - 1  # the last one: the others keep their order among themselves
    null = accumulated(x[there], y[there], EXAMPLE[there]).permuted(3)
    for index, value in enumerate(null):
        keys = np.random.default_rng([0, index]).random(G - 1)
        moved = y[there].view(G - 1, T, WIDTH)[torch.from_numpy(np.argsort(keys))].flatten(0, 1)
        assert value == pytest.approx(cka(x[there], moved, groups=EXAMPLE[there]), abs=1e-12)


@pytest.mark.slow
def test_p_is_uniform_for_unrelated_views_and_small_for_related_ones():
    layers = {"related": (view(0), view(0) + 0.5 * view(1))}
    layers |= {str(seed): (view(2 * seed), view(2 * seed + 1)) for seed in range(1, 61)}
    found = panel(
        {name: x for name, (x, _) in layers.items()},
        {name: y for name, (_, y) in layers.items()},
        EXAMPLE,
        measures=("cka_examples", "cosine"),
        resamples=10,
        permutations=99,
    )
    rows = found[(found["control"] == "given") & (found["measure"] == "cka_examples")].set_index("layer")
    assert rows.loc["related", "p"] == 0.01
    assert rows.loc["related", "p_layers"] == 0.01
    unrelated = rows.drop("related")
    assert 0.35 < unrelated["p"].mean() < 0.65
    assert (unrelated["p_layers"] >= unrelated["p"]).all()
    assert (unrelated["p_layers"] <= 0.05).sum() <= 1, "of sixty layers, hardly one"
    assert found[found["measure"] == "cosine"]["p"].isna().all()


def test_p_counts_the_estimate_itself_and_looks_at_the_largest_of_all_layers():
    nulls = {"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.5, 0.0, 0.1]), "c": np.full(3, np.nan)}
    assert p_value(0.25, nulls["a"]) == 0.5
    assert p_value(0.9, nulls["a"]) == 0.25
    assert math.isnan(p_value(math.nan, nulls["a"]))
    assert math.isnan(p_value(0.9, np.array([])))
    together = over_layers({"a": 0.25, "b": 0.4, "c": 0.4}, nulls)
    # Relative to each null's mean and SD: a 0.61 and b 0.93 against the maxima 1.39, 0.0, 1.22.
    assert together["a"] == 0.75
    assert together["b"] == 0.75
    assert math.isnan(together["c"])
    assert over_layers({"a": 0.31, "b": 0.0}, {name: nulls[name] for name in "ab"})["a"] == 0.5


def test_a_layer_of_equal_embeddings_does_not_speak_for_the_others():
    """There unrelated examples are alike, by tokens that both have; relative to that, its permutations are not extreme."""
    rng = np.random.default_rng(0)
    nulls = {"embedding": 0.9 + 0.01 * rng.normal(size=199), "block": 0.01 * rng.normal(size=199)}
    found = over_layers({"embedding": 0.95, "block": 0.6}, nulls)
    assert found == {"embedding": 0.005, "block": 0.005}
