"""Every architecture of the zoo: what is computed is what one plain sequence gives, or there is a sentence.

The reference is the library's own forward on one sequence, and a loop that takes its best next token; nothing of this
project takes part in it. Sequences lie on both sides of every boundary of the configurations (16 and 20 tokens).
"""

import dataclasses
import warnings
from functools import cache

import pytest
import torch
from zoo import FAST, ZOO, shared_model, zoo_model

from cr_interp.capture import capture
from cr_interp.capture.check import check_model
from cr_interp.capture.check_running import boundaries, check_running
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import Slower, UserError
from cr_interp.models import short_cuts
from cr_interp.models.batching import Batching, batching
from cr_interp.models.forward import backbone, build_view, check_head, hidden_states
from cr_interp.models.generation import Decoding, respond

EVERY = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in ZOO]
#: (tokens of the common prefix, of what follows it in each prompt, of the responses)
SEQUENCES = [
    (5, (4, 7, 2), (3, 1, 2)),
    (14, (4, 7, 2), (4, 2, 3)),
    (24, (4, 7, 2), (4, 2, 3)),
    (19, (1, 3, 2), (1, 2, 3)),
]
REFUSED = {
    "modernbert-decoder": "computes its logits in a way not known here",
    "gemma3n_text": "its stream cannot be read there",
    "xlstm": "cannot be read as a decoder of text",
}


def asked(common, own, answers, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(8, 250, (n,), generator=generator).tolist()

    start = ids(common)
    return [[*start, *ids(n)] for n in own], [ids(n) for n in answers]


@torch.no_grad()
def plainly(model, prompts, responses):
    """Final states at the aligned positions, one sequence at a time."""
    found = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = torch.tensor([[*prompt, *response[:-1]]])
        found.append(backbone(model)(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 :])
    return torch.cat(found)


@torch.no_grad()
def said(model, prompt, n):
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@cache
def refusal_of(name):
    """The sentence that refuses a model; empty where it can be read."""
    model = shared_model(name)
    try:
        check_head(model)
        capture(model, build_view([[8, 9, 10]], [[11]], 0), residual_sites(model))
    except UserError as refusal:
        return str(refusal)
    return ""


def readable(name):
    """The model, or the test ends with the sentence that refuses it."""
    model, sentence = shared_model(name), refusal_of(name)
    assert REFUSED.get(name, "") in sentence
    assert bool(sentence) == (name in REFUSED)
    if sentence:
        pytest.skip(sentence)
    return model


@pytest.mark.parametrize("name", EVERY)
def test_batches_pads_and_prefixes_give_what_one_sequence_gives(name):
    model = readable(name)
    for sequences in SEQUENCES:
        prompts, responses = asked(*sequences)
        expected = plainly(model, prompts, responses)
        last = Site("resid_post", len(residual_sites(model)) - 2)
        alone = torch.cat(
            [
                capture(model, build_view([p], [r], 0, 0), [last])[last]
                for p, r in zip(prompts, responses, strict=True)
            ]
        )
        for padding in ("right", "left"):
            for shared in (None, 0, 3):
                view = build_view(prompts, responses, 0, shared, padding)
                with torch.no_grad():
                    assert error(hidden_states(model, view), expected) < 1e-5, (sequences, padding, shared)
                assert error(capture(model, view, [last])[last], alone) < 1e-5, (sequences, padding, shared)


@pytest.mark.parametrize("name", EVERY)
def test_responses_are_those_of_a_plain_loop(name):
    model = readable(name)
    for sequences in SEQUENCES:
        prompts, _ = asked(*sequences)
        expected = [said(model, prompt, 5) for prompt in prompts]
        for shared in (None, 0):
            found = respond(model, prompts, Decoding(5, batch_size=2), (), prefix_length=shared)
            assert [list(each.ids) for each in found] == expected, (sequences, shared)


@pytest.mark.parametrize("name", EVERY)
def test_check_passes_or_says_why_not(name):
    model = readable(name)
    checks = check_model(model, backends=["hooks"])
    assert [check for check in checks if check.status == "fail"] == []
    assert sum("one at a time" in check.claim for check in checks) >= 1
    assert sum("greedy decoding" in check.claim for check in checks) >= 1


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("llama", []),
        ("gpt2", []),
        ("phi3-longrope", ["limits"]),
        ("mpt", ["left"]),
        ("mamba", ["prefix", "left"]),
    ],
)
def test_short_cuts_are_given_up_only_where_they_are_not_exact_and_that_is_said_once(name, lacks, monkeypatch):
    monkeypatch.setattr("cr_interp.models.batching._SAID", set())
    monkeypatch.setattr("cr_interp.models.batching._ALIKE", {})
    model = zoo_model(name)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        way = batching(model)
        assert batching(model) is way
        batching(zoo_model(name, seed=1))
    found = [short for short in ("prefix", "left") if not getattr(way, short)] + ["limits"] * bool(way.limits)
    assert found == lacks
    assert way.everything == (not lacks)
    sentences = [str(each.message) for each in heard if issubclass(each.category, Slower)]
    assert len(sentences) == bool(lacks)
    assert all("right" in each and "slower" in each for each in sentences)


