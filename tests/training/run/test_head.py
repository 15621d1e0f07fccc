"""Losses through the head in chunks are those of the plain path, and hold one chunk of the vocabulary at a time."""

import pytest
import torch
from live_bytes import LiveBytes
from steps import assert_close, batch, pair, reader, step

from cr_interp.models.forward import build_view
from training.objectives import ARMS, arm_terms
from training.run.head import Gather, Source, chunked_divergences, chunks, on_support
from training.run.losses import divergence, losses

TRAINED = [arm for arm, terms in ARMS.items() if terms]


def plain(student, teacher, arm, prompts, responses, top_k, temperature):
    """The reference: log-probabilities of the whole vocabulary, restricted afterwards."""
    made = reader(student, teacher, arm, temperature=temperature)
    x = build_view([p.no_context for p in prompts], responses, 0, made.prefix_x)
    log_p = {
        name: source.log_probs(temperature)
        for name, source in made._sources(student.model, x, prompts, responses)
    }
    return losses(arm_terms(arm), log_p, x.rows, top_k)


@pytest.mark.parametrize("arm", TRAINED)
@pytest.mark.parametrize("top_k", [None, 8])
@pytest.mark.parametrize("chunk", [None, 1, 4, 1000])
def test_chunks_change_neither_values_nor_gradients(arm, top_k, chunk):
    student, teacher = pair()
    prompts, responses = batch()
    expected = plain(student, teacher, arm, prompts, responses, top_k, 1.0)
    expected.total.backward()
    wanted = {name: p.grad.clone() for name, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad()
    found, grads = step(reader(student, teacher, arm, top_k=top_k, chunk=chunk), prompts, responses)
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-5)
    assert found.mass == pytest.approx(expected.mass, rel=1e-5)
    for name, value in expected.terms.items():
        assert found.terms[name].item() == pytest.approx(value.item(), rel=1e-5)
    assert_close(grads, wanted)


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])  # a head with a soft cap; another backbone
@pytest.mark.parametrize("top_k", [None, 8])
def test_other_heads_and_temperatures(family, top_k):
    student, teacher = pair(family)
    prompts, responses = batch()
    expected = plain(student, teacher, "sym_kl", prompts, responses, top_k, 0.7)
    expected.total.backward()
    wanted = {name: p.grad.clone() for name, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad()
    made = reader(student, teacher, "sym_kl", top_k=top_k, chunk=3, temperature=0.7)
    found, grads = step(made, prompts, responses)
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-5)
    assert_close(grads, wanted)


def test_the_whole_vocabulary_as_a_support_is_the_full_vocabulary():
    student, teacher = pair()
    prompts, responses = batch()
    full, _ = step(reader(student, teacher), prompts, responses)
    as_many, _ = step(reader(student, teacher, top_k=64), prompts, responses)
    assert torch.equal(full.total, as_many.total)


def test_gather_keeps_the_library_s_gradient_and_no_scores():
    torch.manual_seed(0)
    scores = torch.randn(5, 11, dtype=torch.float64, requires_grad=True)
    support = scores.topk(4).indices
    assert torch.equal(Gather.apply(scores, support), scores.gather(-1, support))
    assert torch.autograd.gradcheck(lambda s: Gather.apply(s, support), scores)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        Gather.apply(scores, support)
    assert kept == [support.shape]


@pytest.mark.parametrize("top_k", [4, None])
def test_logits_of_one_chunk_exist_at_a_time(top_k):
    """Of a vocabulary that dwarfs everything else; the formula of all this is tested in ``test_memory.py``."""
    vocabulary, chunk, tokens = 5000, 8, 64
    student, teacher = pair(vocab_size=vocabulary)
    torch.manual_seed(0)
    states = {name: torch.randn(tokens, 32, requires_grad=name != "f") for name in ("q_x", "q_c", "f")}
    sources = {
        name: Source((teacher if name == "f" else student).model, s, name != "f") for name, s in states.items()
    }
    terms = arm_terms("nca")
    most = 0

    class Counting(LiveBytes):
        def _see(self, tensor):
            super()._see(tensor)
            nonlocal most
            most = max(
                most,
                sum(
                    shape[-1:] == (vocabulary,) and shape != (32, vocabulary) for _, shape in self._sizes.values()
                ),
            )

    with Counting([*student.model.parameters(), *teacher.model.parameters()]) as live:
        if top_k:
            log_p, _ = on_support(sources, top_k, 1.0, chunk)
            total = sum(t.weight * divergence(t, log_p).mean() for t in terms)
        else:
            total = sum(
                t.weight * v.mean()
                for t, v in zip(terms, chunked_divergences(terms, sources, 1.0, chunk), strict=True)
            )
        forward = live.live
        total.backward()
    assert forward < chunk * vocabulary * 4  # not one chunk's logits wait for the backward pass
    assert most <= (2 if top_k else 12)
    assert all(s.grad is not None for name, s in states.items() if name != "f")


def test_chunks_cover_every_token_once():
    for tokens, size in ((7, 3), (6, 3), (2, 9), (5, None)):
        assert [i for s in chunks(tokens, size) for i in range(tokens)[s]] == list(range(tokens))
