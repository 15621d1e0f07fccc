"""Patching against a plain forward with a hook, and on a model whose deciding place was written by hand."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from patched import loaded_of, plain, planted, planted_pairs, some_pairs
from tiny import ARCHITECTURES, tiny_model

from cr_interp.capture.sites import Site, blocks
from cr_interp.errors import UserError
from cr_interp.mechanism.batches import Views
from cr_interp.mechanism.cells import Cell, head_cells, site_cells, window_cells
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.patching import patch_cells, patch_pairs, patched_sites
from cr_interp.models import aligned


@pytest.fixture(scope="module")
def expected():
    """Every cell of an architecture by plain forwards; both ways to run it, and both paddings, are held against these."""

    @cache
    def of(family):
        model = tiny_model(family)
        pairs, loaded = some_pairs(model), loaded_of(model)
        cells = site_cells(model, ["resid_post", "attn_out", "mlp_out"])
        cells += [cell for cell in head_cells(model) if (cell.site.layer, cell.head) in ((0, 3), (1, 0), (2, 1))]
        cells += window_cells(model, ["attn_out", "mlp_out"], [2])
        rows = {(pair.example_id, *key): row for pair in pairs for key, row in plain(model, pair, cells).items()}
        return loaded, pairs, cells, rows

    return of


@pytest.mark.parametrize("way", ["restarted", "right", "left"])
@pytest.mark.parametrize(
    "family", [f if f in ("llama", "gpt2") else pytest.param(f, marks=pytest.mark.slow) for f in ARCHITECTURES]
)
def test_equals_a_plain_forward_with_a_hook_one_sequence_at_a_time(family, way, expected):
    loaded, pairs, cells, rows = expected(family)
    padding = "right" if way == "restarted" else way
    found = patch_cells(
        loaded, pairs, cells, controls=("none",), batch_size=3, padding=padding, restart=way == "restarted"
    )
    assert len(found) == len(pairs) * len(cells) * 2 == len(rows)
    for row in found.itertuples():
        cell = Cell(Site(row.site, row.layer), None if row.head < 0 else row.head, row.width)
        expects = rows[row.example_id, row.direction, str(cell)]
        for name in ("received", "given", "patched"):
            assert getattr(row, name) == pytest.approx(expects[name], rel=1e-4, abs=2e-4), (cell, name)
        assert row.answer == expects["answer"]


def test_finds_the_planted_place_and_only_it():
    loaded = loaded_of(planted(layer=1))
    sites = patched_sites(loaded, ["resid_post", "attn_out", "mlp_out"])
    found = patch_pairs(loaded, planted_pairs(), sites)
    real = found[found["control"] == "none"]
    decides = {("attn_out", 1), ("resid_post", 1), ("resid_post", 2)}
    for (direction, site, layer), rows in real.groupby(["direction", "site", "layer"]):
        share = (rows["patched"] - rows["received"]) / (rows["given"] - rows["received"])
        expected = 1.0 if (site, layer) in decides else 0.0
        np.testing.assert_allclose(share, expected, atol=1e-5, err_msg=f"{direction} {site} {layer}")
        assert (rows["answer"] == ((site, layer) in decides)).all()
    # Another example's attention says just as little of id 9: it repairs too, as nothing of it is the example's own.
    attention = found[(found["site"] == "attn_out") & (found["layer"] == 1) & (found["direction"] == "repair")]
    assert attention.loc[attention["control"] == "other", "answer"].all()
    # The other example's residual stream holds the other example's token.
    other = found[(found["site"] == "resid_post") & (found["layer"] == 1) & (found["direction"] == "repair")]
    assert not other.loc[other["control"] == "other", "answer"].any()


def test_of_windows_those_that_hold_the_planted_layer_decide_and_only_these():
    loaded = loaded_of(planted(layer=1))
    found = patch_cells(
        loaded,
        planted_pairs(),
        window_cells(loaded.model, ["attn_out", "mlp_out"], [1, 2, 3]),
        controls=("none",),
    )
    for (site, layer, width), rows in found.groupby(["site", "layer", "width"]):
        decides = site == "attn_out" and layer <= 1 < layer + width
        assert (rows["answer"] == decides).all(), (site, layer, width)


def test_a_random_direction_is_as_far_and_repairs_nothing():
    found = patch_pairs(loaded_of(planted()), planted_pairs(), [Site("attn_out", 1)])
    random = found[(found["control"] == "random") & (found["direction"] == "repair")]
    share = (random["patched"] - random["received"]) / (random["given"] - random["received"])
    assert share.abs().max() < 0.9
    assert not random["answer"].any()


@pytest.mark.parametrize("restart", [True, False])
def test_rows_of_an_example_do_not_depend_on_its_batch(restart):
    """Nor does its control: the other example is the same one, whether it is in the batch or not."""
    model = tiny_model("llama")
    pairs, loaded = some_pairs(model), loaded_of(model)
    sites = [Site("resid_post", 1), Site("attn_out", 2)]
    keys = ["example_id", "direction", "site", "layer", "control"]
    whole, *others = (
        patch_pairs(loaded, pairs, sites, batch_size=size, restart=restart).sort_values(keys, ignore_index=True)
        for size in (5, 3, 1)
    )
    assert (whole["control"] == "other").sum() == len(whole) / 3
    for found in others:
        pd.testing.assert_frame_equal(whole, found, rtol=1e-4, atol=1e-4)


def test_another_examples_state_is_of_another_cluster():
    pairs = [pair for pair in planted_pairs()]
    pairs[1] = Pair("e11", "c10", "harmed", [2, 3, 11], [2, 9, 3, 11], [11], 0, 5)
    found = patch_pairs(loaded_of(planted()), pairs[:2], [Site("attn_out", 1)])
    assert set(found["control"]) == {"none", "random"}  # both are of one cluster: there is no other
    found = patch_pairs(loaded_of(planted()), pairs[:3], [Site("attn_out", 1)])
    assert (found["control"] == "other").sum() == 6


def test_answers_of_another_checkpoint_are_refused():
    pairs = [Pair(f"e{i}", f"c{i}", "harmed", [2, 3, i], [2, 9, 3, i], [7], 0, 5) for i in (10, 11, 12)]
    with pytest.raises(UserError, match="3 of 3 answers without the context are not what tiny decodes greedily"):
        patch_pairs(loaded_of(planted()), pairs, [Site("attn_out", 1)])


def test_a_site_that_the_model_lacks_is_named():
    with pytest.raises(UserError, match="There is no site resid_mid"):
        patched_sites(loaded_of(tiny_model("gpt_neox")), ["resid_mid"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["transformer_lens", "nnsight"])
def test_the_other_backends_say_the_same(backend):
    model = tiny_model("llama")
    pairs, loaded = some_pairs(model), loaded_of(model)
    cells = [Cell(Site("resid_post", 1)), Cell(Site("z", 1), 2), Cell(Site("attn_out", 0), None, 2)]
    one = patch_cells(loaded, pairs, cells, controls=("none", "random"), backend=backend)
    other = patch_cells(loaded, pairs, cells, controls=("none", "random"))
    keys = ["example_id", "direction", "site", "layer", "head", "width", "control"]
    one, other = (frame.sort_values(keys, ignore_index=True) for frame in (one, other))
    pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-3)


def test_an_adapter_is_patched_where_it_acts():
    from peft import LoraConfig, get_peft_model

    plain_model = tiny_model("llama")
    settings = LoraConfig(r=2, target_modules=["o_proj", "down_proj", "q_proj"], init_lora_weights=False)
    adapted = get_peft_model(plain_model, settings).eval()
    pairs, loaded = some_pairs(adapted), loaded_of(adapted)
    cells = [
        Cell(Site("resid_post", 0)),
        Cell(Site("mlp_out", 1)),
        Cell(Site("z", 1), 3),
        Cell(Site("attn_out", 1), None, 2),
    ]
    rows = patch_cells(loaded, pairs, cells, controls=("none",))
    merged = loaded_of(adapted.merge_and_unload())
    expected = patch_cells(merged, pairs, cells, controls=("none",), restart=False)
    pd.testing.assert_frame_equal(rows, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_keys_that_lie_ready_change_nothing_and_do_not_where_they_are_too_many(family, monkeypatch):
    model = tiny_model(family)
    pairs, loaded = some_pairs(model), loaded_of(model)
    cells = site_cells(model, ["resid_post", "attn_out"])
    ready = patch_cells(loaded, pairs, cells)
    monkeypatch.setattr(aligned, "READY", 0)
    pd.testing.assert_frame_equal(patch_cells(loaded, pairs, cells), ready, rtol=1e-5, atol=1e-5)
    monkeypatch.undo()
    batch = next(Views(loaded, pairs).batches(5))
    rows = batch.runs["with_context"].rows
    with torch.enable_grad():  # a backward pass needs what was written: nothing is overwritten there
        rows.run()
    assert not rows.ready
    with torch.no_grad():
        rows.run()
    assert len(rows.ready) == len(blocks(model))
