"""Tokenizers as real chat models have them: bytes as tokens, special tokens, a template; and a model of one rule."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def chatty(template: str = CHATML, eos: str = "<|im_end|>"):
    """Every byte is a token, and so is each of :data:`SPECIAL`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token=eos, pad_token="<|endoftext|>")
    fast.add_special_tokens(
        {"additional_special_tokens": [s for s in SPECIAL if s not in (eos, "<|endoftext|>")]}
    )
    fast.chat_template = template
    return fast


def follower(tokenizer, steps: dict[str, str], ends: list[int]):
    """A model whose next token depends on the last one alone, as ``steps`` says; ``ends`` is its generation's eos."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    words = len(tokenizer)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=words,
        hidden_size=512,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=ends[0],
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.model.embed_tokens.weight[torch.arange(words), torch.arange(words)] = 1.0
        for one, other in steps.items():
            here, there = (tokenizer.convert_tokens_to_ids(each) for each in (one, other))
            model.lm_head.weight[there, here] = 10.0
    model.generation_config.eos_token_id = ends
    return model