def test_models_built_alike_are_asked_once(monkeypatch):
    """Whatever their weights and hooks; but what runs otherwise, or at a precision whose limit is wide, is asked itself."""
    monkeypatch.setattr("cr_interp.models.batching._ALIKE", {})
    asked = []
    monkeypatch.setattr(short_cuts, "find", lambda model: asked.append(model) or Batching())

    def is_asked(model):
        batching(model)
        return bool(asked) and asked[-1] is model

    first = zoo_model("gpt2")
    assert is_asked(first)
    hooked = zoo_model("gpt2", seed=1)
    hooked.transformer.h[0].register_forward_hook(lambda *_: None)
    hooked.config.name_or_path = "elsewhere"
    assert not is_asked(hooked)
    trained = zoo_model("gpt2")
    trained.forward = trained.forward
    assert not is_asked(trained)
    other_attention = zoo_model("gpt2")
    other_attention.set_attn_implementation("sdpa" if first.config._attn_implementation == "eager" else "eager")
    assert is_asked(other_attention)
    for half in (zoo_model("gpt2").bfloat16(), zoo_model("gpt2").bfloat16()):
        assert is_asked(half)
    for replaced in (zoo_model("gpt2"), zoo_model("gpt2")):
        replaced.transformer.h[0].forward = replaced.transformer.h[0].forward
        assert is_asked(replaced)
    changed = zoo_model("gpt2")
    changed.transformer.h[1].mlp.act = torch.nn.Tanh()
    assert is_asked(changed)
    configured = zoo_model("gpt2")
    configured.config.scale_attn_by_inverse_layer_idx = True
    assert is_asked(configured)
    assert is_asked(zoo_model("llama"))
    window = zoo_model("gpt2")
    window.transformer.h[0].attn.sliding_window = 4
    assert is_asked(window)
    for silent in (zoo_model("gpt2"), zoo_model("gpt2")):  # behind zeros nothing shows, so they answer for nobody
        silent.transformer.h[0].attn.c_proj.weight.data.zero_()
        assert is_asked(silent)


def test_asking_a_model_leaves_it_as_it_was(monkeypatch):
    monkeypatch.setattr("cr_interp.models.batching._ALIKE", {})
    model = zoo_model("gpt2").train()
    model.transformer.h[1].eval()
    seen = []
    model.transformer.h[0].register_forward_hook(lambda *_: seen.append(1))
    state = torch.get_rng_state()
    batching(model)
    assert seen == []
    assert model.training
    assert not model.transformer.h[1].training
    assert torch.equal(torch.get_rng_state(), state)
    model(input_ids=torch.tensor([[8, 9]]))
    assert seen == [1]


# -- the check finds what is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "claim"),
    [
        ("mamba", {"prefix": True}, "short sequences"),
        ("mamba", {"prefix": True}, "greedy decoding"),
        ("mpt", {"left": True}, "short sequences"),
        ("phi3-longrope", {"limits": ()}, "lengths around 20"),
        ("phi3-longrope", {"limits": ()}, "greedy decoding around 20"),
        ("llama-dynamic", {"limits": ()}, "lengths around 20"),
        ("qwen3_5", {"prefix": True}, "short sequences"),
    ],
)
def test_check_finds_a_short_cut_that_is_not_exact(name, wrong, claim, monkeypatch):
    """As if nobody had asked the model: every short cut is taken, as it is for a Llama."""
    model = zoo_model(name)
    way = dataclasses.replace(batching(model), **wrong)
    for module in ("models.batching", "models.forward", "models.generation", "capture.check_running"):
        monkeypatch.setattr(f"cr_interp.{module}.batching", lambda _model: way)
    if wrong == {"prefix": True}:  # as it was: whatever is kept is taken for keys and values
        monkeypatch.setattr("cr_interp.models.forward.recorded", lambda cache, *_: kept(cache))
    try:
        checks = check_running(model)
    except (AttributeError, IndexError):
        return  # a hybrid's cache has not even the methods
    assert any(claim in check.claim for check in checks if check.status == "fail"), checks


def kept(cache):
    return tuple((layer.keys, layer.values) for layer in cache.layers)


def test_boundaries_are_found_wherever_a_configuration_names_them():
    assert boundaries(zoo_model("phi3-longrope-window")) == [16, 20]
    assert boundaries(zoo_model("gemma3-dynamic")) == [16, 20]
    assert boundaries(zoo_model("gpt_neo")) == [16]
    assert boundaries(zoo_model("mamba2")) == [8]
    assert boundaries(zoo_model("llama")) == []


def test_boundaries_that_are_too_far_are_skipped_and_said_to_be():
    checks = check_model(zoo_model("mistral"), backends=["hooks"], longest=12)
    (skipped,) = [check for check in checks if check.claim == "lengths around 16 tokens"]
    assert skipped.status == "skipped"
    assert "--longest" in skipped.where
