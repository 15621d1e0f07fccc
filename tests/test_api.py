"""The public names: they exist, they are loaded late, their examples run as written."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cr_interp as cr
from cr_interp import similarity
from cr_interp.capture import states_of
from cr_interp.similarity import arrays


def test_every_public_name_is_there_and_says_what_it_is():
    for name in cr.__all__:
        assert getattr(cr, name).__doc__, name
    assert set(cr.__all__) <= set(dir(cr))
    with pytest.raises(AttributeError, match="has no attribute 'nonesuch'"):
        cr.nonesuch  # noqa: B018


def test_every_public_name_is_documented():
    page = (Path(__file__).resolve().parents[1] / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in cr.__all__ if f"`{name}`" not in page] == []


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, cr_interp; print([m for m in ('torch', 'transformers', 'pandas', 'plotly') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("module", [cr, states_of, arrays], ids=lambda module: module.__name__)
def test_the_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_arrays_are_taken_wherever_tensors_are():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    group = torch.arange(40) // 4
    a, b, g = x.numpy(), y.numpy(), group.numpy()
    assert cr.cka(a, b) == cr.cka(x, y)
    assert cr.cka(a, b, groups=g) == cr.cka(x, y, groups=group)
    assert cr.knn_overlap(a, b, k=3) == cr.knn_overlap(x, y, k=3)
    np.testing.assert_array_equal(cr.cka_map([a, b], [a, b]), cr.cka_map([x, y], [x, y]))
    np.testing.assert_array_equal(cr.cka_map({0: a, 1: b}, {0: a, 1: b}), cr.cka_map([x, y], [x, y]))
    of_arrays, of_tensors = cr.panel({0: a}, {0: b}, g), cr.panel({0: x}, {0: y}, group)
    np.testing.assert_array_equal(of_arrays["estimate"], of_tensors["estimate"])
    moments, same = cr.PairMoments(), cr.PairMoments()
    moments.update(a, b)
    same.update(x, y)
    assert moments.cka() == same.cka()


def test_streams_take_arrays_too():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    group, keep = torch.arange(40) // 4, torch.arange(40) != 7
    of_arrays, of_tensors = (similarity.DriftAccumulator(6) for _ in range(2))
    of_arrays.update(x.numpy(), y.numpy(), group.numpy(), keep.numpy())
    of_tensors.update(x, y, group, keep)
    assert [row["estimate"] for row in of_arrays.finish()] == [row["estimate"] for row in of_tensors.finish()]
    maps, same = (similarity.CkaMapAccumulator(2, 1) for _ in range(2))
    maps.update([x.numpy(), y.numpy()], [y.numpy()])
    same.update([x, y], [y])
    np.testing.assert_array_equal(maps.finish(), same.finish())
    assert torch.equal(similarity.not_sinks(x.numpy(), y.numpy()), similarity.not_sinks(x, y))
    grams, weights = (x @ x.T, y @ y.T), torch.ones(2, 40, dtype=torch.float64)
    found = similarity.weighted_cka(*(each.numpy() for each in grams), weights.numpy())
    assert torch.equal(found, similarity.weighted_cka(*grams, weights))


def test_a_panel_is_drawn_as_it_is():
    states = {
        layer: torch.randn(30, 5, generator=torch.Generator().manual_seed(layer + 2)) for layer in (-1, 0, 1)
    }
    moved = {layer: each + 0.1 * layer for layer, each in states.items()}
    table = cr.panel(states, moved, torch.arange(30) // 3)
    figure = cr.drift_by_layer(table)
    drawn = next(trace for trace in figure.data if trace.name == "states")
    expected = table[(table["measure"] == "cosine") & (table["control"] == "given")].set_index("layer")[
        "estimate"
    ]
    np.testing.assert_allclose(drawn.y, [expected[-1], expected[0], expected[1]])
