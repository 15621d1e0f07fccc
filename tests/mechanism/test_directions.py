"""Directions against closed forms, and on a model whose context writes one known direction."""

import numpy as np
import pytest
import torch
from test_patching import loaded_of, planted, planted_pairs

from cr_interp.capture.sites import Site
from cr_interp.mechanism.directions import geometry, rows
from cr_interp.mechanism.given import Options
from cr_interp.mechanism.material import NONE, Material
from cr_interp.tasks.base import Example

SITE = Site("resid_post", 0)
N, WIDTH = 40, 30


def of(context, trained, still, noise=0.1):
    """States of 40 prompts: what the context adds to the base, what training adds, what the context adds to the student."""
    generator = torch.Generator().manual_seed(0)

    def some():
        return noise * torch.randn(N, WIDTH, generator=generator)

    x = torch.randn(N, WIDTH, generator=generator)
    found = {"base_x": x, "base_c": x + context + some(), "student_x": x + trained + some()}
    found["student_c"] = found["student_x"] + still + some()
    return {name: {SITE: states} for name, states in found.items()}


def unit(place, size=1.0):
    vector = torch.zeros(WIDTH)
    vector[place] = size
    return vector


def row(table, measure, control="none"):
    chosen = table[(table["measure"] == measure) & (table["control"] == control)]
    assert len(chosen) == 1
    return chosen.iloc[0]


CLUSTERS = [f"c{i // 2}" for i in range(N)]


def test_what_training_did_is_what_the_context_does():
    table = geometry(of(unit(0, 4.0), unit(0, 2.0), unit(0, 1.0)), CLUSTERS, [SITE])
    assert row(table, "cos_u_v")["estimate"] == pytest.approx(1.0, abs=0.02)
    assert row(table, "share_along")["estimate"] == pytest.approx(1.0, abs=0.03)
    assert row(table, "size_ratio")["estimate"] == pytest.approx(0.25, abs=0.02)
    assert row(table, "step_ratio")["estimate"] == pytest.approx(0.5, abs=0.02)
    assert row(table, "cos_u_v")["low"] > row(table, "cos_u_v", "unrelated")["high"]


def test_something_else_is_within_the_controls():
    table = geometry(of(unit(0, 4.0), unit(1, 2.0), unit(2, 1.0)), CLUSTERS, [SITE])
    for control in ("random", "unrelated"):
        beside = row(table, "cos_u_v", control)
        assert beside["low"] < row(table, "cos_u_v")["estimate"] < beside["high"]
    assert row(table, "share_along")["estimate"] == pytest.approx(0.0, abs=0.02)
    assert row(table, "share_along", "random")["estimate"] == pytest.approx(1 / WIDTH, rel=0.3)


def test_noise_of_the_bases_states_gives_no_cosine():
    """u and v_base subtract the same states: on the same prompts they would have a cosine of a half."""
    generator = torch.Generator().manual_seed(1)
    drawn = {
        name: {SITE: torch.randn(N, WIDTH, generator=generator)}
        for name in ("base_x", "base_c", "student_x", "student_c")
    }
    u, v = ((drawn[a][SITE] - drawn["base_x"][SITE]).mean(0) for a in ("student_x", "base_c"))
    assert torch.cosine_similarity(u, v, dim=0) > 0.3
    found = row(geometry(drawn, [f"c{i}" for i in range(N)], [SITE]), "cos_u_v")
    assert abs(found["estimate"]) < 0.25
    assert found["low"] < 0 < found["high"]


def test_the_base_itself_has_no_cosines():
    assert geometry(of(unit(0), unit(1), unit(2)), CLUSTERS, [SITE], is_base=True).empty


def material(prompts=range(16, 28)):
    """The planted model as its own base and student: with the context (one id 9) attention of layer 1 writes along 5."""
    loaded = loaded_of(planted(layer=1))
    given = Material(
        loaded,
        base=lambda: loaded,
        teacher=lambda: loaded,
        contexts={},
        no_context="empty_system",
        limit=1,
        prompts=[Example(f"t{i}", "", "") for i in prompts],
        pairs=planted_pairs(),
        options=Options(batch_size=4),
    )
    given.views = {NONE: [[2, 3, i] for i in prompts], "exact": [[2, 9, 3, i] for i in prompts]}
    given.responses = [[i] for i in prompts]
    return given


def test_removing_the_planted_direction_repairs_and_only_from_its_layer_on():
    tables = rows(material())
    table = tables["direction_effects"]
    chosen = table[(table["readout"] == "answer") & (table["vector"] == "base")].set_index(
        ["action", "layer", "control"]
    )
    for action in ("remove", "add"):
        assert chosen.loc[(action, 0, "none"), "estimate"] == 0.0
        for layer in (1, 2):
            assert chosen.loc[(action, layer, "none"), "estimate"] == 1.0
            assert chosen.loc[(action, layer, "none"), "before"] == 0.0
    for layer in (1, 2):
        for control in ("random", "unrelated"):
            assert chosen.loc[("remove", layer, control), "estimate"] <= 0.5
    share = table[(table["readout"] == "share") & (table["control"] == "none") & (table["layer"] >= 1)]
    np.testing.assert_allclose(share["estimate"], 1.0, atol=1e-3)
    assert set(tables["direction_examples"]["example_id"]) == {pair.example_id for pair in planted_pairs()}


def test_answers_of_the_clusters_that_v_is_of_are_left_out():
    given = material()
    given.prompts = [Example(f"t{i}", "", "", cluster="c10") for i in range(12)]
    assert "e10" not in set(rows(given)["direction_examples"]["example_id"])


@pytest.mark.slow
def test_rows_do_not_depend_on_the_batch():
    one, other = material(), material()
    other.options = Options(batch_size=1)
    keys = ["example_id", "action", "vector", "layer", "control"]
    first, second = (
        rows(each)["direction_examples"].sort_values(keys, ignore_index=True) for each in (one, other)
    )
    np.testing.assert_allclose(first["patched"], second["patched"], rtol=1e-4, atol=1e-3)


def test_without_answers_the_geometry_is_there():
    given = material()
    given.pairs = ()
    tables = rows(given)
    assert tables["direction_examples"].empty
    assert tables["direction_effects"].empty
    assert set(tables["directions"]["layer"]) == {
        1,
        2,
    }  # at layer 0 the context does nothing: no direction, no cosine
