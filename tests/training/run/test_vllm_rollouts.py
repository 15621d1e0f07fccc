"""Rollouts from a vLLM server: TRL's own client against a stand-in that speaks the same HTTP."""

import copy
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import warm
from tiny import tiny
from vllm_stand_in import StandIn, client, serving

import training.run.distill
from cr_interp.errors import UserError
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import load
from cr_interp.study.study import Study
from training.run.distill import distill
from training.run.rollouts import RolloutsLost
from training.run.vllm_rollouts import ServerRollouts, connect
from training.settings import load_config

client_module = pytest.importorskip("trl.generation.vllm_client", reason="the extra `trl` is not installed")
PROMPTS = [[3, 40, 41, 42], [3, 50, 51], [3, 60]]
GREEDY = Decoding(6)


@pytest.fixture
def student():
    return tiny()


@pytest.fixture
def server(student):
    """The stand-in, with a copy of the student as it was at first."""
    with serving(StandIn(copy.deepcopy(student))) as stand_in:
        yield stand_in


@pytest.fixture
def rollouts(server, monkeypatch):
    made = client(monkeypatch, server)
    return lambda decoding=GREEDY: ServerRollouts(made, decoding, pause=0.0)


def test_the_server_answers_as_the_student_is_now(server, student, rollouts):
    ask = rollouts()
    assert ask.sample(student, PROMPTS, 0) == generate(student, PROMPTS, GREEDY)
    before = generate(student, PROMPTS, GREEDY)
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    after = generate(student, PROMPTS, GREEDY)
    assert after != before
    assert ask.sample(student, PROMPTS, 1) == after
    # The cache of the old weights' keys and values is emptied between the weights and the question.
    last = server.asked[-5:]
    assert last == [
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/reset_prefix_cache",
        "/v1/completions",
    ]


def test_an_adapter_is_sent_merged_and_under_its_bases_names(server, student, rollouts):
    from training.run.lora import plain_parameters, with_adapter
    from training.settings import Lora

    base = {name: value.clone() for name, value in student.model.named_parameters()}
    adapted = with_adapter(student, Lora(rank=2, alpha=8), seed=0)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:  # zero in a fresh adapter
                parameter.add_(0.3)
    expected = generate(adapted, PROMPTS, GREEDY)
    assert expected != generate(server.loaded, PROMPTS, GREEDY)
    assert rollouts().sample(adapted, PROMPTS, 0) == expected
    for name, value in plain_parameters(adapted.model):  # and the student has its own tensors back
        assert torch.equal(value, base[name]), name
    half = SimpleNamespace(model=adapted.model.to(torch.bfloat16))
    with pytest.raises(UserError, match=r"training.bf16=false"):
        rollouts().sample(half, PROMPTS, 0)


def test_the_decoding_is_asked_for_and_no_seed_is_given(server, student, rollouts):
    rollouts(Decoding(4, 0.7, 20, 0.8)).sample(student, PROMPTS, 3)
    body = server.bodies[-1]
    assert {name: body[name] for name in ("max_tokens", "temperature", "top_k", "top_p")} == {
        "max_tokens": 4,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
    }
    assert body["prompt"] == PROMPTS  # ids, so that nothing is tokenised again
    assert "seed" not in body  # one for all prompts would make their draws alike


def test_a_server_that_stumbles_is_asked_again(server, student, rollouts):
    server.failing = 2
    assert rollouts().sample(student, PROMPTS, 0) == generate(student, PROMPTS, GREEDY)


def test_a_server_that_is_gone_says_so(server, student, rollouts):
    server.failing = -1
    with pytest.raises(RolloutsLost, match=r"no longer answered.*start it again.*the run continues"):
        rollouts().sample(student, PROMPTS, 0)


def test_another_model_behind_the_address_is_refused(server, student, rollouts):
    server.shift = 1000
    with pytest.raises(UserError, match=r"token 1.*the student's vocabulary has 101"):
        rollouts().sample(student, PROMPTS, 0)


@pytest.mark.slow
def test_a_run_connects_where_the_trainer_puts_the_student(tmp_path, monkeypatch):
    """The Trainer moves the student after the run has connected; what counts is where it is going to be."""
    config = load_config(
        "organism-shift",
        ["training.steps=2", "training.batch_size=4", "training.eval_examples=2", "training.lr=1e-2"],
    )
    first = load(config.model).model.state_dict()
    devices = []
    monkeypatch.setattr(training.run.distill, "chosen_device", lambda: torch.device("cuda", 0))
    with serving(StandIn(load(config.model))) as stand_in:
        client(monkeypatch, stand_in)
        monkeypatch.setattr(
            client_module.VLLMClient, "init_communicator", lambda _, device: devices.append(device)
        )
        config.training.vllm = stand_in.url
        final = distill(config, "nca", 0, Study.create(tmp_path / "s", {}))
    assert devices == [torch.device("cuda", 0)]
    assert stand_in.asked.count("/update_weights") == stand_in.asked.count("/v1/completions") == 2
    # What it has is the student of the last step's beginning: neither the first one nor the last.
    for other in (first, load(str(final)).model.state_dict()):
        assert any(not torch.equal(v, other[n]) for n, v in stand_in.loaded.model.named_parameters())


@pytest.mark.slow
def test_of_two_processes_one_speaks_with_the_server_for_both(tmp_path):
    """With whole weights, with sharded ones, and with a server that is gone."""
    root = Path(__file__).resolve().parents[3]
    script = root / "tests" / "support" / "served_step.py"
    places = os.pathsep.join(map(str, (root, script.parent)))
    found = warm.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places},
        timeout=200,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_parts_that_are_not_put_together_are_refused(student, rollouts):
    next(student.model.parameters()).ds_id = 0  # as ZeRO-3 marks its own
    with pytest.raises(UserError, match=r"ZeRO-3 is not put together.*FSDP2"):
        rollouts().sample(student, PROMPTS, 0)


def test_connecting(server, rollouts, monkeypatch):
    with pytest.raises(UserError, match=r"cannot take the student's weights.*CUDA"):
        connect(server.url, "cpu", timeout=0)
    assert "/server_info" in server.asked
    with pytest.raises(UserError, match=r"No vLLM server answers at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", "cpu", timeout=0)
    monkeypatch.setattr(client_module, "is_vllm_available", lambda *_, **__: False)
    with pytest.raises(UserError, match=r"pip install 'cr-interp\[vllm\]'"):
        connect(server.url, "cpu", timeout=0)
