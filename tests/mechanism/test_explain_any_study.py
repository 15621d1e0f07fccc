"""Explaining studies of somebody's own checkpoints: adapters, spread-out models, own prompts, weights that are not here."""

import json
import shutil

import peft
import pytest
import torch
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.files import write_json
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.mechanism.explain import explain
from cr_interp.mechanism.given import Options
from cr_interp.mechanism.whereabouts import models_of
from cr_interp.study.study import Study

CHANGED = Options(groups=("changed", "kept"), sites=("attn_out",))
WORDS = ["abcd", "hgfe", "aaaa", "bbcd", "cdab", "gggh", "abab", "dcba"]


def saved(folder, seed):
    loaded = tiny(seed=seed)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def adapter(folder, base):
    torch.manual_seed(7)
    model = peft.get_peft_model(tiny().model, peft.LoraConfig(r=2, target_modules=["v_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.5 * torch.randn_like(parameter))
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``compare`` on own prompts and an own context: the base, an adapter on it, and another whole model."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "c.txt").write_text("repeat the text")
    (folder / "p.jsonl").write_text("".join(json.dumps({"prompt": w, "answer": w}) + "\n" for w in WORDS))
    base = saved(folder / "base", 0)
    pairs = [f"base={base}", f"lora={adapter(folder / 'lora', base)}", f"full={saved(folder / 'full', 1)}"]
    compare_checkpoints(
        pairs, folder / "study", prompts=folder / "p.jsonl", context=folder / "c.txt", max_new_tokens=3
    )
    return folder


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made / "study", tmp_path / "study")
    return Study.open(tmp_path / "study")


@pytest.mark.slow
def test_every_analysis_of_weights_and_prompts_says_something_of_adapters(study):
    names = ["updates", "directions", "gradients", "probes"]
    explain(study, names, options=CHANGED)
    updates = study.table("updates")
    assert set(updates["arm"]) == {"lora", "full"}
    moved = updates[(updates["arm"] == "lora") & (updates["measure"] == "norm") & (updates["estimate"] > 1e-6)]
    assert set(moved["module"]) == {"self_attn.v_proj"}
    assert set(study.table("update_overlaps")["other_arm"]) == {"lora", "full"}
    gradients = study.table("gradients")
    assert set(gradients.loc[gradients["arm"] == "lora", "module"]) == {"all", "self_attn.v_proj"}
    assert set(study.table("probes")["arm"]) == {"base", "lora", "full"}
    assert set(study.table("directions")["arm"]) == {"lora", "full"}  # of the base there is no u


@pytest.mark.slow
def test_half_of_the_own_prompts_give_the_direction_and_the_others_try_it(study):
    explain(study, ["directions"], arms=["full"], options=CHANGED)
    tried = study.table("direction_examples")["example_id"].nunique()
    assert 0 < tried <= len(WORDS) // 2
    assert set(study.table("directions")["n_examples"]) == {len(WORDS) // 2}


def test_typed_again_nothing_is_computed(study, monkeypatch):
    explain(study, ["updates"], options=CHANGED)
    monkeypatch.setattr("cr_interp.mechanism.updates.compare", lambda *_: pytest.fail("computed again"))
    explain(Study.open(study.path), ["updates"], options=CHANGED)


def test_a_model_that_the_study_spreads_out_is_spread_out(study, monkeypatch):
    from cr_interp.mechanism import whereabouts

    asked = []
    load = whereabouts.open_model

    def look(name, dtype, **how):
        asked.append((dtype, how))
        return load(name, dtype, **how)

    monkeypatch.setattr(whereabouts, "open_model", look)
    spread = study.update_manifest(case_study={"load": {"device_map": "auto", "dtype": "float32"}})
    explain(spread, ["patching"], arms=["full"], options=CHANGED)
    assert asked == [(torch.float32, {"device_map": "auto"})]
    assert set(study.table("patching")["arm"]) == {"full"}


@pytest.mark.slow
def test_without_a_base_the_rest_is_explained_and_what_is_named_is_refused(study, capsys):
    arms = {arm: about for arm, about in study.manifest["arms"].items() if arm != "base"}
    rows = study.table("generations")
    study.replace("generations", rows[rows["arm"] != "base"])
    write_json(study.path / "manifest.json", {**study.manifest, "arms": arms})
    alone = Study.open(study.path)
    with pytest.raises(
        UserError, match=r"does not say which model its checkpoints came from.*compare base=MODEL"
    ):
        explain(alone, ["updates"], options=CHANGED)
    explain(alone, arms=["full"], options=CHANGED)
    assert "Without updates, directions, gradients, probes" in " ".join(capsys.readouterr().err.split())
    assert study.has_table("patching")
    assert not study.has_table("updates")


def test_arms_that_are_not_here_are_named_and_the_others_explained(study, capsys):
    arms = study.manifest["arms"]
    gone = {**arms, "full": {**arms["full"], "model": "nobody/nothing"}}
    found = models_of(study.update_manifest(arms=gone), [("base", 0, 0), ("lora", 0, 0), ("full", 0, 0)])
    assert {arm for arm, _, _ in found} == {"base", "lora"}
    assert "checkpoints of full are not here" in " ".join(capsys.readouterr().err.split())


def test_a_run_is_followed_along_training(study, made):
    for step in (50, 100):
        shutil.copytree(made / "full", study.path / "runs" / "opd-s0" / f"checkpoint-{step}")
    rows = study.table("generations")
    mine = rows[rows["arm"] == "full"].assign(arm="opd", step=100)
    study.put("generations", mine)
    explain(study, ["updates"], arms=["opd"], options=CHANGED, every_step=True)
    assert set(study.table("updates")["step"]) == {50, 100}
