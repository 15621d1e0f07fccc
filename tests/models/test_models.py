import shutil

import pytest
import torch
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.models import loading as models
from cr_interp.models.known import builtin_names
from cr_interp.models.loading import fingerprint, load, tokenizer_fingerprint


def test_the_bundled_organism_is_the_one_its_card_describes(organism):
    import json

    from cr_interp.models.known import ORGANISMS

    card = json.loads((ORGANISMS / "rules" / "card.json").read_text())
    assert fingerprint(organism.model, organism.tokenizer) == card["fingerprint"]
    assert min(rule["exact"] for rule in card["accuracy"].values()) >= 0.98


def test_unknown_names_are_told_the_list():
    with pytest.raises(UserError, match="builtin:organism-rules"):
        load("builtin:organism-lama")
    with pytest.raises(UserError, match="no folder"):
        load("./nowhere")
    with pytest.raises(UserError, match=r"hub did not answer.*HF_HUB_OFFLINE.*builtin:organism-rules"):
        load("nobody/nothing")
    assert "builtin:smollm2-135m-instruct" in builtin_names()


@pytest.mark.parametrize(
    ("cause", "text", "said"),
    [
        (
            "GatedRepoError",
            "You are trying to access a gated repo.\nMake sure to have access to it at …",
            r"owner/name is gated.*Ask on https://huggingface.co/owner/name, then.*hf auth login",
        ),
        (
            "RepositoryNotFoundError",
            "owner/name is not a local folder and is not a valid model identifier\nlisted on …",
            r"has no model owner/name, or it is private.*Check the name.*hf auth login",
        ),
        (
            "ConnectError",
            "There was a specific connection error when trying to load owner/name:\n503",
            r"hub did not answer.*when trying to load owner/name: 503.*Connect to the network",
        ),
        (
            "EntryNotFoundError",
            "owner/name does not appear to have a file named model.safetensors.",
            r"hub did not give it as safetensors: owner/name does not appear",
        ),
    ],
)
def test_what_the_hub_says_of_a_model_is_told_with_what_to_do(cause, text, said, monkeypatch):
    def fail(*_, **__):
        raise OSError(text) from type(cause, (Exception,), {})("401")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(UserError, match=said):
        load("owner/name")


def test_what_is_not_the_hubs_doing_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ZeroDivisionError):
        load("owner/name")


def test_a_folder_round_trips_with_the_same_fingerprint(tmp_path):
    loaded = tiny()
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert fingerprint(again.model, again.tokenizer) == fingerprint(loaded.model, loaded.tokenizer)


def test_fingerprints_tell_weights_and_tokenizers_apart():
    a, b = tiny(seed=0), tiny(seed=1)
    assert fingerprint(a.model, a.tokenizer) != fingerprint(b.model, b.tokenizer)
    assert tokenizer_fingerprint(a.tokenizer) == tokenizer_fingerprint(b.tokenizer)
    b.tokenizer.chat_template = "other"
    assert tokenizer_fingerprint(a.tokenizer) != tokenizer_fingerprint(b.tokenizer)


def test_pickled_weights_are_refused_unread(tmp_path):
    loaded = tiny()
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"harmless": 1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled weights \(pytorch_model.bin\)"):
        load(str(tmp_path))


def test_a_folder_that_is_no_checkpoint_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="could not be loaded"):
        load(str(tmp_path))


def test_adapter_on_its_base(tmp_path):
    peft = pytest.importorskip("peft")
    loaded = tiny()
    base = tmp_path / "base"
    loaded.model.save_pretrained(base)
    loaded.tokenizer.save_pretrained(base)
    wrapped = peft.get_peft_model(
        load(str(base)).model, peft.LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(tmp_path / "adapter")
    again = load(str(tmp_path / "adapter"))
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(again.model(input_ids=ids).logits, loaded.model(input_ids=ids).logits)
    # The instrument sees through the wrapper.
    from cr_interp.capture.sites import residual_sites
    from cr_interp.models.forward import check_head

    check_head(again.model)
    assert len(residual_sites(again.model)) == 3
    shutil.rmtree(base)
    with pytest.raises(UserError):
        load(str(tmp_path / "adapter"))


@pytest.mark.slow
def test_smollm2_answers(tmp_path):
    pytest.importorskip("gguf")
    from cr_interp.models.generation import Decoding, decode_text, generate
    from cr_interp.views import render

    loaded = load("builtin:smollm2-135m-instruct")
    ids = render(loaded.tokenizer, "What is the capital of France?")
    assert "You are a helpful AI assistant" not in loaded.tokenizer.decode(ids)
    assert "Paris" in decode_text(loaded, generate(loaded, [ids], Decoding(12))[0])


def test_small_models_load_without_a_progress_bar(capfd):
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        load("builtin:organism-rules")
        assert "Loading weights" not in capfd.readouterr().err
        assert logging.is_progress_bar_enabled()  # for whoever uses transformers beside this
    finally:
        if not enabled:
            logging.disable_progress_bar()
