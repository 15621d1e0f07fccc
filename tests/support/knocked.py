"""A model whose reading head was written by hand, and pairs of prompts with what a model itself answers."""

import torch
from tiny import tiny_model

from cr_interp.mechanism.given import Pair
from cr_interp.models.loading import Loaded


class Tokenless:
    pad_token_id, eos_token_id = 0, None


def loaded_of(model) -> Loaded:
    return Loaded("tiny", model, Tokenless())


LABELS = {
    "no_context": ("template", "prompt", "prompt"),
    "with_context": ("template", "system", "turns", "prompt", "prompt"),
}


def planted(layer=1, width=32):
    """A Llama of three layers, two heads each, that repeats its last token, unless head 1 of one layer reads the id 9: then it
    says 5.

    Embedding and head are the identity. That head's query is the same for all tokens and its key large for the id 9, so it
    attends to 9 alone; all else attends evenly and writes nothing.
    """
    model = tiny_model(
        "llama",
        layers=3,
        vocab_size=width,
        hidden_size=width,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e30},
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(width))
        model.lm_head.weight.copy_(torch.eye(width))
        attention = model.model.layers[layer].self_attn
        last = attention.head_dim * 2 - 1  # turned least by RoPE
        attention.q_proj.weight[last, :] = 4.0
        attention.k_proj.weight[last, 9] = 4.0
        attention.v_proj.weight[attention.head_dim, 9] = 1.0
        attention.o_proj.weight[5, attention.head_dim] = 100.0
    return model


def planted_pairs():
    """Every prompt ends in the id that it answers with; of the context's two ids the first, 9, flips that."""
    return [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, i], [2, 9, 4, 3, i], [i], 0, 5, LABELS)
        for i in (10, 11, 12, 13, 14, 15)
    ]


def answered(model, pair):
    """The pair with what the model itself answers without the context."""
    ids = list(pair.without)
    for _ in pair.response:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    response = ids[len(pair.without) :]
    return Pair(
        pair.example_id,
        pair.cluster,
        pair.group,
        pair.without,
        pair.given,
        response,
        pair.place,
        (response[pair.place or 0] + 5) % 32,
        pair.labels,
    )
