"""Attribution against finite differences, and on a model whose deciding head was written by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from patched import columns, loaded_of, planted, planted_pairs, run_plainly, some_pairs, state_of
from tiny import tiny_model
from zoo import zoo_model

from cr_interp.capture.sites import Site, available
from cr_interp.errors import UserError
from cr_interp.mechanism import attribution, heads
from cr_interp.mechanism.attribution import attribute
from cr_interp.mechanism.cells import Cell, head_cells, site_cells
from cr_interp.mechanism.estimates import PLACE, estimates
from cr_interp.mechanism.given import Answers, Options
from cr_interp.mechanism.heads import chosen_heads
from cr_interp.mechanism.patching import DIRECTIONS, patch_cells


def slope(model, pair, cell, direction, step=1e-2):
    """How the logit difference moves when a cell's state goes a little towards the donor's, by plain forwards."""
    prompts = {"no_context": pair.without, "with_context": pair.given}
    donor, receiver = DIRECTIONS[direction]
    size = getattr(model.config, "head_dim", None) or model.config.hidden_size // 4
    part = slice(None) if cell.head is None else slice(cell.head * size, (cell.head + 1) * size)
    kept = {}

    def keep(_module, *args):
        kept[0] = state_of(args)[0, columns(prompts[donor], pair.response)].clone()

    def towards(share):
        def hook(_module, *args):
            state = state_of(args).clone()
            there = columns(prompts[receiver], pair.response)
            own = state[0, there, part].clone()
            state[0, there, part] = own + share * (kept[0][:, part] - own)
            return (state, *args[-1][1:]) if isinstance(args[-1], tuple) else state

        scores = run_plainly(model, prompts[receiver], pair.response, {cell.site: hook})[pair.place]
        return (scores[pair.own] - scores[pair.other]).item()

    run_plainly(model, prompts[donor], pair.response, {cell.site: keep})
    return (towards(step) - towards(-step)) / (2 * step)


@pytest.mark.parametrize("short_cuts", [True, False])
@pytest.mark.parametrize("family", ["llama", pytest.param("gemma2", marks=pytest.mark.slow), "gpt_neox", "gpt2"])
def test_is_the_slope_of_patching(family, short_cuts, monkeypatch):
    model = tiny_model(family)
    if not short_cuts:
        monkeypatch.setattr("cr_interp.mechanism.batches.restarts", lambda *_: False)
    cells = [
        *site_cells(model, ["resid_post", "attn_out", "mlp_out"]),
        Cell(Site("z", 1), 2),
        Cell(Site("z", 0), 0),
    ]
    pairs = some_pairs(model)
    found = attribute(loaded_of(model), pairs, cells, batch_size=3, controls=("none",))
    assert len(found) == len(pairs) * len(cells) * 2
    by = found.set_index(["example_id", "direction", "site", "layer", "head"])
    for pair in pairs[1:3]:
        for cell in cells:
            for direction in DIRECTIONS:
                head = -1 if cell.head is None else cell.head
                row = by.loc[(pair.example_id, direction, cell.site.name, cell.site.layer, head)]
                assert row.patched - row.received == pytest.approx(
                    slope(model, pair, cell, direction), rel=1e-2, abs=2e-3
                )


def test_heads_of_a_layer_add_up_to_its_attention():
    model = tiny_model("qwen3")
    cells = [Cell(Site("attn_out", 1)), Cell(Site("z", 1)), *(Cell(Site("z", 1), head) for head in range(4))]
    found = attribute(loaded_of(model), some_pairs(model), cells, controls=("none",))
    moved = (found["patched"] - found["received"]).groupby([found["site"], found["head"] >= 0]).sum()
    assert moved["z", True] == pytest.approx(moved["z", False], rel=1e-4)
    assert moved["z", True] == pytest.approx(moved["attn_out", False], rel=1e-4)


@pytest.mark.parametrize(("layer", "head"), [(1, 0), (0, 3), (2, 2)])
def test_the_planted_head_and_only_it(layer, head):
    loaded = loaded_of(
        planted(layer, head, strength=1.0)
    )  # near straight: where it is not, attribution is far off
    cells = head_cells(loaded.model)
    guessed = attribute(loaded, planted_pairs(), cells)
    exact = patch_cells(loaded, planted_pairs(), cells)
    for found in (guessed, exact):
        real = found[found["control"] == "none"]
        share = (real["patched"] - real["received"]) / (real["given"] - real["received"])
        there = (real["layer"] == layer) & (real["head"] == head)
        assert (share[there] > 0.2).all()
        np.testing.assert_allclose(share[~there], 0, atol=1e-6)
    real = exact[exact["control"] == "none"]
    assert (real["answer"] == ((real["layer"] == layer) & (real["head"] == head))).all()
    first, drawn = chosen_heads(guessed[guessed["control"] == "none"], cells, 1)
    assert first == [Cell(Site("z", layer), head)]
    assert len(drawn) == 1
    assert drawn != first


def test_rows_of_both_analyses():
    loaded = loaded_of(planted(1, 1))
    given = Answers(loaded, planted_pairs(), Options(heads=3, sites=("attn_out",)))
    tables = {**attribution.rows(given), **heads.rows(given)}
    assert set(tables) == {"attribution_examples", "attribution", "patching_heads_examples", "patching_heads"}
    assert set(tables["attribution"]["control"]) == {"none", "random", "other"}
    assert set(tables["attribution"]["site"]) == {"attn_out", "z"}
    patched = tables["patching_heads"]
    assert len(patched[patched["chosen"] == "first"][["layer", "head"]].drop_duplicates()) == 3
    assert set(patched.loc[patched["chosen"] == "drawn", "control"]) == {"none"}
    best = patched[(patched["control"] == "none") & (patched["readout"] == "answer")].set_index(
        ["direction", "layer", "head"]
    )
    assert best.loc[("repair", 1, 1), "estimate"] == 1
    assert heads.rows(Answers(loaded, planted_pairs(), Options(heads=0))) == {}


def test_answers_that_do_not_part_say_nothing():
    pairs = [replace(pair, place=None, other=None) for pair in planted_pairs()]
    given = Answers(loaded_of(planted()), pairs, Options())
    assert attribution.rows(given) == {}
    assert heads.rows(given) == {}


def test_random_moves_are_as_far_as_those_they_stand_beside():
    model = tiny_model("llama")
    assert "z" in available(model)
    found = attribute(loaded_of(model), some_pairs(model), [Cell(Site("z", 1), 1)])
    table = estimates(found, [*PLACE, "head"])
    assert set(table["readout"]) == {"share"}
    assert table["head"].eq(1).all()


def test_a_model_whose_heads_are_not_known_is_refused():
    with pytest.raises(
        UserError, match=r"no site z at layer 0 in this model \(bloom\)\. It has resid_pre, resid_post, final"
    ):
        heads.rows(Answers(loaded_of(zoo_model("bloom")), planted_pairs()))


def test_another_example_is_the_same_one_whatever_the_batches():
    model = tiny_model("llama")
    pairs, loaded = some_pairs(model), loaded_of(model)
    cells = [Cell(Site("resid_post", 1)), *head_cells(model)[:2]]
    keys = ["example_id", "direction", "site", "layer", "head", "control"]
    whole, alone = (
        attribute(loaded, pairs, cells, batch_size=size).sort_values(keys, ignore_index=True) for size in (5, 1)
    )
    assert (whole["control"] == "other").sum() == len(whole) / 3
    pd.testing.assert_frame_equal(whole, alone, rtol=1e-4, atol=1e-4)
