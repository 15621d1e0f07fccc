"""What is tried on the spot has the numbers that a study has: the same responses, the same drift, token by token."""

import json
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny

from cr_interp.capture import capture, model_lock
from cr_interp.capture.sites import residual_sites
from cr_interp.errors import UserError
from cr_interp.measure.drift import measure_drift
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, behaviour_rows, own_responses
from cr_interp.measure.tokens import moves
from cr_interp.measure.tryout import FINAL, check_same_tokenizer, open_model, try_out
from cr_interp.models.forward import build_view
from cr_interp.similarity import DriftAccumulator
from cr_interp.tasks import get_task
from cr_interp.views import Context, render

CONTEXT = Context.system("write the next letter for each")
PROMPT = "dabcp"


@pytest.fixture(scope="module")
def models(organism, tiny_llama):
    return {"organism": organism, "llama": tiny_llama, "gpt2": tiny("gpt2"), "gpt_neox": tiny("gpt_neox")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["organism", "llama", "gpt2"])
def test_the_numbers_are_those_of_a_study(models, name):
    loaded = models[name]
    task = get_task("rules:shift")
    subject = Subject.of(
        task, loaded.tokenizer, "empty_system", Evaluation(examples=6, controls=("exact",), mask_sinks=False)
    )
    generations = behaviour_rows(loaded, subject, "base", 0, 0)
    study = measure_drift(loaded, subject, own_responses(generations)).token_drift
    for example in subject.examples:
        tried = try_out(loaded, example.prompt, subject.contexts["exact"], task.max_new_tokens)
        said = generations[generations["example_id"] == example.id].set_index("view")
        for view, answer in (("no_context", tried.without), ("with_context", tried.given)):
            assert answer.text == said.loc[view, "response"]
            assert answer.n_tokens == said.loc[view, "n_tokens"]
            assert answer.truncated == (said.loc[view, "response_ids"][-1] not in loaded.eos_ids)
        theirs = study[study["example_id"] == example.id].sort_values(["site", "layer", "position"])
        mine = tried.token_rows("base").sort_values(["site", "layer", "position"])
        assert mine["token"].tolist() == theirs["token"].tolist()
        for column in ("cosine", "relative_l2", "kl"):
            np.testing.assert_allclose(mine[column], theirs[column], atol=2e-5, rtol=2e-4)


def test_a_layer_is_the_mean_over_its_tokens(organism):
    tried = try_out(organism, PROMPT, CONTEXT, 12)
    views = [render(organism.tokenizer, PROMPT, context) for context in (None, CONTEXT)]
    ids = organism.tokenizer("".join(tried.tokens), add_special_tokens=False)["input_ids"]
    sites = residual_sites(organism.model)
    x, y = (capture(organism.model, build_view([view], [ids], 0), sites) for view in views)
    rows = tried.layer_rows("mine").set_index(["site", "layer", "measure"])
    for site in sites:
        panel = DriftAccumulator(x[site].shape[1], measures=("cosine", "relative_l2"))
        panel.update(x[site], y[site], torch.zeros(len(ids), dtype=torch.long))
        for found in panel.finish(resamples=2):
            row = rows.loc[(site.name, site.layer, found["measure"])]
            assert row["estimate"] == pytest.approx(found["estimate"], abs=1e-6)
            assert row["low"] <= row["estimate"] <= row["high"]


@pytest.mark.parametrize("name", ["organism", "llama", "gpt2", "gpt_neox"])
def test_without_a_context_nothing_moves(models, name):
    tried = try_out(models[name], PROMPT, None, 10)
    assert tried.given == tried.without
    assert np.all(np.abs(tried.cosine - 1) < 1e-12)
    assert not tried.relative_l2.any()
    assert not tried.kl.any()


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("shared", [None, 0])
def test_neither_padding_nor_neighbours_matter(organism, padding, shared):
    tried = try_out(organism, PROMPT, CONTEXT, 12)
    prompts = [PROMPT, "a", "ponmlkji"]
    own = organism.tokenizer("".join(tried.tokens), add_special_tokens=False)["input_ids"]
    answers = [own, [5, 1], list(range(10, 30))]
    sites = [*residual_sites(organism.model), FINAL]
    states = []
    for context in (None, CONTEXT):
        ids = [render(organism.tokenizer, prompt, context) for prompt in prompts]
        view = build_view(ids, answers, organism.pad_id, shared, padding=padding)
        found = capture(organism.model, view, sites)
        states.append({site: state[view.rows == 0] for site, state in found.items()})
    for index, site in enumerate(tried.sites):
        cosine, far = moves(states[0][site], states[1][site])
        np.testing.assert_allclose(tried.cosine[index], cosine, atol=1e-5)
        np.testing.assert_allclose(tried.relative_l2[index], far, atol=1e-5, rtol=1e-4)


