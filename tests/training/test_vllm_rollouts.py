"""Rollouts from a vLLM server: TRL's own client against a stand-in that speaks the same HTTP."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny
from vllm_stand_in import StandIn, serving

from cr_interp.errors import UserError
from cr_interp.generation import Decoding, generate
from training.rollouts import RolloutsLost
from training.vllm_rollouts import ServerRollouts, connect

client_module = pytest.importorskip("trl.generation.vllm_client", reason="the extra `trl` is not installed")
PROMPTS = [[3, 40, 41, 42], [3, 50, 51], [3, 60]]
GREEDY = Decoding(6)


@pytest.fixture
def student():
    return tiny()


@pytest.fixture
def server(student, monkeypatch):
    """The stand-in, with a copy of the student as it was at first, and tensors handed over instead of NCCL's broadcast."""
    stand_in = StandIn(copy.deepcopy(student))
    stub = SimpleNamespace(
        trainer_init=lambda info: None,
        trainer_send_weights=lambda iterator, trainer_args: stand_in.receive(iterator),
    )
    monkeypatch.setattr(client_module, "is_vllm_available", lambda *_, **__: True)
    monkeypatch.setattr(client_module, "_HAS_STATEFUL_TRAINER_ENGINE", False)
    monkeypatch.setattr(client_module, "_HAS_RESET_PREFIX_CACHE_SUCCESS", True)
    monkeypatch.setattr(client_module, "NCCLWeightTransferEngine", stub, raising=False)
    monkeypatch.setattr(client_module, "get_ip", lambda: "127.0.0.1", raising=False)
    monkeypatch.setattr(client_module, "NCCLTrainerSendWeightsArgs", lambda **_: None, raising=False)
    with serving(stand_in):
        yield stand_in


def rollouts(server: StandIn, decoding: Decoding = GREEDY) -> ServerRollouts:
    client = client_module.VLLMClient(base_url=server.url)
    # The client waits for seconds between its own attempts.
    for adapter in client.session.adapters.values():
        adapter.max_retries = adapter.max_retries.new(backoff_factor=0)
    return ServerRollouts(client, decoding, pause=0.0)


def test_the_server_answers_as_the_student_is_now(server, student):
    ask = rollouts(server)
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
        "/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache", "/v1/completions",
    ]  # fmt: skip


def test_an_adapter_is_sent_merged_and_under_its_bases_names(server, student):
    from training.lora import Lora, plain_parameters, with_adapter

    base = {name: value.clone() for name, value in student.model.named_parameters()}
    adapted = with_adapter(student, Lora(rank=2, alpha=8), seed=0)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:  # zero in a fresh adapter
                parameter.add_(0.3)
    expected = generate(adapted, PROMPTS, GREEDY)
    assert expected != generate(server.loaded, PROMPTS, GREEDY)
    assert rollouts(server).sample(adapted, PROMPTS, 0) == expected
    for name, value in plain_parameters(adapted.model):  # and the student has its own tensors back
        assert torch.equal(value, base[name]), name
    half = SimpleNamespace(model=adapted.model.to(torch.bfloat16))
    with pytest.raises(UserError, match=r"training.bf16=false"):
        rollouts(server).sample(half, PROMPTS, 0)


def test_the_decoding_is_asked_for_and_no_seed_is_given(server, student):
    rollouts(server, Decoding(4, 0.7, 20, 0.8)).sample(student, PROMPTS, 3)
    body = server.bodies[-1]
    assert {name: body[name] for name in ("max_tokens", "temperature", "top_k", "top_p")} == {
        "max_tokens": 4, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
    }  # fmt: skip
    assert body["prompt"] == PROMPTS  # ids, so that nothing is tokenised again
    assert "seed" not in body  # one for all prompts would make their draws alike


def test_a_server_that_stumbles_is_asked_again(server, student):
    server.failing = 2
    assert rollouts(server).sample(student, PROMPTS, 0) == generate(student, PROMPTS, GREEDY)


def test_a_server_that_is_gone_says_so(server, student):
    server.failing = -1
    with pytest.raises(RolloutsLost, match=r"no longer answered.*start it again.*the run continues"):
        rollouts(server).sample(student, PROMPTS, 0)


def test_another_model_behind_the_address_is_refused(server, student):
    server.shift = 1000
    with pytest.raises(UserError, match=r"token 1.*the student's vocabulary has 101"):
        rollouts(server).sample(student, PROMPTS, 0)


def test_connecting(server, monkeypatch):
    with pytest.raises(UserError, match=r"cannot take the student's weights.*CUDA"):
        connect(server.url, "cpu", timeout=0)
    assert "/server_info" in server.asked
    with pytest.raises(UserError, match=r"No vLLM server answers at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", "cpu", timeout=0)
    monkeypatch.setattr(client_module, "is_vllm_available", lambda *_, **__: False)
    with pytest.raises(UserError, match=r"pip install 'cr-interp\[vllm\]'"):
        connect(server.url, "cpu", timeout=0)
