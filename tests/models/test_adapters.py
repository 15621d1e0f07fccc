"""Adapters of every kind: what PEFT computes with one is what is looked at here, or it is refused in a sentence."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.models import loading
from cr_interp.models.adapters import check_acts
from cr_interp.models.forward import build_view, hidden_states, logits
from cr_interp.models.loading import fingerprint, load
from cr_interp.models.named_models import model_digest, tokenizer_of

peft = pytest.importorskip("peft")
T = {"task_type": "CAUSAL_LM"}
IDS = list(range(8, 20))

#: Kinds that change the model's layers.
ACTS = {
    "LoRA": lambda: peft.LoraConfig(r=4, **T),
    "rsLoRA": lambda: peft.LoraConfig(r=4, use_rslora=True, **T),
    "DoRA": lambda: peft.LoraConfig(r=4, use_dora=True, **T),
    "patterns": lambda: peft.LoraConfig(
        r=4, rank_pattern={"layers.0.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 32}, **T
    ),
    "some layers": lambda: peft.LoraConfig(
        r=4, target_modules=["q_proj", "up_proj"], layers_to_transform=[1], **T
    ),
    "a regular expression": lambda: peft.LoraConfig(r=4, target_modules=r".*layers\.0\..*(q|v)_proj", **T),
    "whole modules": lambda: peft.LoraConfig(r=4, modules_to_save=["lm_head", "embed_tokens"], **T),
    "a norm as a whole": lambda: peft.LoraConfig(r=4, modules_to_save=["norm"], **T),
    "biases": lambda: peft.LoraConfig(r=4, bias="all", lora_bias=True, **T),
    "embeddings": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], **T),
    "the head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"], **T),
    "tokens": lambda: peft.LoraConfig(r=4, trainable_token_indices=[9, 12], **T),
    "IA3": lambda: peft.IA3Config(**T),
    "LoHa": lambda: peft.LoHaConfig(r=4, target_modules=["q_proj"], **T),
    "LoKr": lambda: peft.LoKrConfig(r=4, target_modules=["q_proj"], **T),
    "OFT": lambda: peft.OFTConfig(r=0, oft_block_size=8, target_modules=["q_proj"], **T),
    "VeRA": lambda: peft.VeraConfig(r=4, target_modules=["q_proj"], **T),
    "norms": lambda: peft.LNTuningConfig(**T),
}
#: Kinds that do not.
BESIDE = {
    "prompt tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, **T),
    "prefix tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, **T),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, **T),
    "CPT": lambda: peft.CPTConfig(
        cpt_token_ids=[9, 10, 11], cpt_mask=[1, 1, 1], cpt_tokens_type_mask=[1, 2, 3], **T
    ),
    "adaption prompt": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=1, **T),
}


def base_folder(path, untied=False):
    loaded = tiny("llama")
    if untied:
        loaded.model.config.tie_word_embeddings = False
        torch.manual_seed(0)
        loaded = type(loaded)(loaded.name, type(loaded.model)(loaded.model.config).eval(), loaded.tokenizer)
        with torch.no_grad():
            for parameter in loaded.model.parameters():
                parameter.mul_(4) if parameter.dim() > 1 else None
    loaded.model.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("base") / "base", untied=True)


def trained(base, folder, config, model=None):
    """An adapter that is far from its beginning, saved; its logits on :data:`IDS` by PEFT's own forward."""
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model or load(str(base)).model, config).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
        expected = adapted(input_ids=torch.tensor([IDS])).logits[0, -1]
    adapted.save_pretrained(folder)
    refit(folder, base_model_name_or_path=str(base))
    return expected


def refit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def mine(loaded):
    with torch.no_grad():
        return logits(loaded.model, hidden_states(loaded.model, build_view([IDS], [[5]], 0)))[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ACTS)
def test_what_changes_layers_is_what_peft_computes(kind, base, tmp_path):
    expected = trained(base, tmp_path / "a", ACTS[kind]())
    loaded = load(str(tmp_path / "a"))
    torch.testing.assert_close(mine(loaded), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mine(loaded), mine(load(str(base))), atol=1e-2)
    again = load(str(tmp_path / "a"))
    assert fingerprint(loaded.model, loaded.tokenizer) == fingerprint(again.model, again.tokenizer)


@pytest.mark.parametrize("kind", BESIDE)
def test_what_acts_outside_the_layers_is_refused(kind, base, tmp_path):
    trained(base, tmp_path / "a", BESIDE[kind]())
    with pytest.raises(UserError, match="outside the model's own layers"):
        load(str(tmp_path / "a"))


@pytest.mark.parametrize("begun", ["pissa", "pissa_niter_4", "olora"])
def test_what_moves_the_base_is_refused(begun, base, tmp_path):
    trained(base, tmp_path / "a", peft.LoraConfig(r=4, init_lora_weights=begun, **T))
    with pytest.raises(UserError, match=f"begun with {begun}, which moves the base"):
        load(str(tmp_path / "a"))


