"""``make gpu`` on a machine without a GPU: it says so and ends well; its parts run on a CPU and a tiny model."""

import json
import re
from pathlib import Path

import pytest
import torch

from training.gpu import parts
from training.gpu.__main__ import run
from training.gpu.findings import Finding, as_json
from training.gpu.parts import PARTS

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_device_it_says_so_and_ends_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("cuda", False, tmp_path / "out", [], 10) == 0
    assert "No CUDA device" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path, capsys):
    code = run("cpu", True, tmp_path, [], 10)
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    failed = [each for each in found["findings"] if each["ok"] is False]
    assert not failed
    assert code == 0
    assert found["passed"]
    assert {each["part"] for each in found["findings"]} == set(PARTS)
    of = {(each["part"], each["what"]): each for each in found["findings"]}
    assert of["resume", "weights, stopped and continued = unbroken"]["value"] == 0
    assert of["capture", "float32: every block's output = hidden_states"]["value"] < 1e-5
    assert "not run: 0 CUDA devices" in of["processes", "weights, two processes = one"]["note"]
    for arm in ("opd", "nca"):
        assert of["step", f"{arm}, float32: formula of memory"]["value"] > 0
    kernels = {
        each["what"].split(":")[0]
        for each in found["findings"]
        if each["part"] == "check" and ":" in each["what"]
    }
    assert kernels == {f"{dtype}, {kernel}" for dtype in ("float32", "bfloat16") for kernel in ("eager", "sdpa")}
    assert "every limit is kept" in " ".join(capsys.readouterr().out.split())
    assert found["versions"]["torch"]


def test_a_part_that_breaks_or_fails_leaves_the_others_numbers(tmp_path, monkeypatch, capsys):
    def breaks(bench):
        yield Finding("one", "before", 1.0)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(
        parts, "PARTS", {"one": breaks, "two": lambda bench: [Finding.at_most("two", "x", float("nan"), 1.0)]}
    )
    assert run("cpu", True, tmp_path, [], 10) == 1
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert [each["what"] for each in found["findings"] if each["ok"] is False] == ["the whole part", "x"]
    assert "NOT kept" in " ".join(capsys.readouterr().out.split())
    assert run("cpu", True, tmp_path, [], -1) == 0, "time is over before the first"
    assert run("cpu", True, tmp_path, ["nonesuch"], 10) == 2


def test_a_number_that_is_none_keeps_no_limit():
    assert Finding.at_most("p", "w", float("nan"), 1.0).ok is False
    assert as_json([Finding("p", "w")])["passed"]


def test_the_target_is_the_command():
    text = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^gpu:.*\n\t.*-m training\.gpu\b", text, re.MULTILINE)
