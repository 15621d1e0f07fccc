"""A run goes on from the whole checkpoint or not at all."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny
from transformers import AutoConfig, AutoModelForCausalLM

from cr_interp.errors import UserError
from cr_interp.models.adapters import check_resumed
from training.run.lora import Lora, save_adapter, with_adapter
from training.run.trainer import DistillTrainer

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def student(kind="llama", seed=0, **more):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE | more)).eval()


def go_on(model, folder):
    trainer = SimpleNamespace(
        student=SimpleNamespace(model=model), is_fsdp_enabled=False, is_deepspeed_enabled=False
    )
    DistillTrainer._load_from_checkpoint(trainer, str(folder))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
        ("mixtral", {"num_local_experts": 4}),  # saved under other names than the model's own
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    ],
    ids=str,
)
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_all_weights_come_back(kind, more, shard, tmp_path):
    trained, fresh = student(kind, 0, **more), student(kind, 1, **more)
    trained.save_pretrained(tmp_path, max_shard_size=shard)
    go_on(fresh, tmp_path)
    for name, parameter in trained.named_parameters():
        assert parameter.equal(fresh.get_parameter(name)), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {n: t for n, t in s.items() if "layers.1.mlp" not in n}, "3 are missing"),
        (lambda s: {**s, "more.weight": torch.zeros(2)}, r"1 is left over \(more\.weight\)"),
        (lambda s: {**s, "lm_head.weight": torch.zeros(3, 32)}, r"of another shape \(lm_head\.weight"),
        (lambda s: {n: t for n, t in s.items() if "lm_head" not in n}, r"1 is missing \(lm_head\.weight\)"),
    ],
)
def test_what_is_not_whole_is_refused(change, said, tmp_path):
    student().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=said):
        go_on(student(seed=1), tmp_path)


def test_a_file_that_ends_too_early_is_refused(tmp_path):
    student().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot go on from"):
        go_on(student(seed=1), tmp_path)


def test_an_adapter_of_which_a_part_is_gone_is_refused(tmp_path):
    pytest.importorskip("peft")
    model = with_adapter(tiny(), Lora(rank=2), 0).model
    save_adapter(model, tmp_path)
    check_resumed(tmp_path, model)
    file = tmp_path / "adapter_model.safetensors"
    saved = load_file(file)
    saved.pop(next(name for name in saved if "layers.1" in name and "lora_B" in name))
    save_file(saved, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 places get none \(such as .*layers\.1.*lora_B"):
        check_resumed(tmp_path, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.add_(1)
    save_adapter(with_adapter(tiny(), Lora(rank=2), 0).model, tmp_path)
    with pytest.raises(UserError, match="with other numbers than in its file"):
        check_resumed(tmp_path, model)
