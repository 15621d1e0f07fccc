"""From a checkpoint to its three drift tables, on the bundled organism."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import cr_interp.measure.drift as drift_module
from cr_interp.capture import capture
from cr_interp.capture.sites import Site
from cr_interp.capture.states import open_states
from cr_interp.errors import UserError
from cr_interp.measure.drift import measure_drift
from cr_interp.measure.evaluate import evaluate
from cr_interp.measure.subject import Evaluation, Subject, own_responses
from cr_interp.models.forward import build_view, log_probs
from cr_interp.models.loading import load
from cr_interp.tasks import get_task
from cr_interp.views import Context, render


@pytest.fixture(scope="module")
def case():
    torch.set_num_threads(1)
    loaded = load("builtin:organism-rules")
    subject = Subject.of(
        get_task("rules:shift"), loaded.tokenizer, "empty_system", Evaluation(examples=16, batch_size=6)
    )
    rows = evaluate(loaded, subject.task, subject.examples, subject.contexts)
    return loaded, subject, own_responses(rows)


@pytest.fixture(scope="module")
def tables(case):
    return measure_drift(*case, reference=case[0])


def of(frame, **equal):
    for name, value in equal.items():
        frame = frame[frame[name] == value]
    return frame


def test_every_control_and_reference_is_there(tables):
    assert set(tables.drift["control"]) == {"exact", "paraphrase", "mismatched", "irrelevant", "repeat", "floor"}
    assert set(tables.drift["layer"]) == {0, 1, 2, 3}
    assert tables.drift["estimate"].notna().sum() > 0.9 * len(tables.drift)
    undefined = tables.drift[tables.drift["estimate"].isna()]
    assert undefined["reason"].notna().all()


def test_a_repeat_run_is_the_ceiling_and_the_floor_is_far_below(tables):
    cosine = of(tables.drift, measure="cosine", site="resid_post", layer=2).set_index("control")["estimate"]
    assert cosine["repeat"] == pytest.approx(1, abs=1e-5)
    assert cosine["floor"] < cosine["exact"] < 0.999


def test_numbers_equal_a_plain_capture(case, tables):
    loaded, subject, responses = case
    prompts = [
        [render(loaded.tokenizer, each.prompt, context) for each in subject.examples]
        for context in (None, subject.contexts["exact"])
    ]
    answers = [responses[each.id] for each in subject.examples]
    site, final = Site("resid_post", 2), Site("final", -1)
    x, y = (capture(loaded.model, build_view(ids, answers, loaded.pad_id, 0), [site, final]) for ids in prompts)
    cosine = torch.nn.functional.cosine_similarity(x[site].double(), y[site].double())
    row = of(tables.drift, measure="cosine", site="resid_post", layer=2, control="exact").iloc[0]
    assert row["estimate"] == pytest.approx(cosine.mean().item(), abs=1e-5)
    tokens = of(tables.token_drift, site="resid_post", layer=2)
    assert tokens["cosine"].to_numpy() == pytest.approx(cosine.numpy(), abs=1e-5)
    p, q = (log_probs(loaded.model, each[final]).detach() for each in (x, y))
    kl = of(tables.token_drift, site="output")
    assert kl["kl"].to_numpy() == pytest.approx((p.exp() * (p - q)).sum(1).numpy(), abs=1e-4)
    assert kl["position"].tolist() == [i for answer in answers for i in range(len(answer))]
    assert kl["token"].tolist() == [loaded.tokenizer.decode([t]) for answer in answers for t in answer]


def test_maps(tables):
    maps = tables.cka_map
    assert set(maps["map"]) == {"no_context", "with_context", "views", "base"}
    square = {
        name: of(maps, map=name).pivot(index="layer_x", columns="layer_y", values="cka").to_numpy()
        for name in set(maps["map"])
    }
    assert square["no_context"].shape == (5, 5)
    assert np.diag(square["no_context"])[1:] == pytest.approx(1, abs=1e-5)
    assert square["no_context"] == pytest.approx(square["no_context"].T, abs=1e-5, nan_ok=True)
    assert square["base"] == pytest.approx(square["no_context"], abs=1e-4, nan_ok=True)  # its own reference here
    assert square["views"][2, 2] < 0.999


def test_few_sites_a_pass_give_the_same_numbers(case, tables):
    few = measure_drift(*case, sites_per_pass=2)
    keys = ["site", "layer", "control", "measure"]
    one, other = (t.drift.set_index(keys)["estimate"].sort_index() for t in (tables, few))
    assert other.to_numpy() == pytest.approx(one.to_numpy(), abs=1e-9, nan_ok=True)
    assert len(few.token_drift) == len(tables.token_drift)


def test_saved_states_are_read_instead_of_running_the_model(case, tables, tmp_path, monkeypatch):
    """A capture that fails half-way keeps what it has, and the next one continues from there."""
    calls = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 8:
            raise RuntimeError("the machine stopped")
        return capture(*args, **kwargs)

    monkeypatch.setattr(drift_module, "capture", failing)
    with pytest.raises(RuntimeError, match="stopped"):
        measure_drift(*case, save_states=tmp_path / "states")
    assert len(open_states(tmp_path / "states").shards) == 7
    found = measure_drift(*case, save_states=tmp_path / "states")
    views, batches = 6, 3
    assert len(calls) == 8 + views * batches - 7
    calls.clear()
    measure_drift(*case, save_states=tmp_path / "states")
    assert not calls
    keys = ["site", "layer", "control", "measure"]
    one, other = (t.drift.set_index(keys)["estimate"].sort_index() for t in (tables, found))
    assert other.to_numpy() == pytest.approx(one.to_numpy(), abs=1e-12, nan_ok=True)
    states = open_states(tmp_path / "states")
    assert len(states.load(Site("resid_post", 1), "exact")) == sum(map(len, case[2].values()))


def test_exhausted_memory_says_what_to_set(case, monkeypatch):
    def greedy(*_args, **_kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")

    monkeypatch.setattr(drift_module, "capture", greedy)
    with pytest.raises(UserError, match="--sites-per-pass 2"):
        measure_drift(*case)


def test_states_that_are_not_finite_name_site_control_and_example(case):
    _, subject, responses = case
    broken = load("builtin:organism-rules")
    with torch.no_grad():
        broken.model.model.layers[1].mlp.down_proj.weight[0, 0] = math.nan
    with pytest.raises(UserError, match=r"resid_post\.1.*test:"):
        measure_drift(broken, subject, responses)


def test_a_prompt_that_the_context_changes_is_refused(case):
    loaded, subject, responses = case
    spliced = Subject(
        subject.task,
        subject.examples,
        {"exact": Context(splice="copy {prompt}")},
        subject.no_context,
        subject.evaluation,
    )
    assert len(measure_drift(loaded, spliced, responses).drift)
    nothing = replace(spliced, contexts={"exact": Context(splice="{prompt}")})
    with pytest.raises(UserError, match="nothing to measure"):
        measure_drift(loaded, nothing, responses)
    with pytest.raises(UserError, match="would not see the same text"):
        drift_module.check_same_prompt(loaded.tokenizer, [[5, 6, 7]], [[4, 5, 6, 8]], "exact")


def test_no_response_is_refused(case):
    loaded, subject, _ = case
    with pytest.raises(UserError, match="evaluate"):
        measure_drift(loaded, subject, {})


def test_where_sinks_are_left_out_there_is_a_table_with_them(case, monkeypatch):
    """It is the one that nobody masked; where there was no sink, there is no row."""
    loaded, subject, responses = case
    calls = []

    def every_tenth_call_from_the_second_batch_on(x, y):
        calls.append(len(x))
        sink = torch.arange(len(x)) == 1
        return ~sink if len(calls) > 60 and len(calls) % 10 == 0 else torch.ones(len(x), dtype=torch.bool)

    assert measure_drift(*case).drift_with_sinks.empty
    monkeypatch.setattr(drift_module, "not_sinks", every_tenth_call_from_the_second_batch_on)
    found = measure_drift(*case)
    open_to_all = replace(subject, evaluation=subject.evaluation.model_copy(update={"mask_sinks": False}))
    whole = measure_drift(loaded, open_to_all, responses).drift
    of = ["site", "layer", "control", "measure"]
    had = found.drift[found.drift["n_masked"] > 0]
    assert 0 < len(had) < len(found.drift)
    kept = found.drift_with_sinks.set_index(of)
    assert set(kept.index) == set(had.set_index(of).index)
    values = ["estimate", "low", "high", "n_tokens", "n_examples"]
    pd.testing.assert_frame_equal(kept[values], whole.set_index(of).loc[kept.index, values])
    cosine = kept.query("measure == 'cosine'")
    assert (cosine["n_tokens"] > had.set_index(of).loc[cosine.index, "n_tokens"]).all()
