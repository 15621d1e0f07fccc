"""Models from anybody: a folder's files are its own, nobody is asked who was not named, nothing hangs or ends the process."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from cr_interp.errors import UserError
from cr_interp.models import loading
from cr_interp.models.bombs import refuse_endless
from cr_interp.models.known import ORGANISMS, check_files
from cr_interp.models.loading import here, load
from cr_interp.models.probe import nested
from cr_interp.models.sizes import refuse_larger
from cr_interp.system.time_limit import limited


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(ORGANISMS / "rules", tmp_path / "model")


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_sound_copy_loads(model):
    assert load(str(model)).model.config.vocab_size > 0


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../model.safetensors", "sub/x.safetensors", "none.safetensors", 3]
)
def test_an_index_names_files_of_its_folder(name, model, tmp_path):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").rename(tmp_path / "model.safetensors")
    save_file(tensors, model / "part.safetensors", metadata={"format": "pt"})
    places = dict.fromkeys(tensors, "part.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert load(str(model))
    index.write_text(json.dumps({"metadata": {}, "weight_map": places | {next(iter(places)): name}}))
    with pytest.raises(UserError, match=r"not in that folder|no 'weight_map'"):
        load(str(model))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_pipe_in_a_model_keeps_nobody_waiting(file, model):
    (model / file).unlink()
    os.mkfifo(model / file)
    with pytest.raises(UserError, match="no regular file"):
        check_files(model)


@pytest.mark.parametrize("data", ["[" * 100_000, "[]", "3", "{", '{"a": ' + "[" * 500 + "]" * 500 + "}", "\xff"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_description_that_is_none(file, data, model):
    (model / file).write_bytes(data.encode("latin-1"))
    with pytest.raises(UserError):
        load(str(model))


@pytest.mark.parametrize("ends", [1e308, 1.5, True, "1", ["<|end|>"], [1, None], -5, 10**19, [[1]], {"a": 1}])
def test_an_answer_ends_with_a_tokens_id(ends, model):
    """With a text in the list nothing would end at it, and nobody would be told."""
    rewrite(model / "generation_config.json", eos_token_id=ends)
    with pytest.raises(UserError, match=r"ends its answers with|could not be loaded"):
        load(str(model))


def test_what_a_file_names_is_not_asked_for(model, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "load_whole", lambda path, *_, **__: asked.append(path))
    for name in ("somebody/model", "gpt2-of-nobody", "a b/c", "x" * 300):
        with pytest.raises(UserError):
            here(name, "A file")
        with pytest.raises(UserError):
            load(name, hub=False)
    assert asked == []
    shutil.move(model / "config.json", model / "base_config.json")
    (model / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "base_model_name_or_path": "somebody/model",
                "r": 2,
                "target_modules": ["q_proj"],
            }
        )
    )
    with pytest.raises(UserError, match=r"What a file names is not downloaded.*hf download somebody/model"):
        load(str(model))
    assert asked == []


def replaced(n, content="aa"):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * n}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": replaced(40)},
        {"normalizer": replaced(1, "a" * 100)},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(\\p{L}*)*$"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
    ],
)
def test_a_tokenizer_that_is_a_bomb(changes, model):
    rewrite(model / "tokenizer.json", **changes)
    with pytest.raises(UserError, match="is not loaded: its"):
        load(str(model))


@pytest.mark.parametrize("length", [[], "long", {"a": 1}])
def test_a_setting_of_the_tokenizer_that_is_none(length, model):
    rewrite(model / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(UserError, match="could not be loaded"):
        load(str(model))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_file_of_a_terabyte_is_not_read(file, model):
    with open(model / file, "ab") as opened:
        opened.truncate(1 << 40)  # a hole: it takes no room on the disk
    with pytest.raises(UserError, match=r"MB are the most"):
        load(str(model))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**6), ("vocab_size", 10**9), ("intermediate_size", 10**10), ("hidden_size", 2**63)],
)
def test_what_is_larger_than_the_weights_is_not_built(key, value, model):
    assert key in json.loads((model / "config.json").read_text())
    rewrite(model / "config.json", **{key: value})
    with (
        limited(20, "building a model"),
        pytest.raises(UserError, match=rf"says {key} = {value}, and its weights hold \d+"),
    ):
        load(str(model))


def test_experts_stacked_in_one_tensor_and_parts_of_a_model(tmp_path):
    save_file({"experts": torch.zeros(64, 8)}, tmp_path / "model.safetensors")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"num_experts": 64, "text_config": {"num_hidden_layers": 1, "hidden_size": 8}}))
    refuse_larger(tmp_path)
    config.write_text(json.dumps({"text_config": {"num_hidden_layers": 2}}))
    with pytest.raises(UserError, match="num_hidden_layers = 2, and its weights hold 1 tensors"):
        refuse_larger(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    refuse_larger(tmp_path)  # that it cannot be read is said by whoever loads it
    config.write_text(json.dumps({"n_layer": 10**6}))
    with pytest.raises(UserError, match="n_layer"):
        refuse_larger(tmp_path)


@pytest.mark.parametrize("id", ["/dev/zero", None, 2**63, -1])
def test_a_tokenizer_whose_library_raises_a_bare_exception(id, model):
    told = json.loads((model / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    rewrite(model / "tokenizer.json", model=told["model"] | {"vocab": vocabulary | {next(iter(vocabulary)): id}})
    with pytest.raises(UserError, match=r"could not be loaded|no JSON"):
        load(str(model))


def test_a_tokenizer_that_nests(model):
    (model / "tokenizer.json").write_text('{"normalizer": ' + "[" * 100_000)
    with pytest.raises(UserError, match="no JSON that can be read"):
        load(str(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 10000000 }}",
        "{{ 'x' * 99999999999 }}",
    ],
)
def test_a_template_that_is_a_bomb(template, model, monkeypatch):
    monkeypatch.setattr("cr_interp.models.bombs.PATIENCE", 1.5)
    (model / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match="is not loaded: its"):
        load(str(model))


@pytest.mark.slow
def test_patterns_of_adapters_end(tmp_path, monkeypatch):
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(4)]
    sound = {
        "target_modules": r".*\.layers\.\d+\.self_attn\.(q|v)_proj",
        "rank_pattern": {"q_proj": 4},
        "layers_pattern": None,
    }
    refuse_endless(tmp_path, sound, names)
    refuse_endless(tmp_path, {"target_modules": "all-linear"}, names)
    monkeypatch.setattr("cr_interp.models.bombs.PATIENCE", 0.7)
    bomb = "(([a-z_0-9.])+)+!"
    for config in (
        {"target_modules": bomb},
        {"rank_pattern": {bomb: 2}},
        {"layers_pattern": [bomb]},
        {"exclude_modules": bomb},
    ):
        with pytest.raises(UserError, match="did not end"):
            refuse_endless(tmp_path, config, names)
    with pytest.raises(UserError, match="no regular expression"):
        refuse_endless(tmp_path, {"target_modules": "("}, names)


def test_patterns_of_published_tokenizers_are_let_be():
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
    o200k = (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    assert not any(map(nested, (gpt2, llama3, o200k, r"[\s\S]", r"\d{3}+", "[一-龥぀-ゟ゠-ヿ]+")))


def test_python_that_does_not_end_is_ended():
    with pytest.raises(UserError, match="too long"), limited(0.1, "too long"):
        _for_ever()
    with limited(10, "too long"):
        pass


def _for_ever():
    while True:
        pass
