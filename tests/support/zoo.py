"""Tiny random models of many architectures, with every boundary that a configuration can name below forty tokens.

What a model's configuration calls a window, a chunk or an original length is small here, so that sequences of a few
dozen tokens are on both sides of it.
"""

from functools import cache
from typing import Any

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 20,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
WINDOW = 16
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SMALL_HEADS = {"head_dim": 8}
LINEAR = {
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
MLA = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "num_key_value_heads": 4,
}
MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
    "mamba_n_groups": 1,
    "mamba_d_conv": 3,
}

#: Name → model type, and what it needs beyond :data:`COMMON`.
ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    # -- the ten whose sites are known
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", SMALL_HEADS),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "phi3": ("phi3", {}),
    "gemma2": ("gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, **SMALL_HEADS}),
    "gemma3_text": ("gemma3_text", {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, **SMALL_HEADS}),
    "olmo2": ("olmo2", {}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt2": ("gpt2", {}),
    # -- rotary factors that depend on the length
    "phi3-longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 20}),
    "phi3-longrope-window": (
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 20, "sliding_window": WINDOW},
    ),
    "phimoe-longrope": (
        "phimoe",
        {**MOE, "rope_parameters": {**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3, "factor": 25.6}},
    ),
    "llama-dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 20}),
    "qwen2-yarn": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 20,
            }
        },
    ),
    "gemma3-dynamic": (
        "gemma3_text",
        {
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 8,
            **SMALL_HEADS,
            "max_position_embeddings": 20,
            "rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": ROPE},
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    # -- distances counted in columns
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 512}),
    "bloom": ("bloom", {"n_layer": 3, "n_head": 4}),
    "falcon": ("falcon", {"alibi": False}),
    "falcon-alibi": ("falcon", {"alibi": True}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False}),
    # -- mixtures of experts
    "mixtral": ("mixtral", {**MOE, "sliding_window": WINDOW}),
    "qwen2_moe": ("qwen2_moe", {**MOE, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("qwen3_moe", {**MOE, **SMALL_HEADS}),
    "olmoe": ("olmoe", MOE),
    "gpt_oss": ("gpt_oss", {**MOE, **SMALL_HEADS, "sliding_window": WINDOW}),
    "deepseek_v2": ("deepseek_v2", {**MLA, "topk_method": "greedy"}),
    "deepseek_v3": ("deepseek_v3", MLA),
    "granitemoe": ("granitemoe", MOE),
    "glm4_moe": ("glm4_moe", {**MLA, **SMALL_HEADS, "num_key_value_heads": 2}),
    "ernie4_5_moe": ("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16}),
    # -- other decoders
    "gemma": ("gemma", SMALL_HEADS),
    "phi": ("phi", {}),
    "granite": ("granite", {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {"sliding_window": WINDOW}),
    "olmo": ("olmo", {}),
    "olmo3": ("olmo3", {"sliding_window": WINDOW}),
    "starcoder2": ("starcoder2", {"sliding_window": WINDOW}),
    "stablelm": ("stablelm", {}),
    "smollm3": ("smollm3", {}),
    "gpt_neo": (
        "gpt_neo",
        {"attention_types": [[["global", "local"], 1]], "num_hidden_layers": 2, "window_size": WINDOW},
    ),
    "gptj": ("gptj", {"rotary_dim": 8}),
    "gpt_bigcode": ("gpt_bigcode", {}),
    "codegen": ("codegen", {"rotary_dim": 8}),
    "opt": ("opt", {"word_embed_proj_dim": 32, "ffn_dim": 48}),
    "biogpt": ("biogpt", {}),
    "xglm": ("xglm", {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48}),
    "glm": ("glm", {**SMALL_HEADS, "partial_rotary_factor": 0.5}),
    "glm4": ("glm4", {**SMALL_HEADS, "partial_rotary_factor": 0.5}),
    "helium": ("helium", SMALL_HEADS),
    "nemotron": ("nemotron", {}),
    "exaone4": ("exaone4", {"sliding_window": WINDOW, "sliding_window_pattern": 2}),
    "diffllama": ("diffllama", {}),
    "persimmon": ("persimmon", {}),
    "arcee": ("arcee", {}),
    "seed_oss": ("seed_oss", SMALL_HEADS),
    "ministral": ("ministral", {"sliding_window": WINDOW, **SMALL_HEADS}),
    "modernbert-decoder": (
        "modernbert-decoder",
        {"local_attention": WINDOW, "bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "llama4_text": (
        "llama4_text",
        {
            **MOE,
            **SMALL_HEADS,
            "attention_chunk_size": WINDOW,
            "intermediate_size_mlp": 48,
            "interleave_moe_layer_step": 1,
            "no_rope_layers": [1, 1, 0],
        },
    ),
    "gemma3n_text": (
        "gemma3n_text",
        {
            "sliding_window": WINDOW,
            **SMALL_HEADS,
            "num_hidden_layers": 5,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 256,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
            "activation_sparsity_pattern": [0.0] * 5,
            "intermediate_size": 48,
        },
    ),
    # -- recurrent, state-space and hybrid
    "mamba": ("mamba", {"state_size": 8}),
    "mamba2": ("mamba2", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "falcon_mamba": ("falcon_mamba", {"state_size": 8}),
    "rwkv": ("rwkv", {"attention_hidden_size": 32}),
    "recurrent_gemma": ("recurrent_gemma", {"lru_width": 32, "attention_window_size": WINDOW}),
    "jamba": (
        "jamba",
        {
            **MOE,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "bamba": ("bamba", {**MAMBA2, "attn_layer_indices": [1]}),
    "falcon_h1": ("falcon_h1", {**MAMBA2, "head_dim": 8}),
    "zamba2": (
        "zamba2",
        {
            "mamba_ngroups": 1,
            "n_mamba_heads": 4,
            "num_mem_blocks": 1,
            "hybrid_layer_ids": [1],
            "layer_types": ["mamba", "hybrid", "mamba"],
            "mamba_d_state": 8,
            "chunk_size": 8,
            "num_hidden_layers": 3,
            "num_key_value_heads": 4,
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**MOE, **MAMBA2, "layer_types": ["mamba", "attention", "mamba"], "shared_intermediate_size": 16},
    ),
    "qwen3_next": ("qwen3_next", {**MOE, **LINEAR, **SMALL_HEADS, "shared_expert_intermediate_size": 16}),
    "qwen3_5": ("qwen3_5_text", {**LINEAR, **SMALL_HEADS}),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention", "conv"], "block_ff_dim": 48}),
    "minimax": (
        "minimax",
        {
            **MOE,
            **SMALL_HEADS,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "block_size": 8,
        },
    ),
    "olmo_hybrid": ("olmo_hybrid", {**LINEAR}),
    "xlstm": ("xlstm", {"num_heads": 2, "num_blocks": 2, "chunk_size": 8}),
    "nemotron_h": (
        "nemotron_h",
        {
            "hybrid_override_pattern": "M*M",
            "ssm_state_size": 8,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "chunk_size": 8,
            "head_dim": 8,
        },
    ),
}
#: One of each way in which a model may have to be run. The rest is slow.
FAST = ("llama", "gpt2", "gemma3_text", "phi3-longrope", "mpt", "falcon-alibi", "mamba", "gemma3n_text")
COMMON = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def zoo_model(name: str, seed: int = 0, scale: float = 3.0, attention: str = "sdpa") -> Any:
    """A random model; weights larger than usual, so that what a token sees shows in its state."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    kind, needs = ZOO[name]
    config = AutoConfig.for_model(kind, **{**COMMON, **needs})
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    except ValueError:  # it has no such kernel
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1 and not any(word in key.lower() for word in ("a_log", "conv", "time_", "dt_")):
                parameter.mul_(scale)
    return model


@cache
def shared_model(name: str) -> Any:
    """Make a :func:`zoo_model` once for the whole session, for tests that leave it as it is; it is asked once what it can."""
    return zoo_model(name)
