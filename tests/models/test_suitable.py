"""Models and tokenizers that can be looked at, and those that are refused in a sentence, when they are loaded."""

import pytest
import torch
from tiny import tiny, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from cr_interp.capture import capture
from cr_interp.capture.check import check_model
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import UserError
from cr_interp.models.forward import backbone, build_view, hidden_states, logits
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import Loaded, load
from cr_interp.models.suitable import check_causal, check_decoder
from training.organisms.organism import build_tokenizer

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_heads": 4,
    "depth": 1,
    "image_size": 28,
    "patch_size": 14,
    "out_hidden_size": 32,
    "embed_dim": 32,
    "fullatt_block_indexes": [0],
    "deepstack_visual_indexes": [0],
    "vision_output_dim": 32,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
}
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
#: A model of text and images → what its text needs beside the common shape, and the decoder's class.
WRAPPERS = {
    "gemma3": ({}, "Gemma3TextModel"),
    "llama4": ({"num_local_experts": 2, "intermediate_size_mlp": 48}, "Llama4TextModel"),
    "mistral3": ({}, "MistralModel"),
    "llava": ({}, "LlamaModel"),
    "qwen2_vl": (_MROPE, "Qwen2VLTextModel"),
    "qwen2_5_vl": (_MROPE, "Qwen2_5_VLTextModel"),
    "qwen3_vl": ({}, "Qwen3VLTextModel"),
    "idefics3": ({}, "LlamaModel"),
    "internvl": ({}, "Qwen2Model"),
    "aya_vision": ({}, "Cohere2Model"),
}


def wrapper(kind, vocabulary, text=None):
    torch.manual_seed(0)
    empty = AutoConfig.for_model(kind)
    words = AutoConfig.for_model(
        empty.text_config.model_type,
        **TEXT,
        vocab_size=vocabulary,
        **(WRAPPERS[kind][0] if text is None else text),
    )
    images = type(empty.vision_config)(**VISION)
    config = AutoConfig.for_model(kind, text_config=words.to_dict(), vision_config=images.to_dict())
    return AutoModelForImageTextToText.from_config(config).eval()


@pytest.mark.parametrize("kind", WRAPPERS)
@torch.no_grad()
def test_the_decoder_of_a_model_of_text_and_images(kind, tmp_path):
    tokenizer = build_tokenizer()
    model = wrapper(kind, len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert type(loaded.model) is type(model)  # with its images' half, so that every tensor has its place
    assert type(backbone(loaded.model)).__name__ == WRAPPERS[kind][1]
    prompts, responses = [[*range(8, 20), 5], [*range(8, 20), 6, 7]], [[9, 3], [4, 4, 2]]
    view = build_view(prompts, responses, loaded.pad_id)
    found = logits(loaded.model, hidden_states(loaded.model, view))
    states = capture(loaded.model, view, residual_sites(loaded.model))
    expected, layer = [], []
    for prompt, response in zip(prompts, responses, strict=True):
        out = model(input_ids=torch.tensor([[*prompt, *response[:-1]]]), output_hidden_states=True)
        expected.append(out.logits[0, len(prompt) - 1 :])
        layer.append(out.hidden_states[1][0, len(prompt) - 1 :])
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states[Site("resid_post", 0)], torch.cat(layer), atol=1e-5, rtol=1e-4)


SLOW = {"llama4", "mistral3", "llava", "qwen2_vl", "qwen2_5_vl", "idefics3", "internvl", "aya_vision"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in WRAPPERS]
)
def test_check_passes_on_models_of_text_and_images_around_their_windows(kind):
    known = AutoConfig.for_model(kind).text_config.to_dict()
    windows = {name: 16 for name in ("sliding_window", "attention_chunk_size") if known.get(name)}
    checks = check_model(wrapper(kind, 256, {**WRAPPERS[kind][0], **windows}), backends=["hooks"])
    assert [check for check in checks if check.status == "fail"] == []
    claims = " ".join(check.claim for check in checks)
    assert "one at a time" in claims
    assert "greedy decoding" in claims


