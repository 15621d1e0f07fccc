"""Two that behave differently never share a fingerprint; two that behave equally do."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny, tiny_model
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from cr_interp.models.fingerprints import fingerprint, forward_config, tokenizer_fingerprint
from cr_interp.models.loading import load

# -- models ----------------------------------------------------------------------------------------------------------


def changed(model, **values):
    for name, value in values.items():
        setattr(model.config, name, value)
    return model


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
        ("llama", {"max_position_embeddings": 64}),
        ("llama", {"rms_norm_eps": 1e-3}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"tie_word_embeddings": True}),
        ("mistral", {"sliding_window": 4}),
        ("mistral", {"sliding_window": None}),
        ("gemma2", {"final_logit_softcapping": 10.0}),
        ("gemma2", {"attn_logit_softcapping": 10.0}),
        ("gemma2", {"query_pre_attn_scalar": 16}),
        ("gemma2", {"layer_types": ["full_attention"] * 3}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ],
    ids=str,
)
def test_what_changes_a_forward_changes_the_fingerprint(family, values):
    model = tiny_model(family)
    before = fingerprint(model, None)
    assert fingerprint(changed(copy.deepcopy(model), **values), None) != before


def test_a_weight_and_a_saved_buffer_count_and_a_computed_buffer_does_not():
    model = tiny_model("llama")
    seen = {fingerprint(model, None)}
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-3
    seen.add(fingerprint(model, None))
    model.register_buffer("correction", torch.zeros(4))
    seen.add(fingerprint(model, None))
    model.correction[0] = 1
    seen.add(fingerprint(model, None))
    assert len(seen) == 4
    model.model.rotary_emb.inv_freq.mul_(2)  # as dynamic RoPE does on the way; it follows from the configuration
    assert fingerprint(model, None) in seen


def test_the_ids_that_end_a_turn_count():
    loaded = tiny()
    before, network = fingerprint(loaded.model, loaded.tokenizer), fingerprint(loaded.model, None)
    loaded.model.generation_config.eos_token_id = [1, 5]
    assert fingerprint(loaded.model, loaded.tokenizer) != before
    assert fingerprint(loaded.model, None) == network
    again = fingerprint(loaded.model, loaded.tokenizer)
    loaded.model.generation_config.eos_token_id = [5, 1]
    assert fingerprint(loaded.model, loaded.tokenizer) == again


@pytest.mark.parametrize("how", ["copied", "shards", "half", "older words", "other switches"])
def test_where_and_how_a_model_was_saved_does_not_count(how, tmp_path):
    loaded = tiny()
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.copy_(parameter.bfloat16())
    loaded.model.save_pretrained(tmp_path / "a")
    loaded.tokenizer.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    if how == "shards":
        (tmp_path / "b" / "model.safetensors").unlink()
        loaded.model.save_pretrained(tmp_path / "b", max_shard_size="20KB")
        assert len(list((tmp_path / "b").glob("model-*.safetensors"))) > 2
    elif how == "half":
        file = tmp_path / "b" / "model.safetensors"
        save_file({n: t.bfloat16() for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
        config["dtype"] = "bfloat16"
    elif how == "older words":
        theta = config.pop("rope_parameters")["rope_theta"]
        config |= {"rope_theta": theta, "rope_scaling": None, "torch_dtype": config.pop("dtype")}
        config["transformers_version"] = "4.40.0"
    elif how == "other switches":
        config |= {"use_cache": False, "architectures": None, "initializer_range": 0.5}
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    a, b = (load(str(tmp_path / name)) for name in "ab")
    assert fingerprint(a.model, a.tokenizer) == fingerprint(b.model, b.tokenizer)


def test_a_configuration_inside_a_configuration():
    inner = {"rope_theta": 1.0, "dtype": "float32", "_name_or_path": "x"}
    assert forward_config({"text_config": inner}) == {"text_config": {"rope_theta": 1.0}}
    older = {"type": "linear", "rope_type": "linear", "factor": 2.0}
    assert forward_config(older) == {"rope_type": "linear", "factor": 2.0}


# -- adapters --------------------------------------------------------------------------------------------------------


def adapted(**chosen):
    """A LoRA whose tensors depend on their names and shapes alone, whatever was chosen."""
    peft = pytest.importorskip("peft")
    given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | chosen
    model = peft.get_peft_model(tiny().model, peft.LoraConfig(**given))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    "chosen",
    [
        {"lora_alpha": 64},
        {"use_rslora": True},
        {"alpha_pattern": {"v_proj": 64}},
        {"alpha_pattern": {"layers.1.self_attn.q_proj": 1}},
        {"rank_pattern": {"v_proj": 2}},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "k_proj"]},
        {"target_modules": r".*layers\.0\..*(q|v)_proj"},
        {"layers_to_transform": [0]},
        {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"r": 2},
    ],
    ids=str,
)
def test_what_changes_an_adapter_changes_the_fingerprint(chosen):
    assert fingerprint(adapted(**chosen), None) != fingerprint(adapted(), None)


@pytest.mark.parametrize(
    "chosen",
    [
        {"use_rslora": True, "lora_alpha": 4},  # 4 / √4 = 8 / 4
        {"target_modules": r".*(q|v)_proj"},
        {"layers_to_transform": [0, 1]},
        {"alpha_pattern": {"q_proj": 8}, "rank_pattern": {"q_proj": 4}},
        {"lora_dropout": 0.5},
        {"base_model_name_or_path": "elsewhere"},
    ],
    ids=str,
)
@torch.no_grad()
def test_the_same_adapter_in_other_words_has_the_same(chosen):
    one, other = adapted(), adapted(**chosen)
    ids = torch.arange(8, 20)[None]
    torch.testing.assert_close(one(input_ids=ids).logits, other(input_ids=ids).logits, rtol=0, atol=0)
    assert fingerprint(one, None) == fingerprint(other, None)


def test_an_adapter_that_is_off_is_not_the_one_that_is_on():
    model = adapted()
    on = fingerprint(model, None)
    with model.disable_adapter():
        assert fingerprint(model, None) != on
    assert fingerprint(model, None) == on
    assert fingerprint(tiny().model, None) != on


# -- tokenizers ------------------------------------------------------------------------------------------------------


def tokenizer(**wanted):
    """Byte-level with two merges; ``wanted`` sets a part of its pipeline or of the wrapper around it."""
    from tokenizers import Tokenizer, models

    merges = wanted.pop("merges", [("a", "b"), ("ab", "c")])
    words = ["<|end|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "abc", "bc"]
    tok = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tok.pre_tokenizer = wanted.pop("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False))
    tok.decoder = wanted.pop("decoder", decoders.ByteLevel())
    for part in ("normalizer", "post_processor"):
        if part in wanted:
            setattr(tok, part, wanted.pop(part))
    template = wanted.pop("chat_template", "{{ messages[0]['content'] }}")
    added = wanted.pop("added", [])
    special = {"eos_token": "<|end|>", "pad_token": "<|pad|>"} | wanted
    made = PreTrainedTokenizerFast(tokenizer_object=tok, **special)
    made.chat_template = template
    made.add_tokens(added)
    return made


@pytest.mark.parametrize(
    "wanted",
    [
        {"merges": [("b", "c"), ("a", "bc")]},
        {"merges": [("a", "b"), ("b", "c")]},
        {"normalizer": normalizers.NFKC()},
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {
            "pre_tokenizer": pre_tokenizers.Sequence(
                [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        },
        {"decoder": decoders.Fuse()},
        {"post_processor": processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])},
        {"added": ["<new>"]},
        {"added": [AddedToken("ab", lstrip=True)]},
        {"chat_template": "{{ messages[-1]['content'] }}"},
        {"chat_template": None},
        {"chat_template": "{{ bos_token }}", "bos_token": "<|end|>"},
        {"eos_token": "<|pad|>"},
        {"pad_token": "<|end|>"},
        {"additional_special_tokens": ["abc"]},
        {"clean_up_tokenization_spaces": True},
        {"split_special_tokens": True},
    ],
    ids=str,
)
def test_what_is_between_text_and_ids_counts(wanted):
    assert tokenizer_fingerprint(tokenizer(**wanted)) != tokenizer_fingerprint(tokenizer())


def test_the_same_tokenizer_saved_used_and_opened_again(tmp_path):
    one = tokenizer(added=["<new>"])
    before = tokenizer_fingerprint(one)
    one.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert tokenizer_fingerprint(again) == before
    again(["abc", "a b c d"], padding="max_length", truncation=True, max_length=2)
    again.padding_side, again.model_max_length = "left", 7
    assert tokenizer_fingerprint(again) == before


def test_a_special_token_counts_if_the_template_writes_it():
    """Training scripts set a pad, or call the end one; nothing that is read or written changes by it."""
    for template, counts in (("{{ messages[0]['content'] }}", False), ("{{ pad_token }}{{ bos_token }}", True)):
        for name in ("pad_token", "bos_token"):
            one, other = tokenizer(chat_template=template), tokenizer(chat_template=template)
            setattr(other, name, "<|end|>")
            assert (tokenizer_fingerprint(one) != tokenizer_fingerprint(other)) == counts


def test_a_template_of_several_names():
    one, two = tokenizer(), tokenizer()
    one.chat_template = {"default": "a", "tools": "b"}
    two.chat_template = {"default": "a", "tools": "c"}
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(two)


def test_a_tokenizer_written_in_python():
    assert tokenizer_fingerprint(ByT5Tokenizer()) == tokenizer_fingerprint(ByT5Tokenizer())
    assert tokenizer_fingerprint(ByT5Tokenizer()) != tokenizer_fingerprint(ByT5Tokenizer(extra_ids=5))
    assert tokenizer_fingerprint(ByT5Tokenizer()) != tokenizer_fingerprint(ByT5Tokenizer(eos_token="<unk>"))
