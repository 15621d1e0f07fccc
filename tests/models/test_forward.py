"""The shared prefix is exact: states, gradients and decoded tokens equal those of the plain model."""

import pytest
import torch
from tiny import INJECTING_TEMPLATE, tiny, tiny_model

from cr_interp.errors import UserError
from cr_interp.models.forward import build_view, check_head, encode_prefix, hidden_states, log_probs, run
from cr_interp.models.generation import Decoding, choose, generate, noise
from cr_interp.models.loading import Loaded
from cr_interp.views import Context, render

FAMILIES = ["llama", "qwen3", "gpt_neox", "gpt2"]
CONTEXT = Context.system("write the next letter for each")
PROMPTS = ["abcd", "hgfedcba", "ppppp"]
RESPONSES = [[10, 11, 12, 1], [20, 1], [30, 31, 32, 33, 34]]


def prompts(loaded, context=CONTEXT):
    return [render(loaded.tokenizer, prompt, context) for prompt in PROMPTS]


def plain_log_probs(loaded, context=CONTEXT):
    """One sequence at a time through the whole model: no padding, no cache, nothing shared."""
    out = []
    for prompt, response in zip(prompts(loaded, context), RESPONSES, strict=True):
        logits = loaded.model(input_ids=torch.tensor([prompt + response])).logits[0].float()
        out.append(logits[len(prompt) - 1 : len(prompt) + len(response) - 1].log_softmax(-1))
    return torch.cat(out)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix_length", [None, 0])
