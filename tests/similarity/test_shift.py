"""The share of the movement that is common to all tokens: not raised by the movements' own lengths."""

import itertools
import math

import numpy as np
import pytest
import torch

from cr_interp.similarity import DriftAccumulator, panel
from cr_interp.similarity.shift import shift_share

torch.set_num_threads(1)


@pytest.mark.parametrize("copies", [[0, 1, 2, 3], [0, 0, 2, 3], [1, 1, 1, 3]])
def test_equals_the_mean_over_pairs_of_distinct_units(copies):
    generator = torch.Generator().manual_seed(0)
    lengths = [2, 1, 3, 2]
    moved = [torch.randn(n, 3, generator=generator).double() + 0.4 for n in lengths]
    drawn = [(unit, row) for unit in copies for row in moved[unit]]
    pairs = [float(a @ b) for (u, a), (v, b) in itertools.permutations(drawn, 2) if u != v]
    expected = np.mean(pairs) / np.mean([float(row @ row) for _, row in drawn])
    found = shift_share(
        torch.stack([rows.sum(0) for rows in moved]),
        torch.tensor(lengths).double(),
        torch.stack([rows.square().sum() for rows in moved]),
        torch.bincount(torch.tensor(copies), minlength=4).double()[None],
    )
    assert found.item() == pytest.approx(expected, rel=1e-12)


def shares(clusters=None, examples: int = 24, cluster: int = 1):
    found = []
    for seed in range(120):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(examples * 3, 6, generator=generator)
        of_cluster = torch.randn(examples // cluster, 6, generator=generator).repeat_interleave(3 * cluster, 0)
        y = x + of_cluster + torch.randn(examples * 3, 6, generator=generator)
        drift = DriftAccumulator(6, measures=("shift_share",))
        drift.update(x, y, torch.arange(examples).repeat_interleave(3))
        found.append(drift.finish(20, clusters=clusters)[0]["estimate"])
    return np.array(found)


def test_examples_that_move_each_their_own_way_have_no_common_shift():
    found = shares()
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(len(found))
    assert found.min() < 0, "never clamped"


def test_clusters_that_move_each_their_own_way_have_none_either():
    clusters = [one // 4 for one in range(24)]
    found = shares(clusters, cluster=4)
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(len(found))
    assert shares(None, cluster=4).mean() > 0.04, "without them, the frames of one phrase are a common shift"


def test_unrelated_tokens_go_round_in_a_circle():
    """The next response's state minus this one's sums to nothing, whatever the states: there is no share to speak of."""
    x = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    table = panel(
        {0: x}, {0: x + torch.randn(90, 6)}, torch.arange(30).repeat_interleave(3), measures=("shift_share",)
    )
    given, floor = (table[table["control"] == control].iloc[0] for control in ("given", "floor"))
    assert math.isfinite(given["estimate"])
    assert math.isnan(floor["estimate"])
    assert math.isnan(floor["low"])
    assert "by construction" in floor["reason"]
