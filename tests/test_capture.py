import pytest
import torch
from tiny import tiny

from cr_interp.capture import capture
from cr_interp.errors import UserError
from cr_interp.forward import build_view, hidden_states
from cr_interp.sites import Site, residual_sites
from cr_interp.views import Context, render

RESPONSES = [[10, 11, 1], [20, 1]]


def view_of(loaded, prefix_length=None):
    prompts = [render(loaded.tokenizer, p, Context.system("use big letters")) for p in ("abcd", "fe")]
    return prompts, build_view(prompts, RESPONSES, loaded.pad_id, prefix_length)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("prefix_length", [None, 0])
def test_states_equal_output_hidden_states(family, prefix_length):
    loaded = tiny(family)
    prompts, view = view_of(loaded, prefix_length)
    sites = residual_sites(loaded.model)
    states = capture(loaded.model, view, [*sites, Site("final", -1)])
    expected = {site: [] for site in states}
    for prompt, response in zip(prompts, RESPONSES, strict=True):
        with torch.no_grad():
            hidden = loaded.model(
                input_ids=torch.tensor([prompt + response]), output_hidden_states=True
            ).hidden_states
        span = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        # hidden_states[-1] is after the final norm, so the last block's output is not among them
        for site, layer in zip([*sites[:-1], Site("final", -1)], hidden, strict=True):
            expected[site].append(layer[0, span])
    for site, parts in expected.items():
        if parts:
            torch.testing.assert_close(states[site], torch.cat(parts), atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(states[Site("final", -1)], hidden_states(loaded.model, view).detach())


def test_last_block_is_before_the_final_norm(tiny_llama):
    _, view = view_of(tiny_llama)
    states = capture(tiny_llama.model, view, [Site("resid_post", 1), Site("final", -1)])
    normed = tiny_llama.model.model.norm(states[Site("resid_post", 1)])
    torch.testing.assert_close(normed, states[Site("final", -1)])


def test_sites_that_do_not_exist_are_refused_and_no_hook_stays(tiny_llama):
    _, view = view_of(tiny_llama)
    with pytest.raises(UserError, match="layers 0 to 1"):
        capture(tiny_llama.model, view, [Site("resid_post", 0), Site("resid_post", 2)])
    assert not any(m._forward_hooks for m in tiny_llama.model.modules())
    with pytest.raises(UserError, match="capture backend"):
        capture(tiny_llama.model, view, [Site("resid_post", 0)], backend="hook")
