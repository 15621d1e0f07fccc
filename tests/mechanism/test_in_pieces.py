"""A model whose blocks are in several places (``device_map``) is patched, attributed and decoded as the whole one."""

import pandas as pd
import pytest
from patched import loaded_of, some_pairs
from spread import spread
from tiny import tiny_model

from cr_interp.capture.decoding import answering, generate
from cr_interp.capture.edits import ablate
from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.mechanism.attribution import attribute
from cr_interp.mechanism.cells import Cell, site_cells, window_cells
from cr_interp.mechanism.patching import patch_cells
from cr_interp.models.generation import Decoding

KEYS = ["example_id", "direction", "site", "layer", "head", "control"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    model = tiny_model("llama")
    return loaded_of(model), loaded_of(spread(model, tmp_path_factory.mktemp("pieces"))), some_pairs(model)


def same(one, other, keys):
    one, other = (frame.sort_values(keys, ignore_index=True) for frame in (one, other))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_patching_and_attribution(both):
    whole, pieces, pairs = both
    cells = [*site_cells(whole.model, ["resid_post", "attn_out", "mlp_out"]), Cell(Site("z", 2), 1)]
    cells_of_windows = window_cells(whole.model, ["attn_out", "mlp_out"], [2])
    for chosen in (cells, cells_of_windows):
        same(
            patch_cells(pieces, pairs, chosen, controls=("none",)),
            patch_cells(whole, pairs, chosen, controls=("none",)),
            KEYS,
        )
    same(attribute(pieces, pairs, cells), attribute(whole, pairs, cells), KEYS)
    assert next(pieces.model.model.layers[1].parameters()).device.type == "meta"  # back where it was


def test_decoding_with_edits(both):
    whole, pieces, pairs = both
    given, without = [list(p.given) for p in pairs], [list(p.without) for p in pairs]
    for chosen in (
        {"edits": {Site("attn_out", 1): answering(ablate())}},
        {"put": [Site("resid_post", 1)], "donors": without},
    ):
        answers = [[r.ids for r in generate(each, given, Decoding(4), **chosen)] for each in (whole, pieces)]
        assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "error", [RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory"), MemoryError()]
)
@pytest.mark.parametrize("run", [patch_cells, attribute])
def test_exhausted_memory_says_what_to_lower(both, error, run, monkeypatch):
    whole, _, pairs = both

    def full(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("cr_interp.mechanism.runs.Restarted.states", full)
    monkeypatch.setattr("cr_interp.mechanism.attribution.gradients", full)
    with pytest.raises(
        UserError, match=r"Out of memory .* batches of 6 examples.*--batch-size 3; .* done are kept"
    ):
        run(whole, pairs, [Cell(Site("attn_out", 1))], batch_size=6)
