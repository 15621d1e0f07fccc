"""Remote capture, up to the network's edge: what would be submitted, and what is said when it cannot be."""

from functools import cache

import pytest
from agreement import assert_same, edits_of
from tiny import tiny_model, tiny_view

from cr_interp.capture import capture
from cr_interp.capture.sites import Site, all_sites, residual_sites
from cr_interp.errors import UserError


@cache
def model_of(family):
    return tiny_model(family)


def test_what_would_be_submitted_gives_the_same_states():
    """``remote='local'`` serialises the trace, hides this project's modules and runs what came through."""
    model = model_of("llama")
    sites, edits = all_sites(model), edits_of(model)
    for given in ({}, edits):
        found = capture(model, tiny_view(), sites, backend="nnsight", remote="local", edits=given)
        assert_same(found, capture(model, tiny_view(), sites, edits=given))


def test_remote_capture_without_what_it_needs_says_what_to_do(monkeypatch):
    from cr_interp.capture.nnsight import load_nnsight

    model, site = tiny_model("llama"), Site("final", -1)
    with pytest.raises(UserError, match="backend='nnsight'"):
        capture(model, tiny_view(), [site], remote=True)
    with pytest.raises(UserError, match="hub id"):
        capture(model, tiny_view(), [site], backend="nnsight", remote=True)
    with pytest.raises(UserError, match="right"):
        capture(model, tiny_view("left"), [site], backend="nnsight", remote=True)
    model.config._name_or_path = "somebody/a-model"
    monkeypatch.setattr(load_nnsight().CONFIG.API, "APIKEY", None)
    with pytest.raises(UserError, match="NDIF_API_KEY"):
        capture(model, tiny_view(), [site], backend="nnsight", remote=True)
    monkeypatch.setattr(load_nnsight().CONFIG.API, "APIKEY", "a-key")
    with pytest.raises(UserError, match="configuration of somebody/a-model"):
        capture(model, tiny_view(), [site], backend="nnsight", remote=True)


def test_remote_capture_up_to_the_network(monkeypatch):
    """Everything is done but the sending: the payload is made for NDIF, and what the network says is passed on."""
    from cr_interp.capture import ndif
    from cr_interp.capture.nnsight import load_nnsight

    load_nnsight()
    from nnsight.intervention.backends.local import LocalSimulationBackend
    from nnsight.intervention.backends.remote import RemoteBackend
    from nnsight.modeling.huggingface import HuggingFaceModel

    model, sites = model_of("llama"), residual_sites(model_of("llama"))
    wrapper = ndif._rehearsal(model, load_nnsight())
    monkeypatch.setattr(ndif, "_server", lambda *_: wrapper)
    monkeypatch.setattr(
        HuggingFaceModel, "_remoteable_model_key", lambda _self: '{"repo_id": "somebody/a-model"}'
    )
    keys = []

    def served(self, tracer):
        keys.append(self.model_key)
        return LocalSimulationBackend(wrapper)(tracer)

    monkeypatch.setattr(RemoteBackend, "__call__", served)
    found = capture(model, tiny_view(), sites, backend="nnsight", remote=True)
    assert_same(found, capture(model, tiny_view(), sites))
    assert "somebody/a-model" in keys[0]

    def unreachable(self, tracer):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(RemoteBackend, "__call__", unreachable)
    with pytest.raises(UserError, match=r"no route to host.*remote=False"):
        capture(model, tiny_view(), sites, backend="nnsight", remote=True)