def test_what_the_organism_says(organism):
    """The base follows the context: with it the next letters, without it something else."""
    tried = try_out(organism, PROMPT, CONTEXT, 12)
    assert tried.given.text == "ebcd" + "a"
    assert not tried.given.truncated
    assert tried.cosine[1:].min() < 0.95
    assert tried.kl.max() > 0.1
    assert len(tried.tokens) == tried.without.n_tokens == tried.cosine.shape[1] == len(tried.kl)
    cut = try_out(organism, PROMPT, CONTEXT, 2)
    assert cut.without.truncated
    assert cut.tokens == tried.tokens[:2]
    np.testing.assert_allclose(cut.cosine, tried.cosine[:, :2], atol=1e-6)


def test_few_shot_and_spliced_contexts(organism):
    turns = Context(({"role": "user", "content": "abcd"}, {"role": "assistant", "content": "bcde"}))
    spliced = Context(splice="as before {prompt}")
    for context in (turns, spliced):
        assert try_out(organism, PROMPT, context, 6).cosine[1:].min() < 1


def test_what_the_tokenizer_does_not_know(organism):
    tried = try_out(organism, "a é", Context((*CONTEXT.messages,), splice="ß {prompt}"), 4)
    assert tried.unread == "éß"
    assert not try_out(organism, PROMPT, CONTEXT, 4).unread


def test_what_does_not_fit_is_refused(organism):
    with pytest.raises(UserError, match="Nothing is truncated here"):
        try_out(organism, "abcd" * 200, CONTEXT, 8)
    with pytest.raises(UserError, match="would not see the same text"):
        try_out(with_a_trailing_context(organism), PROMPT, CONTEXT, 8)


def with_a_trailing_context(loaded):
    """A template that writes the system message behind the prompt."""
    tokenizer = type(loaded.tokenizer).from_pretrained(loaded.tokenizer.name_or_path)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}{{ messages[0]['content'] }}"
    return replace(loaded, tokenizer=tokenizer)


def test_a_diverged_model_and_a_full_memory_are_sentences(monkeypatch):
    loaded = tiny(seed=3)
    monkeypatch.setattr("cr_interp.measure.tryout.generate", lambda *a, **k: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(UserError, match=r"could not answer \(MemoryError\)\. Shorten"):
        try_out(loaded, PROMPT, CONTEXT, 4)
    monkeypatch.undo()
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        try_out(loaded, PROMPT, CONTEXT, 4)


def test_two_threads_get_their_own_numbers(organism):
    wanted = {text: try_out(organism, text, CONTEXT, 8).token_rows("m") for text in ("abcd", "ponm")}
    found: dict[str, pd.DataFrame] = {}

    def ask(text: str) -> None:
        found[text] = try_out(organism, text, CONTEXT, 8).token_rows("m")

    threads = [threading.Thread(target=ask, args=(text,)) for text in wanted]
    with model_lock(organism.model):
        for thread in threads:
            thread.start()
        assert not found
    for thread in threads:
        thread.join()
    for text, rows in wanted.items():
        pd.testing.assert_frame_equal(found[text], rows)


def test_open_model_has_a_sentence_for_every_failure(tmp_path, organism):
    organism.model.save_pretrained(tmp_path)
    organism.tokenizer.save_pretrained(tmp_path)
    assert open_model(str(tmp_path)).model.config.hidden_size == organism.model.config.hidden_size
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0noweight")
    with pytest.raises(UserError, match="could not be loaded"):
        open_model(str(tmp_path))


def test_code_beside_the_weights_is_not_run(tmp_path, organism):
    organism.model.save_pretrained(tmp_path)
    organism.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "of-my-own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w').write('x')\n")
    with pytest.raises(UserError, match="could not be loaded"):
        open_model(str(tmp_path))
    assert not ran.exists()


def test_another_tokenizer_is_refused(organism):
    check_same_tokenizer(organism, organism)
    with pytest.raises(UserError, match="another tokenizer or chat template"):
        check_same_tokenizer(organism, with_a_trailing_context(organism))
