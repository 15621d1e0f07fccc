"""Gradients of terms against autograd on plain forwards, one sequence at a time."""

import numpy as np
import pytest
import torch
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.mechanism.given import Options
from cr_interp.mechanism.material import NONE, Material
from cr_interp.models.generation import Decoding, generate, noise
from cr_interp.tasks.base import Example
from cr_interp.views import Context, aligned_positions
from training.run import gradients
from training.run.gradients import inner_products, rows, terms_of
from training.settings import Training

WORDS = ["abcd", "hgfe", "aaaa", "bbcd", "cdab", "gggh", "abab", "dcba", "hhhh"]


def material(student=None, **rest):
    student = student or tiny(seed=1)
    context = Context(messages=({"role": "system", "content": "write the next letter"},))
    return Material(
        student,
        base=lambda: tiny(),
        teacher=lambda: tiny(),
        contexts={"exact": context},
        no_context="empty_system",
        limit=3,
        prompts=[Example(f"e{i}", word, "") for i, word in enumerate(WORDS)],
        options=Options(batch_size=4),
        **rest,
    )


def plain(model, prompt, response):
    """float32 log-probabilities at the aligned positions by the library's own forward."""
    ids = torch.tensor([[*prompt, *response[:-1]]])
    return model(input_ids=ids).logits[0, list(aligned_positions(len(prompt), len(response)))].log_softmax(-1)


def by_hand(given, kind, responses):
    """The token-mean gradient of opd's or nca's term over all prompts, flat."""
    model, teacher = given.loaded.model, given.teacher().model
    total, tokens = 0.0, 0
    for x, c, response in zip(given.views[NONE], given.views["exact"], responses, strict=True):
        q_x, q_c, f = plain(model, x, response), plain(model, c, response), plain(teacher, c, response).detach()
        p, q = (q_x, f) if kind == "opd" else (q_x.detach(), q_c)
        total = total + (p.exp() * (p - q)).sum()
        tokens += len(response)
    found = torch.autograd.grad(total / tokens, [p for _, p in model.named_parameters()], allow_unused=True)
    return torch.cat(
        [
            g.flatten() if g is not None else torch.zeros(p.numel())
            for g, p in zip(found, model.parameters(), strict=True)
        ]
    )


@pytest.mark.slow
def test_equals_autograd_on_plain_forwards():
    given = material()
    table = rows(given)["gradients"]
    whole = table[(table["module"] == "all")]
    responses = [
        list(each.ids)
        for each in generate(
            given.loaded, given.views[NONE], Decoding(3, 1.0, batch_size=4), noise(0, range(len(WORDS)), 3)
        )
    ]
    opd, nca = (by_hand(given, kind, responses) for kind in ("opd", "nca"))
    names = {"opd": "KL(q_x || f)", "nca": "KL(sg[q_x] || q_c)"}
    for kind, gradient in (("opd", opd), ("nca", nca)):
        norm = whole[(whole["measure"] == "norm") & (whole["term"] == names[kind])]["estimate"].item()
        assert norm == pytest.approx(float(gradient.norm()), rel=1e-3)
    chosen = (whole["term"] == names["opd"]) & (whole["other_term"] == names["nca"])
    cosine = whole[chosen & (whole["measure"] == "cosine")]["estimate"].item()
    assert cosine == pytest.approx(float(opd @ nca / opd.norm() / nca.norm()), abs=1e-3)
    assert set(whole["n_examples"]) == {len(WORDS)}


def test_modules_and_layers_add_up():
    given = material()
    terms = terms_of({})[:2]
    names, products, n = inner_products(given, terms, Training())
    table = gradients.table(names, [str(t) for t in terms], products, n)
    norms = table[(table["measure"] == "norm") & (table["term"] == str(terms[0]))].set_index(["module", "layer"])[
        "estimate"
    ]
    layers = [norms["mlp.up_proj", layer] for layer in (0, 1)]
    assert norms["mlp.up_proj", -1] == pytest.approx(np.hypot(*layers))
    every = norms[[place for place in norms.index if place[1] == -1 and place[0] != "all"]]
    assert norms["all", -1] == pytest.approx((every**2).sum() ** 0.5)


@pytest.mark.slow
def test_a_base_that_is_its_own_teacher():
    base = tiny()
    given = material(base)
    given.teacher = lambda: base
    table = rows(given)["gradients"]
    norm = table[(table["module"] == "all") & (table["measure"] == "norm")].set_index("term")["estimate"]
    # The student with context is the teacher with it, so that pulling one to the other moves nothing.
    assert norm["KL(q_c || f)"] < 1e-5 * norm["KL(q_x || f)"]


def test_an_adapters_gradients_are_in_its_own_weights():
    import peft

    student = tiny(seed=1)
    model = peft.get_peft_model(student.model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    given = material(type(student)("adapted", model.eval(), student.tokenizer))
    table = rows(given)["gradients"]
    assert set(table["module"]) == {"all", "self_attn.q_proj"}


def test_terms_are_those_of_the_papers_arms_and_the_studys_own():
    told = {"arms": ["base", "opd", "mine"], "own_arms": {"mine": ["0.3 * KL(q_c || q_x)"]}}
    assert [str(term) for term in terms_of(told)] == [
        "KL(q_x || f)",
        "KL(sg[q_x] || q_c)",
        "KL(q_c || f)",
        "KL(q_c || q_x)",
    ]


def test_memory_is_bounded_by_fewer_groups_and_then_refused(monkeypatch):
    assert gradients._room(3, 1000, 100) == (8, torch.float32)
    assert gradients._room(3, 1000, 5) == (4, torch.float32)
    monkeypatch.setattr(gradients, "MOST_BYTES", 3 * 1000 * 4 * 2)
    assert gradients._room(3, 1000, 100) == (4, torch.bfloat16)
    monkeypatch.setattr(gradients, "MOST_BYTES", 3 * 1000)
    with pytest.raises(UserError, match="Gradients of 3 terms in 0 million weights"):
        gradients._room(3, 1000, 100)
