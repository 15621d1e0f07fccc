"""Saved states: what is written comes back, a stopped capture keeps its shards, and nothing foreign is mixed in."""

import json

import pytest
import torch

from cr_interp.capture.sites import Site
from cr_interp.capture.states import open_states
from cr_interp.errors import UserError

A, B = Site("resid_post", 0), Site("resid_post", 1)


def test_batches_come_back_in_order(tmp_path):
    states = open_states(tmp_path, "key")
    first, second = torch.randn(3, 4), torch.randn(2, 4)
    states.write("exact", 40, {A: second}, [40, 41])
    states.write("exact", 0, {A: first}, [0, 0, 1])
    again = open_states(tmp_path)
    assert again.load(A, "exact").equal(torch.cat([first, second]))
    assert again.examples("exact").tolist() == [0, 0, 1, 40, 41]
    found = again.batch("exact", 40, [A])
    assert found is not None
    assert found[A].equal(second)
    assert again.batch("exact", 80, [A]) is None
    assert again.batch("exact", 40, [A, B]) is None


def test_a_second_pass_adds_sites(tmp_path):
    states = open_states(tmp_path, "key")
    a, b = torch.randn(3, 4), torch.randn(3, 4).bfloat16()
    states.write("none", 0, {A: a}, [0, 0, 1])
    states.write("none", 0, {B: b}, [0, 0, 1])
    found = open_states(tmp_path).batch("none", 0, [A, B])
    assert found is not None
    assert found[A].equal(a)
    assert found[B].equal(b)
    assert found[B].dtype == torch.bfloat16
    assert not list(tmp_path.glob(".*"))


def test_clear_refusals(tmp_path):
    with pytest.raises(UserError, match=r"no index\.json"):
        open_states(tmp_path)
    states = open_states(tmp_path, "key")
    states.write("none", 0, {A: torch.zeros(1, 2)}, [0])
    with pytest.raises(UserError, match="another checkpoint"):
        open_states(tmp_path, "other")
    with pytest.raises(UserError, match="no states of the view 'exact'"):
        states.load(A, "exact")
    with pytest.raises(UserError, match=r"resid_post\.0"):
        states.load(B, "none")
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_states(tmp_path)


@pytest.mark.parametrize(
    "shards",
    [
        [],
        "x",
        {"exact-000000.safetensors": []},
        {"exact-000000.safetensors": {"view": "exact"}},
        {"../exact-000000.safetensors": {"view": "../exact", "start": 0, "sites": [], "examples": []}},
        {"other.safetensors": {"view": "exact", "start": 0, "sites": [], "examples": []}},
        {"exact-000000.safetensors": {"view": "exact", "start": 0, "sites": [1], "examples": []}},
        {"exact-000000.safetensors": {"view": "exact", "start": 0, "sites": [], "examples": ["a"]}},
        {"exact-000040.safetensors": {"view": "exact", "start": 40, "sites": [], "examples": []}},
    ],
)
def test_an_index_from_anybody_names_shards_of_its_folder(shards, tmp_path):
    """The last ones: a link out, and no file at all."""
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    folder = tmp_path / "states"
    folder.mkdir()
    (folder / "exact-000000.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "index.json").write_text(json.dumps({"format": 1, "key": "k", "shards": shards}))
    with pytest.raises(UserError, match="is damaged"):
        open_states(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff", '{"format": 1}', '{"format": ' + "9" * 5000 + "}"])
def test_an_index_that_is_none(text, tmp_path):
    (tmp_path / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError):
        open_states(tmp_path)