def test_an_adapter_that_waits_for_a_phrase_is_refused(base, tmp_path):
    """aLoRA: its wrapper switches it on after certain tokens; the model inside has it off throughout."""
    trained(base, tmp_path / "a", peft.LoraConfig(r=4, alora_invocation_tokens=[30, 31], **T))
    with pytest.raises(UserError, match="LORA with alora_invocation_tokens, which acts outside"):
        load(str(tmp_path / "a"))


def test_a_kind_that_is_not_known_to_act_outside_is_found_by_trying(base, tmp_path):
    adapted = peft.get_peft_model(load(str(base)).model, BESIDE["prompt tuning"]())
    with pytest.raises(UserError, match="changes what its wrapper computes, but not the model inside"):
        check_acts(tmp_path, adapted)


# -- damage ----------------------------------------------------------------------------------------------------------


def renamed(change):
    return lambda saved: {change(name): tensor for name, tensor in saved.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda n: f"module.{n}",
        lambda n: f"_orig_mod.{n}",
        lambda n: f"module._orig_mod.{n}",
        lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda n: n.replace("layers.1.", "layers.1._orig_mod."),
    ],
)
@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "IA3", "whole modules"])
def test_names_of_wrappers_are_taken_out(kind, change, base, tmp_path):
    expected = trained(base, tmp_path / "a", ACTS[kind]())
    rewrite(tmp_path / "a", renamed(change))
    torch.testing.assert_close(mine(load(str(tmp_path / "a"))), expected, atol=1e-4, rtol=1e-4)


def rewrite(folder, change):
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(part):
    return lambda saved: {name: tensor for name, tensor in saved.items() if part not in name}


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (
            "LoRA",
            without("layers.1.self_attn.q_proj.lora_B"),
            r"1 places get none \(such as .*layers\.1.*q_proj\.lora_B",
        ),
        (
            "LoRA",
            lambda s: {**s, "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)},
            r"1 of its tensors have no place there \(such as .*layers\.9",
        ),
        ("LoRA", lambda s: {n: t[:2] if "lora_A" in n else t for n, t in s.items()}, "does not fit its base"),
        ("DoRA", without("magnitude"), r"places get none \(such as .*lora_magnitude_vector"),
        ("IA3", without("layers.0."), r"places get none \(such as .*ia3_l"),
        ("IA3", renamed(lambda n: n.replace("ia3_l", "ia4_l")), "have no place"),
        ("whole modules", without("lm_head"), "lm_head"),
        ("OFT", without("layers.1."), "places get none"),
    ],
)
def test_what_is_not_all_there_is_refused(kind, change, said, base, tmp_path):
    trained(base, tmp_path / "a", ACTS[kind]())
    rewrite(tmp_path / "a", change)
    with pytest.raises(UserError, match=said):
        load(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "NEW"}, "installed peft"),
        ({"base_model_name_or_path": None}, "does not say which base"),
        ({"r": 8}, "does not fit its base"),
        ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "places get none"),
        ({"target_modules": ["nothing"]}, "does not fit its base"),
        ({"use_dora": True}, "does not fit its base|places get none"),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(changes, said, base, tmp_path):
    trained(base, tmp_path / "a", ACTS["LoRA"]())
    with pytest.raises(UserError, match=said):
        load(str(refit(tmp_path / "a", **changes)))


def test_pickled_and_absent_weights(base, tmp_path):
    trained(base, tmp_path / "a", ACTS["LoRA"]())
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        load(str(tmp_path / "a"))
    torch.save({}, tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(UserError, match=r"pickled weights \(adapter_model\.bin\)"):
        load(str(tmp_path / "a"))
    save_file({"x": torch.zeros(1)}, tmp_path / "a" / "other.safetensors")
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        load(str(tmp_path / "a"))


# -- several adapters -----------------------------------------------------------------------------------------------


def test_several_adapters_in_one_folder(base, tmp_path):
    model = peft.get_peft_model(load(str(base)).model, ACTS["LoRA"](), adapter_name="one")
    model.add_adapter("two", peft.LoraConfig(r=2, **T))
    model.save_pretrained(tmp_path / "both")
    with pytest.raises(UserError, match=r"holds 2 adapters \(one, two\)"):
        load(str(tmp_path / "both"))
    assert load(str(refit(tmp_path / "both" / "two", base_model_name_or_path=str(base))))


def test_an_adapter_on_an_adapter_is_refused(base, tmp_path):
    trained(base, tmp_path / "one", ACTS["LoRA"]())
    trained(base, tmp_path / "two", ACTS["LoRA"]())
    refit(tmp_path / "two", base_model_name_or_path=str(tmp_path / "one"))
    for name in ("one", "two"):  # another, and itself: what would be followed for ever
        refit(tmp_path / "two", base_model_name_or_path=str(tmp_path / name))
        for ask in (load, model_digest, tokenizer_of):
            with pytest.raises(
                UserError, match=r"base of the adapter .*two is an adapter itself|could not be read"
            ):
                ask(str(tmp_path / "two"))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("base.json", "[]"),
        ("base.json", "{}"),
        ("base.json", '{"fingerprint": 1}'),
        ("base.json", '{"fingerprint": "x"}'),
    ],
)
def test_a_note_of_the_base_that_is_none(file, text, base, tmp_path):
    trained(base, tmp_path / "a", ACTS["LoRA"]())
    (tmp_path / "a" / file).write_text(text)
    with pytest.raises(UserError, match=r"which base the adapter belongs to|was trained on"):
        load(str(tmp_path / "a"))


