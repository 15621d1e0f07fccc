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
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, own_responses, study_tokens, with_tokens
from cr_interp.models.forward import build_view, log_probs
from cr_interp.models.loading import load
from cr_interp.similarity import tokens_each
from cr_interp.study.study import Study
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


@pytest.mark.slow
def test_every_control_and_reference_is_there(tables):
    assert set(tables.drift["control"]) == {"exact", "paraphrase", "mismatched", "irrelevant", "repeat", "floor"}
    assert set(tables.drift["layer"]) == {0, 1, 2, 3}
    assert tables.drift["estimate"].notna().sum() > 0.9 * len(tables.drift)
    undefined = tables.drift[tables.drift["estimate"].isna()]
    assert undefined["reason"].notna().all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_few_sites_a_pass_give_the_same_numbers(case, tables):
    few = measure_drift(*case, sites_per_pass=2)
    keys = ["site", "layer", "control", "measure"]
    one, other = (t.drift.set_index(keys)["estimate"].sort_index() for t in (tables, few))
    assert other.to_numpy() == pytest.approx(one.to_numpy(), abs=1e-9, nan_ok=True)
    assert len(few.token_drift) == len(tables.token_drift)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_no_interval_excludes_its_own_estimate(tables):
    rows = tables.drift[tables.drift["low"].notna()]
    assert ((rows["low"] <= rows["estimate"]) & (rows["estimate"] <= rows["high"])).all()
    assert set(rows["measure"]) >= {"cosine", "shift_share", "cka", "cka_examples", "knn_overlap"}


@pytest.mark.slow
def test_what_stands_beside_an_estimate(case, tables):
    exact = of(tables.drift, control="exact", measure="cka_examples")
    assert (exact["p"] == 1 / 200).all(), "199 permutations, none of which reaches the true pairing"
    assert (exact["p_layers"] == 1 / 200).all()
    assert of(tables.drift, control="repeat")["p"].isna().all()
    assert of(tables.drift, measure="cosine")["p"].isna().all()
    assert of(tables.drift, control="floor", measure="shift_share")["estimate"].isna().all()
    assert tables.drift["method"].notna().all()
    embedding = of(tables.drift, site="resid_pre", control="exact")
    assert (embedding["n_duplicates"] > 0).all(), "tokens that occur more than once have one embedding"
    none = replace(case[1], evaluation=case[1].evaluation.model_copy(update={"permutations": 0}))
    assert measure_drift(case[0], none, case[2]).drift["p"].isna().all()


def test_the_lowest_cosine_has_an_interval_of_its_own(tables):
    """Of the minimum: wherever another layer is nearly as low, other examples might have made that one the lowest."""
    for control, rows in of(tables.drift, measure="cosine", site="resid_post").groupby("control"):
        (lowest,) = rows[rows["min_low"].notna()].itertuples()
        assert lowest.estimate == rows["estimate"].min(), control
        assert lowest.min_low <= lowest.estimate <= lowest.min_high
    others = tables.drift[tables.drift["measure"] != "cosine"]
    assert others["min_low"].isna().all()


@pytest.mark.slow
def test_example_level_compares_so_many_tokens_as_the_study_says(case, tables):
    responses = case[2]
    lengths = [len(ids) for ids in responses.values()]
    few = measure_drift(*case, example_tokens=2)
    for found, tokens in ((few, 2), (tables, tokens_each([lengths]))):
        rows = of(found.drift, measure="cka_examples", control="exact")
        assert set(rows["example_tokens"]) == {tokens}
        assert (rows["n_tokens"] == tokens * rows["n_examples"]).all()
        assert set(rows["n_dropped"]) == {sum(length < tokens for length in lengths)}
        views = of(found.cka_map, map="views").query("layer_x == layer_y and layer_x >= 0")
        own = rows[rows["site"] == "resid_post"]
        assert views["cka_examples"].to_numpy() == pytest.approx(own["estimate"].to_numpy(), abs=1e-6)
        assert set(views["n_examples"]) == set(own["n_examples"])
    row = of(tables.cka_map, map="views", layer_x=2, layer_y=2).iloc[0]
    level = of(tables.drift, measure="cka", site="resid_post", layer=2, control="exact").iloc[0]
    assert row["cka"] == pytest.approx(level["estimate"], abs=1e-7), "all rows fit into one batch here"


@pytest.mark.slow
def test_clusters_of_examples_are_drawn_together(case):
    loaded, subject, responses = case

    def measured(clusters: int):
        examples = [replace(one, cluster=str(place % clusters)) for place, one in enumerate(subject.examples)]
        found = measure_drift(loaded, replace(subject, examples=examples), responses).drift
        return of(found, measure="cosine", control="exact")

    apart, one = measured(len(subject.examples)), measured(1)
    assert apart["low"].notna().all()
    assert one["low"].isna().all()
    assert (one["reason"] == "no interval: one cluster of examples").all()
    assert (one["estimate"].to_numpy() == apart["estimate"].to_numpy()).all()


def test_the_tokens_of_a_study_are_chosen_once_from_all_its_checkpoints(tmp_path):
    def answers(arm: str, lengths: list[int]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "arm": arm,
                "seed": 0,
                "step": 1,
                "split": "test",
                "example_id": [str(i) for i in range(len(lengths))],
                "view": "no_context",
                "control": "none",
                "sample": 0,
                "prompt": "",
                "response": "",
                "n_tokens": lengths,
                "outcome": "right",
                "response_ids": [[1] * n for n in lengths],
            }
        )

    both = pd.concat([answers("base", [6] * 19 + [1]), answers("opd", [3] * 20)])
    assert study_tokens(both) == 3
    study = with_tokens(Study.create(tmp_path / "study", {}), both)
    assert Study.open(study.path).manifest["example_tokens"] == 3
    more = pd.concat([both, answers("nca", [2] * 20)])
    assert with_tokens(study, more).manifest["example_tokens"] == 3, "what is there stays comparable"
    assert with_tokens(study, more, anew=True).manifest["example_tokens"] == 2
    assert with_tokens(study, both, "base", anew=True).manifest["example_tokens"] == 6


@pytest.mark.parametrize("ids", [None, 3.5, "abc", [["a"]]])
def test_answers_without_their_ids_are_refused(ids):
    from cr_interp.measure.subject import own_responses, study_tokens

    rows = pd.DataFrame(
        {"view": ["no_context"], "sample": [0], "example_id": ["a"], "arm": ["x"], "seed": [0], "step": [0]}
    )
    if ids is not None:
        rows["response_ids"] = [ids]
    for read in (own_responses, study_tokens):
        with pytest.raises(UserError, match="response_ids"):
            read(rows)
