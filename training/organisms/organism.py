"""What an organism is made of, before it has learned anything: a tokenizer and a configuration.

One tokenizer serves every family: a token is one printable ASCII character, so that any task written in
ASCII can be pre-trained on, and nothing about a string is hidden inside a merged token.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from cr_interp.errors import unknown
from training.organisms import ORGANISMS

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))

#: An empty system message renders to nothing: "no context" is then really nothing.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] != 'system' or m['content'] %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

#: Reading a legend, planning on the board and naming the move come one after the other, which wants depth; four layers
#: and six were not compared at equal steps.
LAYERS, HEADS, POSITIONS = 6, 4, 512


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the character tokenizer with its chat template."""
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


def build_config(organism: str, vocab_size: int) -> PretrainedConfig:
    """Build the configuration: six layers; 0.9 million parameters, the large one 1.9."""
    if organism not in ORGANISMS:
        raise unknown("organism", organism, ORGANISMS)
    architecture, width = ORGANISMS[organism]
    shape = {
        "hidden_size": width,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": True,
        "vocab_size": vocab_size,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    if architecture == "gpt_neox":  # two matrices in the MLP where the others have three
        return AutoConfig.for_model(architecture, intermediate_size=4 * width, **shape)
    gated = {
        "intermediate_size": width * 8 // 3 // 8 * 8,
        "num_key_value_heads": HEADS,
        "head_dim": width // HEADS,
    }
    if architecture == "gemma2":
        # Its windows are as long as the model's positions: nothing an organism reads is out of sight.
        gated |= {"sliding_window": POSITIONS, "query_pre_attn_scalar": width // HEADS}
    return AutoConfig.for_model(architecture, **gated, **shape)
