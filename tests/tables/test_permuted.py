"""One permutation for all layers: how often it cries wolf, what it finds, and where it equals a count by hand."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from cr_interp.tables.flips_by_drift import flips_by_drift
from cr_interp.tables.patching_claims import patching_claims
from cr_interp.tables.permuted import chances, sign_chances


def names(n, of=1):
    return pd.Series([f"c{i // of}" for i in range(n)])


def test_it_is_the_share_of_all_orders_whose_farthest_layer_is_as_far():
    """Six examples in two layers, by every order of their flips."""
    values = np.array([[3.0, 1.0], [5.0, 2.0], [4.0, 6.0], [1.0, 5.0], [2.0, 3.0], [0.0, 4.0]])
    flipped = np.array([True, True, True, False, False, False])

    def far(flips, column):
        pairs = [
            (a, b)
            for a, f in zip(column, flips, strict=True)
            if f
            for b, g in zip(column, flips, strict=True)
            if not g
        ]
        return abs(np.mean([a > b for a, b in pairs]) - 0.5)

    every = [max(far(order, values[:, k]) for k in (0, 1)) for order in permutations(flipped)]
    expected = [np.mean([each >= far(flipped, values[:, k]) - 1e-9 for each in every]) for k in (0, 1)]
    np.testing.assert_allclose(chances(values, flipped, names(6)), expected, atol=0.04)


@pytest.mark.parametrize("of", [1, 5])
def test_of_thirty_layers_of_noise_one_in_twenty_has_a_small_p(of):
    """Also where five examples of a cluster move and flip together, which a permutation of examples would call an effect."""
    rng, small, n = np.random.default_rng(0), 0, 40
    for _ in range(60):
        values = np.repeat(rng.normal(size=(n // of, 1)), of, axis=0) + 0.3 * rng.normal(size=(n, 30))
        flipped = np.repeat(rng.random(n // of) < 0.4, of)
        if flipped.all() or not flipped.any():
            continue
        small += chances(values, flipped, names(n, of), permutations=199).min() <= 0.05
    assert small <= 8  # of 60; more than 8 has a chance of 0.4 % at one in twenty


def test_the_layer_that_tells_is_found_among_many():
    rng = np.random.default_rng(1)
    flipped = np.arange(40) % 2 == 0
    values = rng.normal(size=(40, 30))
    values[:, 7] += 2.0 * flipped
    p = chances(values, flipped, names(40))
    assert p[7] < 0.01
    assert np.delete(p, 7).min() > 0.05


def test_within_classes_what_only_tells_the_class_is_nothing():
    rng = np.random.default_rng(2)
    kind = np.repeat([0, 1], 30)
    flipped = rng.random(60) < np.where(kind, 0.8, 0.2)
    values = np.stack([kind + 0.1 * rng.normal(size=60), 2.0 * flipped + rng.normal(size=60)], axis=1)
    assert chances(values, flipped, names(60))[0] < 0.01
    within = chances(values, flipped, names(60), pd.Series(kind))
    assert within[0] > 0.1
    assert within[1] < 0.01
    assert np.isnan(
        chances(values, kind.astype(bool), names(60), pd.Series(kind))
    ).all()  # a class all of which flips


def test_signs_of_clusters_are_the_share_of_all_signs():
    differences = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    clusters = names(6, of=2)
    sums = differences.reshape(3, 2, 2).sum(axis=1)
    sums /= np.sqrt((sums**2).sum(axis=0))
    every = [max(np.array(signs) @ sums) for signs in product([1, -1], repeat=3)]
    expected = [np.mean(np.array(every) >= sums[:, k].sum()) for k in (0, 1)]
    np.testing.assert_allclose(sign_chances(differences, clusters), expected, atol=0.03)


def test_a_cell_that_differs_everywhere_does_not_hide_one_that_differs_in_half():
    some = np.stack([np.ones(40), np.repeat([0.0, 1.0], 20), np.zeros(40)], axis=1)
    p = sign_chances(some, names(40))
    assert (p[:2] < 0.01).all()
    assert p[2] > 0.9


def patched(shares, n=20):
    """(site, layer, control) → share of n answers that return."""
    return pd.DataFrame(
        [
            ("opd", 0, 100, f"e{i}", f"c{i}", "harmed", "repair", site, layer, control, i < round(share * n))
            for (site, layer, control), share in shares.items()
            for i in range(n)
        ],
        columns=[
            "arm",
            "seed",
            "step",
            "example_id",
            "cluster",
            "group",
            "direction",
            "site",
            "layer",
            "control",
            "answer",
        ],
    )


def test_a_place_is_claimed_beyond_both_controls_only():
    at = {("attn_out", 1): (0.9, 0.1, 0.1), ("attn_out", 2): (0.9, 0.1, 0.9), ("resid_pre", 0): (0.0, 0.0, 0.0)}
    shares = {
        (*cell, c): share
        for cell, of in at.items()
        for c, share in zip(("none", "random", "other"), of, strict=True)
    }
    found = patching_claims(patched(shares)).set_index(["site", "place"])
    assert found.loc[("attn_out", 1), "p"] < 0.01
    assert found.loc[("attn_out", 2), "p"] > 0.5
    assert found.loc[("resid_post", -1), "p"] == 1.0
    assert tuple(found.loc[("attn_out", 1), ["estimate", "random", "other", "n_examples"]]) == (0.9, 0.1, 0.1, 20)
    # Every seed has to show it: with one that does not, the larger p stands.
    second = patched({**shares, ("attn_out", 1, "none"): 0.1}).assign(seed=1)
    both = patching_claims(pd.concat([patched(shares), second])).set_index(["site", "place"])
    assert both.loc[("attn_out", 1), "p"] > 0.5
    assert both.loc[("attn_out", 1), "seeds"] == 2


def test_without_controls_or_answers_nothing_is_claimed():
    assert patching_claims(patched({("attn_out", 1, "none"): 1.0})).empty
    assert patching_claims(patched({}).astype({"layer": int})).empty
    one = patched({("attn_out", 1, c): s for c, s in (("none", 1.0), ("random", 0.0), ("other", 0.0))})
    assert (
        patching_claims(one.assign(cluster="c")).loc[0, "p"]
        != patching_claims(one.assign(cluster="c")).loc[0, "p"]
    )


def test_drift_of_a_run_has_one_permutation_for_all_places():
    from test_flips_by_drift import tables

    harmed = [i % 3 == 0 for i in range(30)]
    found = flips_by_drift(*tables([0.5 if h else 0.1 for h in harmed], harmed)).set_index("layer")
    assert found.loc[1, "p"] == pytest.approx(1 / 2000)
    assert found.loc[0, "p"] > 0.3  # no layer of a permutation is nearer to ½
    assert found["within_p"].isna().all()  # as many answers as examples: no classes
