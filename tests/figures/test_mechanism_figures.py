"""The figure of where an answer is decided: its cells, its caption, and the drift below on the same axis."""

import numpy as np
import pandas as pd
import pytest
from synthetic import make_study

from cr_interp.figures.drift import drift_by_layer
from cr_interp.figures.mechanism import below, decided
from cr_interp.figures.style import alt_text, caption
from cr_interp.tables.patching import patching_table, strongest


@pytest.fixture
def patching():
    rows = []
    for seed, shift in ((0, 0.0), (1, 0.2)):
        for control, scale in (("none", 1.0), ("random", 0.1), ("other", 0.3)):
            for site, layer, value in (
                ("resid_pre", 0, 0.0),
                ("resid_post", 0, 0.2),
                ("resid_post", 1, 0.8),
                ("attn_out", 0, 0.1),
                ("attn_out", 1, 1.4),
            ):
                estimate = scale * value + (shift if value == 1.4 and control == "none" else 0)
                rows.append(("opd", seed, 100, "harmed", "repair", site, layer, control, "share", estimate,
                             estimate - 0.1, estimate + 0.1, 0.0, 20 + seed))  # fmt: skip
    columns = [
        "arm",
        "seed",
        "step",
        "group",
        "direction",
        "site",
        "layer",
        "control",
        "readout",
        "estimate",
        "low",
        "high",
        "before",
        "n_examples",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_over_seeds_and_the_embeddings_place(patching):
    table = patching_table(patching).set_index(["site", "place", "control"])
    assert table.loc[("attn_out", 1, "none"), "estimate"] == pytest.approx(1.5)
    assert table.loc[("attn_out", 1, "none"), "low"] == pytest.approx(1.3)
    assert table.loc[("resid_post", -1, "none"), "estimate"] == 0
    assert table.loc[("resid_post", 1, "none"), "n_examples"] == 20


def test_the_strongest_layer_stands_beside_its_controls(patching):
    found = strongest(patching).set_index("site")
    assert found.loc["attn_out", "place"] == 1
    assert found.loc["attn_out", "random"] == pytest.approx(0.14)
    assert found.loc["attn_out", "other"] == pytest.approx(0.42)


def test_of_equally_strong_layers_the_one_whose_controls_do_least(patching):
    """And never the last stream before another: what decides stands before it."""
    real = patching["control"] == "none"
    alike = patching.assign(estimate=patching["estimate"].where(~real, 1.0))
    beside = {("attn_out", 0): 0.5, ("attn_out", 1): 0.2, ("resid_post", 0): 0.4, ("resid_post", 1): 0.0}
    for (site, layer), value in beside.items():
        alike.loc[(alike["site"] == site) & (alike["layer"] == layer) & ~real, "estimate"] = value
    found = strongest(alike).set_index("site")
    assert found.loc["attn_out", ["place", "random"]].tolist() == [1, 0.2]
    assert found.loc["resid_post", "place"] < 1


def test_cells_and_curve_share_one_axis(patching, tmp_path):
    drift = make_study(tmp_path / "study", seeds=(0, 1), layers=2).table("drift")
    figure = decided(patching, drift)
    cells, marks, curve = figure.data
    assert list(cells.x) == [-1, 0, 1]
    assert list(curve.x) == [-1, 0, 1]
    assert cells.z[0][2] == pytest.approx(1.5)  # not clipped
    assert any("another example's state: 0.42" in text for row in marks.customdata for text in row)
    low, high = figure.layout.yaxis2.range
    assert low <= 0 < max(curve.y) < high < 2 * max(curve.y)  # as wide as the curve, not −1 to 4
    said = caption(figure)
    assert "n = 20–21 harmed examples an arm and seed, 2 seeds" in said  # the seeds have not equally many
    assert "2 seeds" in said
    assert "a random direction of the same norm at most 0.14" in said
    assert "opd: most at attn_out of 1, 1.50" in alt_text(figure)


def test_flips_of_a_single_cluster_have_their_number_and_no_interval(patching, tmp_path):
    few = patching.assign(low=np.nan, high=np.nan, n_examples=3)
    figure = decided(few)
    said = [
        text for trace in figure.data if trace.customdata is not None for row in trace.customdata for text in row
    ]
    assert any("1.50 (no interval: a single cluster)" in str(text) for text in said)
    assert not any("nan" in str(text) for text in said)
    assert "n = 3 harmed examples" in caption(figure)
    drift = make_study(tmp_path / "study", seeds=(0, 1), layers=2).table("drift")
    bands = [
        trace
        for trace in below(drift_by_layer(drift), few).data
        if trace.fill == "toself" and trace.yaxis == "y2"
    ]
    assert all(not len(band.x) for band in bands)


def test_how_many_other_examples_answer_otherwise_is_in_the_caption(patching):
    assert "another answer" not in caption(decided(patching))  # a study from before that was counted
    counted = patching.assign(n_other_answer=np.where(patching["control"] == "other", 15, 0))
    assert "another example's state at most 0.42 (of 41 other examples 30 have another answer)" in caption(
        decided(counted)
    )


def test_nothing_to_show_is_said(patching):
    assert "No rescued answers" in decided(patching, group="rescued").layout.annotations[0].text


def test_what_repairs_stands_below_what_moves_on_one_axis(tmp_path):
    from synthetic import make_study, patching_rows

    from cr_interp.figures import below, drift_by_layer

    drift = make_study(tmp_path / "s", examples=10).table("drift")
    plain = drift_by_layer(drift)
    before, count = plain.layout.height, len(plain.data)
    figure = below(plain, patching_rows(), ["base", "opd", "nca"])
    added = figure.data[count:]
    assert {trace.yaxis for trace in added} == {"y2"}
    assert {trace.xaxis for trace in added} == {None}  # the one layer axis
    line = next(trace for trace in added if trace.name == "opd")
    assert list(line.y) == [0.0, 0.2, 1.0, 1.0]
    assert figure.layout.height > before
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0]
    assert "n = 12 examples" in figure.layout.meta["caption"]
    assert "random direction of the same norm at most 0.10" in figure.layout.meta["caption"]


def test_below_leaves_a_figure_alone_whose_arms_were_not_patched(tmp_path):
    from synthetic import make_study, patching_rows

    from cr_interp.figures import below, drift_by_layer

    drift = make_study(tmp_path / "s", examples=10).table("drift")
    plain = drift_by_layer(drift[drift["arm"] == "nca"])
    count = len(plain.data)
    assert len(below(plain, patching_rows()).data) == count
