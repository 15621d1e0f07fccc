"""A checkpoint is loaded whole, or refused by the names of what is wrong with it; never filled up with random numbers."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.models.loading import fingerprint, load, open_model
from cr_interp.models.weights import plain, refuse_incomplete

IDS = torch.arange(8, 20)[None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with an untied model, and its logits on :data:`IDS`."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    loaded = tiny("llama")
    config = loaded.model.config
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    model = type(loaded.model)(config).eval()
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    with torch.no_grad():
        return folder, model(input_ids=IDS).logits


def damaged(whole, target, tensors=None, config=None, shards=0):
    """A copy of the folder with its tensors or its configuration changed, in ``shards`` files if it is more than one."""
    shutil.copytree(whole[0], target)
    saved = load_file(target / "model.safetensors")
    saved = tensors(saved) if tensors else saved
    if shards:
        (target / "model.safetensors").unlink()
        names = sorted(saved)
        index = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
        for file in set(index.values()):
            part = {name: saved[name] for name in names if index[name] == file}
            save_file(part, target / file, metadata={"format": "pt"})
        text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
        (target / "model.safetensors.index.json").write_text(text)
    else:
        save_file(saved, target / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(told | (config or {})))
    return target


def renamed(**wrappers):
    """Every name with something before it, or before a part of it."""
    before, layer = wrappers.get("before", ""), wrappers.get("layer", "")
    return lambda saved: {
        before + name.replace("layers.1.", f"layers.1.{layer}"): tensor for name, tensor in saved.items()
    }


def without(part):
    return lambda saved: {name: tensor for name, tensor in saved.items() if part not in name}


def with_(name, *shape):
    return lambda saved: {**saved, name: torch.zeros(*shape)}


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize(
    "wrappers",
    [
        {"before": "_orig_mod."},
        {"before": "module."},
        {"before": "module._orig_mod."},
        {"before": "_orig_mod.module."},
        {"layer": "_orig_mod."},
        {"before": "_fsdp_wrapped_module.", "layer": "_fsdp_wrapped_module._checkpoint_wrapped_module."},
        {"before": "_forward_module."},
    ],
    ids=str,
)
def test_names_of_wrappers_are_taken_out(wrappers, shards, whole, tmp_path):
    folder = str(damaged(whole, tmp_path / "wrapped", renamed(**wrappers), shards=shards))
    with pytest.raises(UserError, match=r"was saved from a wrapped model .*strip=True"):
        load(folder)
    loaded = open_model(folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=IDS).logits, whole[1], rtol=0, atol=0)
    plainly = load(str(whole[0]))
    assert fingerprint(loaded.model, loaded.tokenizer) == fingerprint(plainly.model, plainly.tokenizer)
    assert loaded.eos_ids == plainly.eos_ids
    loaded.model.save_pretrained(tmp_path / "again")  # what is trained from it is saved under plain names
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(
        load_file(whole[0] / "model.safetensors")
    )


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        (without("lm_head"), {}, r"1 is missing \(lm_head\.weight\).*random"),
        (without("layers.1."), {}, r"9 are missing \(model\.layers\.1\.input_layernorm\.weight, .* and 6 more\)"),
        (without("layers.0.mlp.up_proj"), {}, r"1 is missing \(model\.layers\.0\.mlp\.up_proj\.weight\)"),
        (without("norm"), {}, r"5 are missing"),
        (with_("v_head.weight", 2), {}, r"1 is left over \(v_head\.weight\).*dropped"),
        (with_("lm_head.weight", 10, 32), {}, r"1 is of another shape \(lm_head\.weight: \(10, 32\) instead of"),
        (None, {"num_hidden_layers": 1}, r"9 are left over \(model\.layers\.1\."),
        (None, {"num_hidden_layers": 4}, r"18 are missing \(model\.layers\.2\."),
        (None, {"vocab_size": 300}, r"2 are of another shape \(lm_head\.weight: .*300, 32.*embed_tokens"),
        (None, {"hidden_size": 64}, r"of another shape"),
        (None, {"intermediate_size": 32}, r"6 are of another shape \(.*mlp"),
        (None, {"attention_bias": True}, r"8 are missing \(.*bias"),
        (None, {"model_type": "qwen3"}, r"4 are missing \(.*(q|k)_norm"),
        (renamed(before="student."), {}, "missing.*left over"),
        (lambda s: {**s, "module.lm_head.weight": s["lm_head.weight"] + 1}, {}, r"holds lm_head\.weight twice"),
        (lambda s: renamed(before="module.")(without("lm_head")(s)), {}, r"1 is missing \(lm_head\.weight\)"),
    ],
    ids=[
        "no head", "a layer", "a matrix", "norms", "a value head", "a shape", "fewer layers", "more layers", "words",
        "width", "inner width", "biases", "another architecture", "unknown prefix", "twice", "wrapped and no head",
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_by_name(tensors, config, said, whole, tmp_path):
    with pytest.raises(UserError, match=said):
        open_model(str(damaged(whole, tmp_path / "damaged", tensors, config)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"num_attention_heads": 3}, "multiple of the number of attention heads"),
        ({"model_type": "nonsense"}, "nonsense"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "could not be loaded"),
    ],
    ids=str,
)
def test_a_configuration_that_nothing_can_be_made_of(config, said, whole, tmp_path):
    with pytest.raises(UserError, match=said):
        load(str(damaged(whole, tmp_path / "damaged", None, config)))


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_ends_too_early(share, whole, tmp_path):
    file = damaged(whole, tmp_path / "cut") / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="could not be loaded as a Hugging Face checkpoint"):
        load(str(file.parent))


def test_a_shard_that_is_not_there(whole, tmp_path):
    folder = damaged(whole, tmp_path / "shards", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match="model-00002-of-00003"):
        load(str(folder))


def test_an_index_that_leaves_a_shard_out(whole, tmp_path):
    folder = damaged(whole, tmp_path / "shards", shards=3)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"] = {k: v for k, v in told["weight_map"].items() if "00002" not in v}
    index.write_text(json.dumps(told))
    with pytest.raises(UserError, match="are missing"):
        load(str(folder))


def test_a_tied_head_need_not_be_there(tmp_path):
    loaded = tiny("llama")
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    with torch.no_grad():
        again = load(str(tmp_path)).model(input_ids=IDS).logits
        torch.testing.assert_close(again, loaded.model(input_ids=IDS).logits)


def test_the_masks_that_old_checkpoints_carry_are_no_damage():
    refuse_incomplete("here", [], ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"])
    refuse_incomplete("here", [], ["gpt_neox.layers.0.attention.bias"])
    with pytest.raises(UserError, match="left over"):
        refuse_incomplete("here", [], ["transformer.h.0.attn.c_attn.bias"])


def test_a_name_without_wrappers_stays():
    assert plain("model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    assert plain("model.modules.0.weight") == "model.modules.0.weight"
