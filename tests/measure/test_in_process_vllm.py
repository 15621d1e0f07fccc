"""vLLM in this process, with a stand-in for its two classes: the same rows as by our own decoding, and states read here."""

import sys
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.measure.case_study import CaseStudy, case_study
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.measure.settings import Evaluation
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import load
from training.settings import load_config
from training.studies.pipeline import capture_study, config_of, evaluate_study, open_or_create


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


def test_a_study_of_runs_is_answered_by_it_once_that_is_said(vllm, checkpoint, tmp_path):
    """``evaluate --engine vllm``: the same rows; what was answered otherwise is not mixed with them; the study remembers."""
    config = load_config(
        "organism-shift", [f"model={checkpoint}", "evaluation.examples=3", "evaluation.permutations=0"]
    )
    ours = evaluate_study(open_or_create(config, tmp_path / "study"), config)
    rows = ours.table("generations").drop(columns="made_of")
    study, told = config_of(str(tmp_path / "study"), engine="vllm")
    with pytest.raises(UserError, match="engine"):
        evaluate_study(study, told)
    theirs = evaluate_study(study, told, again=True)
    assert len(vllm.made) == 1
    pd.testing.assert_frame_equal(theirs.table("generations").drop(columns="made_of"), rows)
    _, remembered = config_of(str(tmp_path / "study"))
    assert remembered.evaluation.engine == "vllm"
    capture_study(theirs, remembered)  # goes by it, and refuses nothing
    with pytest.raises(UserError, match=r"A server has one model.*compare student=NAME --engine http://gpu/v1"):
        config_of(str(tmp_path / "study"), engine="http://gpu/v1")
    with pytest.raises(UserError, match="Did you mean 'vllm'"):
        config_of(str(tmp_path / "study"), engine="vlm")


def test_a_case_study_is_answered_by_it(vllm, checkpoint, tmp_path):
    told = {
        "name": "cases",
        "task": "rules:shift",
        "checkpoints": {"base": str(checkpoint)},
        "evaluation": {"examples": 3, "permutations": 0, "engine": "vllm"},
    }
    study = case_study(CaseStudy.model_validate(told), tmp_path / "cases")
    assert len(vllm.made) == 1
    assert study.table("generations")["example_id"].nunique() == 3


def test_what_was_noted_before_there_were_engines_stays_the_same():
    assert "engine" not in Evaluation().told()
    assert Evaluation(engine="vllm").told()["engine"] == "vllm"


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
