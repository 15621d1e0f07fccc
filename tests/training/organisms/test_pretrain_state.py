"""Where a pre-training was stopped, on disk: what comes back, and a file that somebody has damaged."""

import json
import struct

import pytest
import torch
from torch import nn

from cr_interp.errors import UserError
from training.organisms.pretrain_state import load_state, save_state


def made():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, [torch.optim.AdamW(model.parameters())]


@pytest.fixture
def state(tmp_path):
    model, optimizers = made()
    model(torch.ones(1, 3)).sum().backward()
    optimizers[0].step()
    save_state(tmp_path / "state", model, optimizers, 7, "c")
    return tmp_path / "state", model


def test_all_comes_back(state, tmp_path):
    path, model = state
    other, optimizers = made()
    assert load_state(tmp_path / "none", other, optimizers, "c") == 0
    assert load_state(path, other, optimizers, "c") == 7
    assert other.weight.equal(model.weight)
    assert optimizers[0].state_dict()["state"][0]["step"] == 1
    with pytest.raises(UserError, match="another configuration"):
        load_state(path, *made(), "d")


def headed(data, change):
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:8] + b"x" * 40,
        lambda data: headed(data, lambda header: header.pop("__metadata__")),
        lambda data: headed(data, lambda header: header["__metadata__"].update(step="x")),
        lambda data: headed(data, lambda header: header.update({"0.x.y": header.pop("0.0.step")})),
        lambda data: headed(data, lambda header: header.update({"model.other": header.pop("model.weight")})),
        lambda data: headed(data, lambda header: header["model.weight"].update(shape=[6])),
    ],
)
def test_a_damaged_one_is_said(damage, state):
    path, _ = state
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged"):
        load_state(path, *made(), "c")
