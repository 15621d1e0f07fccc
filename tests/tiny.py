"""Tiny random models made on the spot: every architecture's code, none of its weights."""

#: A template that, like SmolLM2's, injects a system prompt of its own when none is given.
INJECTING_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|system|>be helpful<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny(family: str = "llama", seed: int = 0):
    """A random model of two layers with the organisms' tokenizer, as a Loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cr_interp.models import Loaded
    from training.organism import build_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    common = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if family == "gpt2":
        config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=256, **common)
    else:
        config = AutoConfig.for_model(
            family,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            **common,
        )
    model = AutoModelForCausalLM.from_config(config).eval()
    # The usual initialisation makes every next token almost equally likely; sharper ones test more.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return Loaded(f"tiny-{family}", model, tokenizer)
