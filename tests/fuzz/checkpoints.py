"""Input 3: checkpoints: weights as safetensors, whole and in parts, their descriptions, adapters, and a run to go on with.

A case damages a tiny one, and it is loaded and checked, or its run is continued.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apart import apart
from commands import command, imported
from hostile import bytes_damage, damage_file, damaged_bytes, damaged_object, file_damage, object_damage, values
from hypothesis import strategies as st

MODEL = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
]
WEIGHTS = ["model.safetensors"]
PARTS = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
ADAPTER = [
    "adapter_config.json",
    "base.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
]
STATE = [
    "trainer_state.json",
    "checkpoint.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "config.json",
    "model.safetensors",
]
OF = {"model": [*MODEL, *WEIGHTS], "parts": [*MODEL, *PARTS], "adapter": ADAPTER, "run": STATE}
RUN = [
    "distill",
    "organism-shift",
    "training.steps=4",
    "training.batch_size=2",
    "training.save_every=2",
    "training.eval_every=100",
    "training.eval_examples=2",
    "training.keep_checkpoints=9",
    "max_new_tokens=4",
    "--arms",
    "opd",
    "--seeds",
    "0",
    "--out",
    "studies/s",
    "--in-process",
    "--resume",
]
KEYS = [
    "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings", "model_type",
    "rope_scaling",
    "rope_parameters", "auto_map", "architectures", "eos_token_id", "pad_token_id", "torch_dtype", "dtype", "quantization_config",
    "layer_types", "hidden_act", "head_dim", "tie_word_embeddings", "_name_or_path", "attn_implementation", "intermediate_size",
    "rms_norm_eps", "num_key_value_heads", "r", "lora_alpha", "target_modules", "base_model_name_or_path", "peft_type",
    "modules_to_save", "rank_pattern", "use_dora", "bias", "global_step", "step", "files", "log_history", "weight_map",
    "chat_template", "added_tokens_decoder", "model_max_length", "tokenizer_class", "extra_special_tokens", "normalizer",
]  # fmt: skip
json_damage = st.one_of(
    st.tuples(st.just("object"), st.lists(object_damage, min_size=1, max_size=2)),
    st.tuples(st.just("key"), st.sampled_from(KEYS), values),
    st.tuples(
        st.just("key"), st.just("base_model_name_or_path"), st.sampled_from(["adapter", "base/../adapter", "."])
    ),
    st.tuples(st.just("bytes"), st.lists(bytes_damage, min_size=1, max_size=2)),
)
tensor_damage = st.one_of(
    st.tuples(st.just("header"), st.lists(object_damage, min_size=1, max_size=2)),
    st.tuples(st.just("length"), st.sampled_from([0, 1, 7, 2**20, 2**40, 2**63, 2**64 - 1])),
    st.tuples(st.just("bytes"), st.lists(bytes_damage, min_size=1, max_size=2)),
    st.tuples(st.just("numbers"), st.sampled_from([float("nan"), float("inf"), 1e38, 0.0])),
)
TEMPLATES = [
    "",
    "{{ messages }}",
    "{% for",
    "{{ 1 / 0 }}",
    "{{ x.y.z }}",
    "{{ messages[9].content }}",
    "{{ raise_exception('no') }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 99999999 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% include '/etc/passwd' %}",
    "{{ messages[-1].content }}",
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{{ strftime_now('%Y') }}{{ messages[0].content }}",
    "\x1b[2J{{ messages[-1]['content'] }}",
]
cases = st.sampled_from(["model"] * 4 + ["parts"] * 2 + ["adapter"] * 3 + ["run"] * 3).flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "kind": st.just(kind),
            "planned": st.sampled_from([False] * 5 + [kind in ("model", "parts")]),
            "damages": st.lists(
                st.tuples(st.sampled_from(OF[kind]), json_damage, tensor_damage), min_size=1, max_size=2
            ),
            "files": st.one_of(
                st.just([]), st.just([]), st.lists(st.tuples(st.sampled_from(OF[kind]), file_damage), max_size=1)
            ),
            "template": st.one_of(st.none(), st.none(), st.none(), st.sampled_from(TEMPLATES)),
            "extra": st.sampled_from(
                [None] * 6 + ["pytorch_model.bin", "adapter_model.bin", "modeling_x.py", "tokenizer.model"]
            ),
        }
    )
)


def prepare(sound: Path) -> None:
    from tiny import tiny

    from training.run.lora import Lora, save_adapter, with_adapter

    imported(
        "peft",
        "cr_interp.capture.check",
        "training.run.distill",
        "training.studies.pipeline",
    )
    for name, size in (("model", "5GB"), ("parts", "60KB")):
        loaded = tiny()
        loaded.model.save_pretrained(sound / name, max_shard_size=size)
        loaded.tokenizer.save_pretrained(sound / name)
    found = sorted(each.name for each in (sound / "parts").glob("*.safetensors"))
    assert len(found) == 2, found
    base = tiny()
    base.model.save_pretrained(sound / "base")
    base.tokenizer.save_pretrained(sound / "base")
    adapted = with_adapter(base, Lora(rank=2), 0)
    save_adapter(adapted.model, str(sound / "adapter"))
    base.tokenizer.save_pretrained(sound / "adapter")
    config = json.loads((sound / "adapter" / "adapter_config.json").read_text())
    (sound / "adapter" / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "base"})
    )
    (sound / "run").mkdir()
    (sound / "logs").mkdir()
    ended = apart(command(RUN), sound / "run", sound / "logs")
    assert ended.code == 0, ended.said


def play(case: dict[str, Any], sound: Path, folder: Path, outside: Path) -> tuple[str, Callable[[], None], str]:
    kind = case["kind"]
    shutil.copytree(sound / kind, folder if kind == "run" else folder / kind, dirs_exist_ok=True)
    if kind == "adapter":
        shutil.copytree(sound / "base", folder / "base")
    target = folder / kind if kind != "run" else folder / "studies" / "s" / "runs" / "opd-s0" / "checkpoint-4"
    for name, of_json, of_tensors in case["damages"]:
        _damage(target / name, of_tensors if name.endswith(".safetensors") else of_json)
    if case["template"] is not None and kind != "run":
        (target / "chat_template.jinja").write_text(case["template"])
    if case["extra"]:
        (target / case["extra"]).write_bytes(b"\x80\x04cos\nsystem\n(S'touch hit'\ntR.")
    for name, what in case["files"]:
        if (target / name).is_file():
            damage_file(target / name, what, outside)
    words = RUN if kind == "run" else ["check", kind, "--backend", "hooks", "--longest", "64"]
    if case["planned"]:
        words = ["plan", "organism-shift", f"model={kind}"]
    return f"{words[0]} {kind}", command(words), "studies/s/" if kind == "run" else ""


def wrong(case: dict[str, Any], sound: Path, folder: Path) -> str | None:
    """A run that was continued has to end with the bits of one to which nothing happened."""
    if case["kind"] != "run":
        return None
    for step in ("checkpoint-2", "checkpoint-4"):
        for name in ("model.safetensors", "optimizer.pt", "config.json"):
            file = Path("studies") / "s" / "runs" / "opd-s0" / step / name
            if (folder / file).read_bytes() != (sound / "run" / file).read_bytes():
                return f"{step}/{name} is not what it would have been"
    return None


def _damage(file: Path, damage: tuple) -> None:
    kind, what, *more = damage
    data = file.read_bytes()
    if kind == "bytes":
        file.write_bytes(damaged_bytes(data, what))
    elif file.suffix == ".json":
        try:
            value = json.loads(data)
            value = damaged_object(value, what) if kind == "object" else value | {what: more[0]}
            file.write_text(json.dumps(value))
        except (ValueError, TypeError):
            file.write_bytes(data + b"}")  # it was damaged before
    elif kind in ("object", "key"):  # of a file that is no JSON
        file.write_bytes(data[: len(data) // 2])
    else:
        _damage_tensors(file, data, kind, what)


def _damage_tensors(file: Path, data: bytes, kind: str, what: Any) -> None:
    (length,) = struct.unpack("<Q", data[:8].ljust(8))
    header, numbers = data[8 : 8 + length], data[8 + length :]
    if kind == "length":
        length = what
    elif kind == "header":
        try:
            header = json.dumps(damaged_object(json.loads(header), what)).encode()
        except ValueError:
            header += b"{"  # it was damaged before
        length = len(header)
    else:
        numbers = struct.pack("<f", what) * (len(numbers) // 4)
    file.write_bytes(struct.pack("<Q", length % 2**64) + header + numbers)
