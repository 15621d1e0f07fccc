"""One model, several threads: a capture sees its own forward pass and nothing of anybody else's."""

import threading
from functools import cache

import pytest
from agreement import assert_same
from tiny import tiny_model, tiny_view

from cr_interp.capture import BACKENDS, capture
from cr_interp.capture.locks import model_lock
from cr_interp.capture.sites import Site, all_sites
from cr_interp.models.forward import hidden_states


@cache
def model_of(family):
    return tiny_model(family)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_on_one_model(backend):
    model = tiny_model("llama")
    sites = all_sites(model)
    views = [tiny_view(seed=seed) for seed in (0, 1)]
    expected = [capture(model, view, sites) for view in views]
    errors = []
    barrier = threading.Barrier(2)

    def work(which):
        try:
            barrier.wait(timeout=30)
            for _ in range(5):
                assert_same(capture(model, views[which], sites, backend=backend), expected[which])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thread_that_only_runs_the_model_leaves_no_trace(backend):
    model = model_of("llama")
    sites = all_sites(model)
    expected = capture(model, tiny_view(), sites)

    main, other = threading.get_ident(), tiny_view(prefix_length=0, seed=5)
    finished = []

    def meanwhile(state):
        if threading.get_ident() == main:
            thread = threading.Thread(target=lambda: finished.append(hidden_states(model, other)))
            thread.start()
            thread.join(timeout=30)
        return state

    found = capture(model, tiny_view(), sites, backend=backend, edits={Site("mlp_out", 1): meanwhile})
    assert len(finished) == 1
    assert_same(found, expected)


def test_an_adapter_and_its_model_share_a_lock():
    peft = pytest.importorskip("peft")
    inner = tiny_model("llama")
    wrapped = peft.get_peft_model(inner, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert model_lock(wrapped) is model_lock(wrapped.get_base_model())
