"""`cr-interp check`: passes on models that are right, and fails when a site is somewhere else."""

import dataclasses
import importlib.util

import pytest
import torch
from tiny import tiny_model
from typer.testing import CliRunner

from cr_interp.capture import check as check_module
from cr_interp.capture import sites as sites_module
from cr_interp.capture.check import check_model
from cr_interp.capture.sites import Place
from cr_interp.cli import app
from cr_interp.errors import UserError


def failed(checks):
    return [check.claim for check in checks if check.status == "fail"]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_neox", "gpt2"])
def test_everything_passes_on_a_model_that_is_right(family):
    model = tiny_model(family, attention="sdpa")
    checks = check_model(model)
    assert failed(checks) == []
    assert not [check for check in checks if check.status == "skipped"]
    claims = " | ".join(check.claim for check in checks)
    for part in (
        "= resid_post",
        "resid_pre(l + 1)",
        "left padding",
        "shared prefix",
        "transformer_lens",
        "nnsight",
    ):
        assert part in claims
    assert "as loaded" in claims
    assert model.config._attn_implementation == "sdpa"


MOVED = [
    ("llama", "attn_out", Place("input_layernorm", "output")),
    ("llama", "resid_mid", Place("post_attention_layernorm", "output")),
    ("llama", "mlp_out", Place("mlp", "input")),
    ("llama", "z", Place("self_attn.o_proj", "output")),
    ("gemma2", "attn_out", Place("self_attn", "output")),
    ("gemma2", "mlp_out", Place("mlp", "output")),
    ("olmo2", "resid_mid", Place("self_attn", "input")),
    ("gpt_neox:parallel", "mlp_out", Place("mlp", "input")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "site", "elsewhere"), MOVED)
def test_a_site_that_has_moved_fails_the_sums(monkeypatch, kind, site, elsewhere):
    moved = dataclasses.replace(sites_module.ARCHITECTURES[kind], **{site: elsewhere})
    monkeypatch.setitem(sites_module.ARCHITECTURES, kind, moved)
    model = tiny_model(kind.split(":")[0])
    # A square output projection is needed for z's other side to fit at all.
    assert any("=" in claim for claim in failed(check_model(model, backends=["hooks"])))


def test_a_backend_that_is_not_installed_is_skipped(monkeypatch):
    monkeypatch.setattr(
        check_module, "find_spec", lambda name: None if name == "nnsight" else importlib.util.find_spec(name)
    )
    checks = check_model(tiny_model("llama"))
    (nnsight,) = [check for check in checks if "nnsight" in check.claim]
    assert nnsight.status == "skipped"
    assert "pip install nnsight" in nnsight.where
    assert failed(checks) == []


def test_a_backend_that_breaks_or_differs_fails(monkeypatch):
    real = check_module.capture

    def wrong(model, view, sites, **kwargs):
        if kwargs.get("backend") == "nnsight":
            raise RuntimeError("changed in a later version")
        states = real(model, view, sites, **kwargs)
        if kwargs.get("backend") == "transformer_lens":
            return {site: state + 1e-3 * state.norm() for site, state in states.items()}
        return states

    monkeypatch.setattr(check_module, "capture", wrong)
    checks = check_model(tiny_model("llama"))
    assert len(failed(checks)) == 2
    assert any("later version" in check.where for check in checks)
    with pytest.raises(UserError, match="hooks"):
        check_model(tiny_model("llama"), backends=["hook"])


def test_half_precision_has_a_wider_limit():
    checks = check_model(tiny_model("llama").to(torch.bfloat16), backends=["hooks"])
    assert failed(checks) == []
    assert all(check.limit is None or check.limit > 1e-3 for check in checks)


@pytest.mark.slow
def test_the_command_prints_a_table_and_its_exit_code_tells(monkeypatch):
    runner = CliRunner(env={"COLUMNS": "200"})
    result = runner.invoke(app, ["check", "builtin:organism-rules"])
    assert result.exit_code == 0, result.output
    assert "pass" in result.output
    assert "fail" not in result.output
    moved = dataclasses.replace(sites_module.ARCHITECTURES["llama"], attn_out=Place("mlp", "output"))
    monkeypatch.setitem(sites_module.ARCHITECTURES, "llama", moved)
    result = runner.invoke(app, ["check", "builtin:organism-rules", "--backend", "hooks"])
    assert result.exit_code == 1
    assert "fail" in result.output