def test_a_model_that_reads_its_prompt_both_ways_is_refused(tmp_path):
    tokenizer = build_tokenizer()
    model = tiny_model("llama", vocab_size=len(tokenizer))
    check_causal(model)
    for block in model.model.layers:  # attention to everything, as in PaliGemma's prompts
        block.self_attn.is_causal = False
    model.set_attn_implementation("sdpa")
    with pytest.raises(UserError, match=r"LlamaForCausalLM reads tokens that come later.*causal"):
        check_decoder(model)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "t5"])
def test_what_is_no_decoder_is_refused_in_a_sentence(kind, tmp_path):
    tokenizer = build_tokenizer()
    shape = {k: v for k, v in TEXT.items() if k not in ("head_dim", "num_key_value_heads")}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **shape)
    if kind == "t5":
        from transformers import T5ForConditionalGeneration

        config.d_model, config.d_ff, config.d_kv, config.num_layers = 32, 48, 8, 1
        model = T5ForConditionalGeneration(config)
    else:
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError):
        load(str(tmp_path))


# -- vocabularies and tokenizers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9])
@torch.no_grad()
def test_small_vocabularies(rows):
    model = tiny_model("llama", vocab_size=rows, eos_token_id=None, pad_token_id=None)
    check_decoder(model)
    ids = [i % rows for i in range(5)]
    view = build_view([ids, [*ids, 0]], [[0], [0, 0]], 0)
    assert capture(model, view, residual_sites(model))[Site("resid_post", 1)].shape == (3, 32)


def as_loaded(**tokens):
    """A tiny model with a tokenizer whose special tokens are these."""
    loaded = tiny("llama")
    loaded.model.generation_config.eos_token_id = None
    for name, token in tokens.items():
        setattr(loaded.tokenizer, name, token)
    return loaded


@pytest.mark.parametrize(
    ("tokens", "ends"),
    # Without a tokenizer's end there is still the token with which the template ends a turn.
    [({"eos_token": None}, (1,)), ({"pad_token": None}, (1,)), ({"eos_token": None, "pad_token": None}, (1,))],
    ids=str,
)
def test_a_tokenizer_without_an_end_or_a_pad(tokens, ends):
    loaded = as_loaded(**tokens)
    assert loaded.eos_ids == ends
    assert 0 <= loaded.pad_id < loaded.model.config.vocab_size
    prompts = [[8, 9, 10], [8, 9, 10, 11, 12]]
    together = generate(loaded, prompts, Decoding(4))
    assert together == [generate(loaded, [prompt], Decoding(4))[0] for prompt in prompts]


def test_a_pad_that_the_model_has_no_row_for_is_another_id():
    """``add_special_tokens({"pad_token": …})`` without resizing the model: a frequent habit."""
    loaded = as_loaded()
    loaded.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert loaded.tokenizer.pad_token_id >= loaded.model.config.vocab_size
    assert loaded.pad_id == loaded.eos_ids[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.add_tokens(["hello", "there"]), r"2 tokens beyond the model's \d+ rows \(hello, there\)"),
        (
            lambda t: setattr(t, "chat_template", t.chat_template + "<|begin|>") or special(t, "<|begin|>"),
            r"<\|begin\|>",
        ),
        (lambda t: special(t, "<|stop|>") or setattr(t, "eos_token", "<|stop|>"), r"<\|stop\|>"),
        (lambda t: special(t, "<|image|>"), None),
    ],
    ids=["words", "in the template", "the end", "for images"],
)
def test_tokens_beyond_the_models_rows(change, said, tmp_path):
    loaded = tiny("llama")
    change(loaded.tokenizer)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    if said is None:
        assert isinstance(load(str(tmp_path)), Loaded)
        return
    with pytest.raises(UserError, match=said):
        load(str(tmp_path))


def special(tokenizer, token):
    tokenizer.add_special_tokens({"additional_special_tokens": [token]})


def test_a_block_that_is_passed_over_is_said():
    model = tiny_model("llama", vocab_size=64)
    block = model.model.layers[1]
    block.__class__ = type("Passed", (type(block),), {"__call__": lambda _, state, **__: state})
    view = build_view([[8, 9, 10]], [[5]], 0, 0)
    with pytest.raises(UserError, match=r"did not run resid_post\.1 on this text"):
        capture(model, view, residual_sites(model))
