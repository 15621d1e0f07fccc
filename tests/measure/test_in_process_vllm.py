"""vLLM in this process, with a stand-in for its two classes: the same rows as by our own decoding, and states read here."""

import sys
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import load


@pytest.fixture
def vllm(monkeypatch):
    """A module of that name; ``made`` are its engines, ``shift`` is added to every id."""
    module = ModuleType("vllm")
    module.made, module.shift = [], 0

    class SamplingParams(SimpleNamespace): ...

    class LLM:
        def __init__(self, model, seed, **options):
            if "nonesuch" in model:
                raise ValueError("no such architecture")
            assert options == {"dtype": "float32", "gpu_memory_utilization": 0.5}
            self.loaded = load(model)
            module.made.append(self)

        def generate(self, asked, chosen, use_tqdm):
            prompts = [each["prompt_token_ids"] for each in asked]
            first = chosen[0]
            assert first.temperature == 0
            assert set(first.stop_token_ids) == set(self.loaded.eos_ids)
            found = generate(self.loaded, prompts, Decoding(first.max_tokens))
            return [
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=[id + module.shift for id in each.ids])])
                for each in found
            ]

    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


@pytest.fixture
def checkpoint(tiny_llama, tmp_path):
    folder = tmp_path / "tiny"
    tiny_llama.model.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return folder


def compared(checkpoint, out, engine):
    return compare_checkpoints([f"base={checkpoint}"], out, "rules:shift", examples=6, engine=engine)


def test_rows_and_states_are_those_of_our_own_decoding(vllm, checkpoint, tmp_path):
    ours = compared(checkpoint, tmp_path / "ours", "transformers")
    theirs = compared(checkpoint, tmp_path / "theirs", "vllm")
    assert len(vllm.made) == 1
    for table in ("generations", "drift", "token_drift"):
        one, other = (each.table(table).drop(columns="made_of") for each in (ours, theirs))
        pd.testing.assert_frame_equal(one, other)
    with pytest.raises(UserError, match="engine"):
        compared(checkpoint, tmp_path / "theirs", "transformers")


def test_another_model_s_ids_are_refused(vllm, checkpoint, tmp_path):
    vllm.shift = 1000
    with pytest.raises(UserError, match="another model"):
        compared(checkpoint, tmp_path / "s", "vllm")


def test_without_the_package_and_with_no_engine_at_all(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"pip install 'cr-interp\[vllm\]'"):
        compared(checkpoint, tmp_path / "s", "vllm")
    with pytest.raises(UserError, match="Did you mean 'vllm'"):
        compared(checkpoint, tmp_path / "t", "vlm")
