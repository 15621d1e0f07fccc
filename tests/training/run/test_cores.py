"""Threads: a number far beyond the cores is a slip, and is said before the library that begins them ends the process."""

import os

import pytest
import torch

from cr_interp.errors import UserError
from training.planning.plan import make_plan
from training.run.cores import A_CORE, too_many_threads, use_threads
from training.settings import load_config


def test_as_many_as_can_be_begun_are_and_no_more(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    try:
        use_threads(2)
        assert torch.get_num_threads() == 2
        with pytest.raises(UserError, match="this machine has 2 cores"):
            use_threads(4096)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert too_many_threads(2 * A_CORE) is None
    assert too_many_threads(2 * A_CORE + 1) is not None


def test_plan_says_it_too(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (problem,) = make_plan(load_config("organism-shift", ["threads=4096"])).problems
    assert f"Take at most {2 * A_CORE}" in problem
