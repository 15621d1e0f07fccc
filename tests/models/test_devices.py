"""Models run where they are put: inputs follow them, and numbers come back."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from elsewhere import ELSEWHERE, elsewhere
from tiny import tiny

from cr_interp.measure.compare import measure_checkpoints
from cr_interp.measure.settings import Evaluation
from cr_interp.models import devices, generation
from cr_interp.models.devices import chosen_device, place
from cr_interp.models.forward import device_of
from cr_interp.models.generation import Decoding, generate, noise
from cr_interp.tasks import get_task


def gpus(monkeypatch, n: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


def test_the_gpu_of_the_local_rank_else_the_cpu(monkeypatch):
    gpus(monkeypatch, 0)
    assert chosen_device() == torch.device("cpu")
    gpus(monkeypatch, 4)
    assert chosen_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert chosen_device() == torch.device("cuda", 3)
    gpus(monkeypatch, 1)  # a launcher that shows each process one GPU only
    assert chosen_device() == torch.device("cuda", 0)


def test_gpus_have_the_names_that_this_process_was_given(monkeypatch):
    gpus(monkeypatch, 0)
    assert devices.visible_gpus() == []
    gpus(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 3,-1,2")  # nothing behind a -1 is seen
    assert devices.visible_gpus() == ["5", "3"]


def test_a_model_that_is_spread_out_stays_as_it_is():
    moved = []
    model = SimpleNamespace(hf_device_map={"": 0}, to=moved.append)
    place(SimpleNamespace(model=model), torch.device("cpu"))
    assert not moved


def test_the_pretended_device_refuses_the_cpus_tensors():
    """Or the tests below would show nothing."""
    with elsewhere() as there:
        far = torch.arange(3.0).to(there)
        assert (far + 1).device == ELSEWHERE
        assert (far * torch.tensor(2.0, device=there)).cpu().tolist() == [0, 2, 4]
        with pytest.raises(RuntimeError, match="same device"):
            far + torch.arange(3.0)
        with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
            far.numpy()


@pytest.mark.parametrize("decoding", [Decoding(6), Decoding(6, 0.8, top_k=20, top_p=0.9)])
def test_responses_of_a_model_elsewhere(decoding):
    loaded = tiny()
    prompts = [[3, 40, 41, 42], [3, 50, 51], [3, 60]]
    drawn = noise(0, range(3), 6)
    expected = generate(loaded, prompts, decoding, drawn)
    with elsewhere() as there:
        assert device_of(place(loaded, there).model) == there
        assert generate(loaded, prompts, decoding, drawn) == expected


def test_responses_of_a_model_whose_head_is_on_another_device_than_its_beginning(monkeypatch):
    """As ``device_map=auto`` leaves it, which moves states back at the end of the whole model only."""
    loaded = tiny()
    prompts, drawn = [[3, 40, 41, 42], [3, 50]], noise(0, range(2), 6)
    expected = generate(loaded, prompts, Decoding(6, 1.0), drawn)
    plain = generation.logits
    monkeypatch.setattr(generation, "logits", lambda model, states: plain(model, states).cpu())
    with elsewhere() as there:
        assert generate(place(loaded, there), prompts, Decoding(6, 1.0), drawn) == expected


@pytest.mark.slow
def test_a_comparison_runs_elsewhere_and_has_the_same_tables(tmp_path, monkeypatch):
    models = {"a": tiny(seed=0), "b": tiny(seed=1)}
    folders = {arm: str(tmp_path / "models" / arm) for arm in models}
    for arm, folder in folders.items():  # what a study was made of is told from files
        models[arm].model.save_pretrained(folder)
        models[arm].tokenizer.save_pretrained(folder)
    evaluation = Evaluation(examples=3, batch_size=2, controls=("exact", "irrelevant"))
    ran = []

    def measured(name):
        return measure_checkpoints(folders, get_task("codebook:A"), evaluation, tmp_path / name, opened=opened)

    def opened(folder):
        ran.append(copy.deepcopy(models[Path(folder).name]))
        return ran[-1]

    here = measured("here")
    with elsewhere() as there:
        monkeypatch.setattr(devices, "chosen_device", lambda: there)
        away = measured("away")
    # Each model is loaded twice: all answer before any is measured.
    assert [device_of(each.model).type for each in ran] == 4 * ["cpu"] + 4 * ["meta"]
    for table in ("generations", "token_drift", "cka_map", "drift"):
        pd.testing.assert_frame_equal(away.table(table), here.table(table), rtol=1e-3, atol=1e-5)
