"""Tiny random models made on the spot: every architecture's code, none of its weights."""

#: A template that, like SmolLM2's, injects a system prompt of its own when none is given.
INJECTING_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|system|>be helpful<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

WINDOW = 8  # shorter than the prompts, so that it matters
_GEMMA = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 8,
}
#: The ten architectures whose sites are known, and what each needs beyond the common configuration;
#: GPT-NeoX with both of its block layouts.
ARCHITECTURES: dict[str, dict] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "olmo2": {},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt_neox:sequential": {"use_parallel_residual": False},
    "gpt2": {},
}


def tiny(family: str = "llama", seed: int = 0):
    """A random model of two layers with the organisms' tokenizer, as a Loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cr_interp.models.loading import Loaded
    from training.organisms.organism import build_tokenizer

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


def tiny_model(family: str, layers: int = 3, attention: str = "eager", seed: int = 0, **overrides):
    """The bare model of any architecture in :data:`ARCHITECTURES`: ids below 64, no tokenizer. Norm weights and
    biases are random too, so that a site read on the wrong side of a norm cannot pass for the right one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    common = {"vocab_size": 64, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if family == "gpt2":
        shape = {"n_embd": 32, "n_layer": layers, "n_head": 4, "n_positions": 128}
    else:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
        }
        if not family.startswith("gpt_neox"):
            shape["num_key_value_heads"] = 2
        if family in ("gemma2", "gemma3_text", "qwen3"):
            shape["head_dim"] = 16  # heads * head_dim differs from the width
    extra = {**ARCHITECTURES[family], **overrides}
    if "layer_types" in extra:
        extra["layer_types"] = extra["layer_types"][:layers]
    config = AutoConfig.for_model(family.split(":")[0], **{**common, **shape, **extra})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_view(padding: str = "right", prefix_length: int | None = None, seed: int = 0):
    """Three prompts of different lengths behind eleven common tokens, with responses of different lengths."""
    import torch

    from cr_interp.models.forward import build_view

    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(2, 64, (n,), generator=generator).tolist()

    common = ids(11)
    prompts = [[*common, first, *ids(n)] for first, n in ((2, 3), (3, 6), (4, 1))]
    responses = [ids(4), ids(2), ids(3)]
    return build_view(prompts, responses, 0, prefix_length, padding=padding)


def piece_tokenizer(texts: list[str]):
    """The organisms' special tokens and template, and pieces of words learned from ``texts``: a long context has a quarter of
    the tokens that its characters would be."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from training.organisms.organism import CHAT_TEMPLATE, SPECIAL

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=list(SPECIAL), initial_alphabet=letters)
    made.train_from_iterator(texts, trainer)
    pad, end, *others = SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad,
        eos_token=end,
        additional_special_tokens=others,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
