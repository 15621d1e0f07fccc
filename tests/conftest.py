"""What all tests share: no network, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tiny import tiny


@pytest.fixture(scope="session")
def tiny_llama():
    return tiny()


@pytest.fixture(scope="session")
def organism():
    import torch

    from cr_interp.models import load

    torch.set_num_threads(1)
    return load("builtin:organism-llama")