@pytest.mark.parametrize("name", [5, ["x"], {"a": 1}, True])
def test_a_base_whose_name_is_no_text(name, base, tmp_path):
    trained(base, tmp_path / "a", ACTS["LoRA"]())
    refit(tmp_path / "a", base_model_name_or_path=name)
    with pytest.raises(UserError, match=r"does not say which base|does not describe an adapter"):
        load(str(tmp_path / "a"))


# -- added tokens ---------------------------------------------------------------------------------------------------


def with_added_tokens(folder, untied, save_embedding_layers=True, **chosen):
    """An adapter whose tokenizer has two tokens more than its base's."""
    base = base_folder(folder / "base", untied)
    loaded = load(str(base))
    added = loaded.tokenizer.add_tokens(["<think>", "</think>"])
    rows = loaded.model.config.vocab_size
    loaded.model.resize_token_embeddings(rows + added, mean_resizing=False)
    torch.manual_seed(3)
    adapted = peft.get_peft_model(loaded.model, peft.LoraConfig(r=4, **T, **chosen)).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter)) if parameter.requires_grad else None
        expected = adapted(input_ids=torch.tensor([[8, rows, 9, rows + 1]])).logits[0]
    adapted.save_pretrained(folder / "a", save_embedding_layers=save_embedding_layers)
    loaded.tokenizer.save_pretrained(folder / "a")
    refit(folder / "a", base_model_name_or_path=str(base))
    return rows, expected


@pytest.mark.slow
@pytest.mark.parametrize("untied", [True, False])
@pytest.mark.parametrize("chosen", [{}, {"modules_to_save": ["lm_head", "embed_tokens"]}], ids=str)
def test_rows_of_added_tokens_come_with_the_adapter(untied, chosen, tmp_path):
    if chosen and not untied:
        chosen = {**chosen, "ensure_weight_tying": True}
    rows, expected = with_added_tokens(tmp_path, untied, **chosen)
    loaded = load(str(tmp_path / "a"))
    with torch.no_grad():
        found = loaded.model(input_ids=torch.tensor([[8, rows, 9, rows + 1]])).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    again = load(str(tmp_path / "a"))
    assert fingerprint(loaded.model, loaded.tokenizer) == fingerprint(again.model, again.tokenizer)


def test_added_tokens_without_rows_are_named(tmp_path):
    with_added_tokens(tmp_path, True, save_embedding_layers=False)
    with pytest.raises(
        UserError, match=r"2 tokens for which neither it nor its base has a row \(<think>, </think>;"
    ):
        load(str(tmp_path / "a"))


def test_a_token_for_images_that_the_base_has_no_row_for_either_is_no_harm(tmp_path):
    """Gemma-3's tokenizer has one more than its text models have rows."""
    folder = base_folder(tmp_path / "base")
    loaded = load(str(folder))
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    loaded.tokenizer.save_pretrained(folder)
    expected = trained(folder, tmp_path / "a", ACTS["LoRA"]())
    loaded.tokenizer.save_pretrained(tmp_path / "a")
    torch.testing.assert_close(mine(load(str(tmp_path / "a"))), expected, atol=1e-4, rtol=1e-4)


def test_a_hub_id_of_an_adapter_is_loaded_as_one(base, tmp_path, monkeypatch):
    """The library would put it on its base in a way of its own."""
    expected = trained(base, tmp_path / "a", ACTS["LoRA"]())
    monkeypatch.setattr(loading, "find_adapter_config_file", lambda name: "adapter_config.json")
    monkeypatch.setattr(loading, "snapshot_download", lambda name, **_: str(tmp_path / "a"))
    loaded = load("owner/adapter")
    assert type(loaded.model).__name__ == "PeftModelForCausalLM"
    torch.testing.assert_close(mine(loaded), expected, atol=1e-4, rtol=1e-4)


def test_rows_for_the_embeddings_alone_are_refused(tmp_path):
    with_added_tokens(tmp_path, True)
    rewrite(tmp_path / "a", without("lm_head"))
    with pytest.raises(UserError, match="brings none for the LM head"):
        load(str(tmp_path / "a"))


def test_a_base_that_is_gone(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    trained(tmp_path / "base", tmp_path / "a", ACTS["LoRA"]())
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(UserError, match="base of the adapter"):
        load(str(tmp_path / "a"))


def test_what_a_study_notes_of_an_adapter_knows_its_base(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    trained(tmp_path / "base", tmp_path / "a", ACTS["LoRA"]())
    before = model_digest(str(tmp_path / "a"))
    assert model_digest(str(tmp_path / "a")) == before
    saved = load_file(tmp_path / "base" / "model.safetensors")
    saved["model.norm.weight"] += 1
    save_file(saved, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    assert model_digest(str(tmp_path / "a")) != before