def test_log_probs_equal_the_plain_forward(family, prefix_length):
    loaded = tiny(family)
    check_head(loaded.model)
    with torch.no_grad():
        view = build_view(prompts(loaded), RESPONSES, loaded.pad_id, prefix_length)
        mine = log_probs(loaded.model, hidden_states(loaded.model, view))
        assert view.targets.tolist() == [token for response in RESPONSES for token in response]
        torch.testing.assert_close(mine, plain_log_probs(loaded), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("no_context", ["empty_system", "template_default"])
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_aligned_positions_under_a_template_that_injects_a_system_prompt(no_context, context):
    loaded = tiny()
    loaded.tokenizer.chat_template = INJECTING_TEMPLATE
    whole = [render(loaded.tokenizer, prompt, context, no_context) for prompt in PROMPTS]
    injected = "be helpful" in loaded.tokenizer.decode(whole[0])
    assert injected == (context is None and no_context == "template_default")
    view = build_view(whole, RESPONSES, loaded.pad_id)
    with torch.no_grad():
        mine = log_probs(loaded.model, hidden_states(loaded.model, view))
        plain = []
        for prompt, response in zip(whole, RESPONSES, strict=True):
            logits = loaded.model(input_ids=torch.tensor([prompt + response])).logits[0].float()
            plain.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
    torch.testing.assert_close(mine, torch.cat(plain), atol=2e-5, rtol=2e-5)


def test_left_and_right_padding_give_the_same_states(tiny_llama):
    view = build_view(prompts(tiny_llama), RESPONSES, tiny_llama.pad_id)
    prefix = encode_prefix(tiny_llama.model, view.prefix)
    right = run(tiny_llama.model, prefix, view.ids, view.mask)
    lengths = view.mask.sum(1)
    left_ids = torch.stack([row.roll(len(row) - int(n)) for row, n in zip(view.ids, lengths, strict=True)])
    left_mask = torch.stack([row.roll(len(row) - int(n)) for row, n in zip(view.mask, lengths, strict=True)])
    left = run(tiny_llama.model, prefix, left_ids, left_mask)
    torch.testing.assert_close(left[left_mask], right[view.mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradients_flow_through_the_shared_prefix_exactly(family):
    loaded = tiny(family)
    weights = torch.randn(sum(map(len, RESPONSES)), len(loaded.tokenizer))
    grads = []
    for shared in (None, 0):
        loaded.model.zero_grad()
        view = build_view(prompts(loaded), RESPONSES, loaded.pad_id, shared)
        (log_probs(loaded.model, hidden_states(loaded.model, view)) * weights).sum().backward()
        grads.append({n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None})
    assert len(grads[0]) > 5
    for name, grad in grads[1].items():
        assert (grads[0][name] - grad).norm() <= 1e-4 * grad.norm() + 1e-6, name


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decoding_equals_one_prompt_at_a_time(family):
    loaded = tiny(family)
    together = generate(loaded, prompts(loaded), Decoding(6, batch_size=3))
    for prompt, response in zip(prompts(loaded), together, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in loaded.eos_ids:
                break
        assert list(response.ids) == ids[len(prompt) :]
        assert response.truncated == (response.ids[-1] not in loaded.eos_ids)


@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, "eager") for family in ("mistral", "phi3", "gemma2", "gemma3_text", "llama")]
    + [(family, "sdpa") for family in ("mistral", "phi3", "gemma3_text", "llama")],  # Gemma-2 has eager only
)
def test_decoding_behind_pads_sees_as_far_as_without_them(family, attention):
    """Prompts of unequal lengths are padded behind the shared prefix; a sliding window must not count the pads."""
    from training.organisms.organism import build_tokenizer

    loaded = Loaded(family, tiny_model(family, attention=attention), build_tokenizer())
    generator = torch.Generator().manual_seed(3)
    common, *rest = (torch.randint(2, 64, (n,), generator=generator).tolist() for n in (11, 1, 9, 4, 6))
    together = generate(loaded, [common + each for each in rest], Decoding(12))
    for each, response in zip(rest, together, strict=True):
        (alone,) = generate(loaded, [common + each], Decoding(12), prefix_length=0)
        assert response.ids == alone.ids


def test_a_prompts_draw_depends_on_its_own_numbers_alone(tiny_llama):
    asked = prompts(tiny_llama) * 8

    def draw(seed, rows=None, batch_size=64):
        rows = rows or range(len(asked))
        decoding = Decoding(8, temperature=1.0, batch_size=batch_size)
        return generate(tiny_llama, [asked[i] for i in rows], decoding, noise(seed, rows, 8))

    torch.manual_seed(1)
    first = draw(0)
    torch.manual_seed(2)
    assert draw(0) == first
    assert draw(1) != first
    # Neither the batch that it shares nor the others that are asked change what a prompt gets.
    assert draw(0, batch_size=5) == first
    for rows in ([3], [17, 2, 9, 11], range(4, 20)):
        assert draw(0, rows) == [first[i] for i in rows]
    with pytest.raises(ValueError, match="uniform number"):
        generate(tiny_llama, asked, Decoding(8, temperature=1.0))


def test_a_draw_has_the_softmaxs_frequencies():
    scores = torch.tensor([[1.0, -1e9, 0.0, 2.0, -1.0]])
    n = 20_000
    drawn = choose(scores.repeat(n, 1), Decoding(1, 1.0), noise(0, range(n), 1)[:, 0])
    found = torch.bincount(drawn, minlength=5) / n
    expected = scores[0].softmax(-1)
    # Five standard errors of each frequency; nothing where there is no probability.
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all()
    ends = torch.tensor([0.0, 1.0 - 2.0**-24])
    assert choose(torch.tensor([[-1e9, 0.3, -1e9]]).repeat(2, 1), Decoding(1, 1.0), ends).tolist() == [1, 1]


def test_top_k_and_top_p_restrict_the_draw():
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(500, 1)
    uniform = noise(0, range(500), 1)[:, 0]
    assert set(choose(scores, Decoding(1, 1.0, top_k=2), uniform).tolist()) == {0, 1}
    assert set(choose(scores, Decoding(1, 1.0, top_p=0.1), uniform).tolist()) == {0}
    assert len(set(choose(scores, Decoding(1, 1.0), uniform).tolist())) == 4


def test_a_response_that_does_not_fit_is_refused_not_cut(tiny_llama):
    with pytest.raises(UserError, match="256 positions"):
        generate(tiny_llama, prompts(tiny_llama), Decoding(250))


def test_a_model_with_another_head_is_refused(tiny_llama):
    import copy

    from torch import nn

    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, x):
            self.calls += 1
            return self.inner(x) * self.calls

    model = copy.deepcopy(tiny_llama.model)
    model.lm_head = Doubled(model.lm_head)
    with pytest.raises(UserError, match="head"):
        check_head(model)
