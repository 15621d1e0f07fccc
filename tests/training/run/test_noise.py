"""No dropout, no jitter while a step is computed, wherever a model keeps its own; what stays random is refused."""

import pytest
import torch
from zoo import ZOO, zoo_model

from cr_interp.errors import UserError
from cr_interp.models.forward import run_whole
from training.run.noise import check_repeatable, switch_dropout_off

#: Where the noise is: a module, a number given to a function, a router's input.
NOISY = {
    "gpt2": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    "gpt_neox": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "llama": {"attention_dropout": 0.3},
    "bloom": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "opt": {"dropout": 0.3, "attention_dropout": 0.3},
    "mixtral": {"router_jitter_noise": 0.3},
}
IDS = torch.arange(8, 30)[None]


def noisy_model(monkeypatch, name, **settings):
    kind, needs = ZOO[name]
    monkeypatch.setitem(ZOO, name, (kind, {**needs, **settings}))
    return zoo_model(name, attention="eager")


@pytest.mark.parametrize("name", NOISY)
def test_training_computes_what_answering_computes(monkeypatch, name):
    model = noisy_model(monkeypatch, name, **NOISY[name])
    with torch.no_grad():
        expected = run_whole(model, IDS)
        model.train()
        assert (run_whole(model, IDS) - expected).norm() > 1e-2 * expected.norm()
        switch_dropout_off(model)
        check_repeatable(model)
        assert model.training
        for _ in range(2):
            torch.testing.assert_close(run_whole(model, IDS), expected, atol=1e-4, rtol=1e-4)


def test_noise_that_cannot_be_switched_off_is_refused(monkeypatch):
    falcon = noisy_model(monkeypatch, "falcon", hidden_dropout=0.3)  # read from the configuration, which is saved
    switch_dropout_off(falcon)
    with pytest.raises(UserError, match="FalconForCausalLM computes something else while it is trained"):
        check_repeatable(falcon)
    assert falcon.config.hidden_dropout == 0.3
    phimoe = zoo_model("phimoe-longrope")  # its experts are drawn while it is trained
    switch_dropout_off(phimoe)
    with pytest.raises(UserError, match="PhimoeForCausalLM"):
        check_repeatable(phimoe)
