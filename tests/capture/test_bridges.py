"""A TransformerLens bridge shows the model's own states, or is refused: some are written anew and differ."""

import contextlib

import pytest
import torch
from tiny import tiny_view
from transformers import AutoConfig, AutoModelForCausalLM

from cr_interp.capture import capture
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import UserError

pytest.importorskip("transformer_lens")

_MLA = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "moe_intermediate_size": 16,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
KINDS = {
    "falcon": {},
    "falcon in order": {"parallel_attn": False},
    "falcon new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon alibi": {"alibi": True},
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
}


def model_of(kind):
    torch.manual_seed(0)
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind.split()[0], **shape | KINDS[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


@torch.no_grad()
def one_by_one(model, view):
    """``resid_pre`` of every layer from the library's own forward, a sequence at a time."""
    found = {}
    for row in range(len(view.ids)):
        ids = torch.cat([torch.tensor(view.prefix, dtype=torch.long), view.ids[row][view.mask[row]]])
        hidden = model.base_model(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states
        start = len(ids) - int(view.mask[row].sum())
        mine = [int(c - (~view.mask[row])[: int(c) + 1].sum()) for c in view.columns[view.rows == row]]
        for layer, state in enumerate(hidden[1:-1]):
            found.setdefault(Site("resid_post", layer), []).append(state[0, [start + c for c in mine]])
    return {site: torch.cat(parts) for site, parts in found.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_bridge_is_right_or_refused(kind, padding):
    model = model_of(kind)
    view = tiny_view(padding)
    expected = one_by_one(model, view)
    refused = contextlib.suppress(UserError)  # what it says: below
    found = capture(model, view, residual_sites(model))
    with refused:
        found = capture(model, view, residual_sites(model), backend="transformer_lens")
    for site, state in expected.items():
        torch.testing.assert_close(found[site], state, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "said"), [("falcon alibi", r"off by \d+\.\d%"), ("deepseek_v3", "bridge cannot run DeepseekV3")]
)
def test_what_is_wrong_with_a_bridge_is_said(kind, said):
    with pytest.raises(UserError, match=said):
        capture(model_of(kind), tiny_view(), [Site("resid_post", 1)], backend="transformer_lens")
