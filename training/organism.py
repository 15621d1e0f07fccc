"""What an organism is made of, before it has learned anything: a tokenizer and a configuration.

One tokenizer serves every family: a token is one printable ASCII character, so that any task written in
ASCII can be pre-trained on, and nothing about a string is hidden inside a merged token.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from cr_interp.errors import unknown

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))

#: An empty system message renders to nothing: "no context" is then really nothing.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] != 'system' or m['content'] %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

FAMILIES = ("llama",)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The character tokenizer with its chat template."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_config(family: str, vocab_size: int) -> PretrainedConfig:
    """Four layers, width 96: about half a million parameters."""
    if family == "llama":
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    raise unknown("organism family", family, FAMILIES)
