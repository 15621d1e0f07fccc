"""Shares and their intervals against sums made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cr_interp.mechanism.estimates import estimates


def examples(patched, received=0.0, given=1.0, answer=True, clusters=None, **more):
    n = len(patched)
    return pd.DataFrame(
        {
            "example_id": [f"e{i}" for i in range(n)],
            "cluster": clusters or [f"e{i}" for i in range(n)],
            "group": "harmed",
            "direction": "repair",
            "site": "attn_out",
            "layer": 1,
            "control": "none",
            "received": received,
            "given": given,
            "patched": patched,
            "before": False,
            "answer": answer,
            **more,
        }
    )


def only(table, readout):
    (row,) = table[table["readout"] == readout].itertuples()
    return row


def test_the_share_is_a_ratio_of_means_and_is_not_clipped():
    found = only(estimates(examples([2.0, 0.0, 4.0], received=[0.0, -1.0, 0.0], given=[1.0, 1.0, 2.0])), "share")
    assert found.estimate == pytest.approx((2 + 1 + 4) / (1 + 2 + 2))
    assert found.estimate > 1
    assert found.n_examples == 3


def test_an_interval_is_of_clusters_and_not_of_examples():
    rng = np.random.default_rng(0)
    of_cluster = rng.normal(0.5, 0.3, 12)
    wide = examples(np.repeat(of_cluster, 20), clusters=[f"c{i}" for i in range(12) for _ in range(20)])
    same = examples(of_cluster)
    one, other = only(estimates(wide), "share"), only(estimates(same), "share")
    assert (one.n_examples, one.n_clusters) == (240, 12)
    assert one.low == pytest.approx(other.low)
    assert one.high == pytest.approx(other.high)
    # Student's interval of the twelve means, which the bootstrap comes near.
    half = stats.t.ppf(0.975, 11) * of_cluster.std(ddof=1) / np.sqrt(12)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.15)


@pytest.mark.parametrize(("answer", "end"), [(True, "low"), (False, "high")])
def test_where_all_agree_the_interval_is_not_a_point(answer, end):
    found = only(estimates(examples([1.0] * 16, answer=answer)), "answer")
    exact = stats.binomtest(16 if answer else 0, 16).proportion_ci(method="exact")
    assert found.low == pytest.approx(exact.low)
    assert found.high == pytest.approx(exact.high)
    assert getattr(found, end) == pytest.approx(0.7941 if answer else 0.2059, abs=1e-4)


def test_answers_that_do_not_part_have_no_share():
    found = estimates(examples([np.nan, np.nan], received=np.nan, given=np.nan))
    assert list(found["readout"]) == ["answer"]


def test_a_single_cluster_has_no_interval():
    found = only(estimates(examples([0.4, 0.6], clusters=["c", "c"])), "share")
    assert found.estimate == pytest.approx(0.5)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
