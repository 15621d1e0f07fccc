"""Where the sites are, against a recomputation of each block from the model's own submodules."""

import pytest
import torch
from tiny import ARCHITECTURES, tiny_model, tiny_view
from torch import nn

from cr_interp.capture import capture
from cr_interp.capture import sites as sites_module
from cr_interp.capture.sites import Site, all_sites, available, blocks, by_head, hook_point, place, residual_sites
from cr_interp.errors import UserError

EVERYTHING = ("resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post", "final")


# Each block written out once more, from the papers' diagrams: (x, attention) -> raw attention, attn_out, mid, mlp_out


def _pre_norm(block, x, attend):
    raw = attend(block.self_attn, block.input_layernorm(x))
    middle = x + raw
    return raw, raw, middle, block.mlp(block.post_attention_layernorm(middle))


def _both_norms(block, x, attend):
    raw = attend(block.self_attn, block.input_layernorm(x))
    added = block.post_attention_layernorm(raw)
    middle = x + added
    return (
        raw,
        added,
        middle,
        block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(middle))),
    )


def _post_norm(block, x, attend):
    raw = attend(block.self_attn, x)
    added = block.post_attention_layernorm(raw)
    middle = x + added
    return raw, added, middle, block.post_feedforward_layernorm(block.mlp(middle))


def _parallel(block, x, attend):
    raw = attend(block.attention, block.input_layernorm(x))
    return raw, raw, None, block.mlp(block.post_attention_layernorm(x))


def _sequential(block, x, attend):
    raw = attend(block.attention, block.input_layernorm(x))
    return raw, raw, x + raw, block.mlp(block.post_attention_layernorm(x + raw))


def _gpt2(block, x, attend):
    raw = attend(block.attn, block.ln_1(x))
    return raw, raw, x + raw, block.mlp(block.ln_2(x + raw))


BY_HAND = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "phi3"), _pre_norm),
    "gemma2": _both_norms,
    "gemma3_text": _both_norms,
    "olmo2": _post_norm,
    "gpt_neox": _parallel,
    "gpt_neox:sequential": _sequential,
    "gpt2": _gpt2,
}


@pytest.mark.parametrize("family", ARCHITECTURES)
@torch.no_grad()
def test_sites_equal_the_block_computed_by_hand(family):
    """Golden: a site that moves by one norm, one module or one side fails here."""
    model = tiny_model(family)
    view = tiny_view(prefix_length=0)
    states = capture(model, view, all_sites(model))
    calls = []
    handles = [
        block.register_forward_pre_hook(lambda _m, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        for block in blocks(model)
    ]
    model(input_ids=view.ids, use_cache=False)
    for handle in handles:
        handle.remove()

    def aligned(state):
        return state[view.rows, view.columns]

    def close(site, expected):
        torch.testing.assert_close(states[site], aligned(expected), atol=1e-5, rtol=1e-5)

    for layer, (block, (args, kwargs)) in enumerate(zip(blocks(model), calls, strict=True)):
        x = args[0] if args else kwargs["hidden_states"]
        given = {k: v for k, v in kwargs.items() if k != "hidden_states" and "past" not in k}
        if len(args) > 1:  # GPT-2 passes its mask by position, after the cache
            given["attention_mask"] = args[2]
        raw, added, middle, mlp = BY_HAND[family](
            block, x, lambda module, state, given=given: module(hidden_states=state, **given)[0]
        )
        close(Site("resid_pre", layer), x)
        close(Site("attn_out", layer), added)
        close(Site("mlp_out", layer), mlp)
        if middle is None:
            assert Site("resid_mid", layer) not in states
            close(Site("resid_post", layer), x + added + mlp)
        else:
            close(Site("resid_mid", layer), middle)
            close(Site("resid_post", layer), middle + mlp)
        out = hook_point(model, Site("z", layer)).module
        weight = out.weight if family == "gpt2" else out.weight.T  # GPT-2's layers are transposed
        bias = out.bias if out.bias is not None else 0
        torch.testing.assert_close(states[Site("z", layer)] @ weight + bias, aligned(raw), atol=1e-5, rtol=1e-5)
    norm = hook_point(model, Site("final", -1)).module
    torch.testing.assert_close(
        states[Site("final", -1)], norm(states[Site("resid_post", 2)]), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_what_is_available(family):
    model = tiny_model(family)
    expected = tuple(name for name in EVERYTHING if name != "resid_mid" or family != "gpt_neox")
    assert available(model) == expected
    assert len(all_sites(model)) == 3 * (len(expected) - 1) + 1
    assert all_sites(model)[-1] == Site("final", -1)
    assert residual_sites(model) == [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(3))]


def test_a_site_that_the_architecture_lacks_is_refused_with_those_it_has():
    model = tiny_model("gpt_neox")
    with pytest.raises(UserError, match=r"resid_mid at layer 1 in this model \(gpt_neox\).*attn_out, mlp_out"):
        hook_point(model, Site("resid_mid", 1))
    with pytest.raises(UserError, match="layers 0 to 2"):
        hook_point(model, Site("z", 3))
    with pytest.raises(UserError, match="layer -1"):
        hook_point(model, Site("final", 0))


def test_an_unknown_architecture_gets_its_residual_stream_or_a_clear_refusal(monkeypatch):
    model = tiny_model("llama")
    monkeypatch.delitem(sites_module.ARCHITECTURES, "llama")
    assert available(model) == ("resid_pre", "resid_post", "final")
    states = capture(model, tiny_view(), all_sites(model))
    torch.testing.assert_close(states[Site("resid_post", 0)], states[Site("resid_pre", 1)])
    with pytest.raises(UserError, match="It has resid_pre, resid_post, final"):
        hook_point(model, Site("z", 0))
    model.model.layers_renamed = model.model._modules.pop("layers")
    with pytest.raises(UserError, match="Add it to ARCHITECTURES"):
        available(model)


def test_the_table_is_complete():
    """An entry per architecture, and every place in it exists in a model of that architecture."""
    for family in ARCHITECTURES:
        model = tiny_model(family)
        for name in available(model):
            assert place(model, name) is not None
            assert isinstance(hook_point(model, Site(name, -1 if name == "final" else 0)).module, nn.Module)
    kinds = {family.split(":")[0] for family in ARCHITECTURES}
    assert {kind.split(":")[0] for kind in sites_module.ARCHITECTURES} == kinds


@torch.no_grad()
def test_by_head_splits_what_attention_put_together():
    model = tiny_model("qwen3")
    z = capture(model, tiny_view(), [Site("z", 1)])[Site("z", 1)]
    heads = by_head(model, z)
    assert heads.shape == (len(z), 4, 16)
    torch.testing.assert_close(heads[:, 1], z[:, 16:32])
