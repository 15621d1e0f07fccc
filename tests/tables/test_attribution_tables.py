"""Heads and windows over seeds, and how attribution agrees with patching, against sums made by hand and SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cr_interp.tables.attribution import agreement, first_cells, over_seeds


def heads():
    rows = []
    for seed, shift in ((0, 0.0), (1, 0.2)):
        for layer, head, value in ((0, 0, 0.1), (1, 3, 0.9), (1, 2, -0.4)):
            for control, scale in (("none", 1.0), ("random", 0.1), ("other", 0.5)):
                estimate = scale * value + (shift if control == "none" else 0)
                rows.append(("opd", seed, 100, "harmed", "repair", "z", layer, head, "first", control, "share", estimate,
                             estimate - 0.1, estimate + 0.1, 0.0, 20 + seed))  # fmt: skip
    columns = [
        "arm", "seed", "step", "group", "direction", "site", "layer", "head", "chosen", "control", "readout", "estimate", "low",
        "high", "before", "n_examples",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_over_seeds():
    table = over_seeds(heads()).set_index(["layer", "head", "control"])
    assert table.loc[(1, 3, "none"), "estimate"] == pytest.approx(1.0)
    assert table.loc[(1, 3, "none"), "low"] == pytest.approx(0.8)
    assert table.loc[(1, 3, "none"), "high"] == pytest.approx(1.2)
    assert table.loc[(1, 3, "none"), ["seeds", "n_examples"]].tolist() == [2, 20]
    assert over_seeds(heads(), "rescued").empty


def test_the_first_cells_stand_beside_their_controls():
    found = first_cells(heads(), 2)
    assert list(zip(found["layer"], found["head"], strict=True)) == [(1, 3), (0, 0)]
    assert found["random"].tolist() == pytest.approx([0.09, 0.01])
    assert found["other"].tolist() == pytest.approx([0.45, 0.05])


def cells(shares, site="z", examples=12, noise=0.0):
    """Rows of examples whose logit differences move by these shares of their way, a cell each."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(examples):
        received, given = -1.0 - 0.1 * i, 2.0
        for cell, share in enumerate(shares):
            patched = received + (share + noise * rng.normal()) * (given - received)
            rows.append(
                (
                    "opd",
                    0,
                    9,
                    f"e{i}",
                    f"c{i // 2}",
                    "harmed",
                    "repair",
                    site,
                    cell // 4,
                    cell % 4,
                    "none",
                    received,
                    given,
                    patched,
                )
            )
    columns = [
        "arm",
        "seed",
        "step",
        "example_id",
        "cluster",
        "group",
        "direction",
        "site",
        "layer",
        "head",
        "control",
        "received",
        "given",
        "patched",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_agreement_is_the_correlation_of_the_cells_shares():
    guessed, exact = [0.1, 0.9, -0.2, 0.4, 0.0, 0.3], [0.2, 0.7, -0.1, 0.6, 0.1, 0.1]
    control = cells([9.0] * 6).assign(control="random")
    found = agreement(pd.concat([cells(guessed), control]), None, cells(exact))
    assert found["n_cells"].tolist() == [6]
    assert found["n_examples"].tolist() == [12]
    assert found["pearson"][0] == pytest.approx(stats.pearsonr(guessed, exact).statistic)
    assert found["spearman"][0] == pytest.approx(stats.spearmanr(guessed, exact).statistic)
    # Every example says the same, so no draw of them differs.
    assert found["pearson_low"][0] == pytest.approx(found["pearson"][0])


def test_agreement_has_an_interval_over_clusters_and_needs_three_cells():
    guessed, exact = cells([0.1, 0.5, 0.9, 0.2], noise=0.3), cells([0.1, 0.5, 0.9, 0.2])
    found = agreement(guessed, exact.drop(columns="head").assign(site="attn_out"), exact)
    assert found["site"].tolist() == ["z"]  # attributed sites have no cell among the patched ones
    assert found["pearson_low"][0] < found["pearson"][0] < found["pearson_high"][0] <= 1
    assert agreement(cells([0.1, 0.2]), None, cells([0.1, 0.3])).empty
    assert agreement(cells([0.1, 0.2, 0.3])).empty


def test_of_whole_sites_the_head_is_none():
    exact = cells([0.1, 0.5, 0.9, 0.2], site="attn_out").assign(
        head=-1, layer=lambda rows: rows.groupby("example_id").cumcount()
    )
    found = agreement(exact, exact.drop(columns="head"))
    assert found[["site", "n_cells"]].to_numpy().tolist() == [["attn_out", 4]]
    assert found["spearman"][0] == pytest.approx(1)
