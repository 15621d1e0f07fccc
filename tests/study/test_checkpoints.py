"""Which models are offered beside a study, without reading one; and what a study asks."""

import json
import shutil
import subprocess
import sys

import pytest
from synthetic import make_study

from cr_interp.errors import UserError
from cr_interp.models.known import ORGANISMS, builtin_names
from cr_interp.study import questions
from cr_interp.study.checkpoints import checkpoints, folder
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from cr_interp.views import Context


@pytest.fixture
def study(tmp_path) -> Study:
    return make_study(tmp_path / "mine", examples=5, tables=("generations",))


def put(study: Study, run: str) -> None:
    shutil.copytree(ORGANISMS / "rules", study.path / "runs" / run)


def test_a_study_offers_what_is_on_disk(study):
    for run in ("nca-s0/checkpoint-75", "nca-s0/checkpoint-100", "my-own-arm-s12/checkpoint-5"):
        put(study, run)
    (study.path / "runs" / "opd-s0" / "checkpoint-100").mkdir(parents=True)  # empty
    put(study, "opd-s1/.saving-x")
    put(study, "opd-s2/checkpoint-best")
    found = checkpoints(study)
    assert [each.key for each in found] == [
        "base",
        "my-own-arm-s12/checkpoint-5",
        "nca-s0/checkpoint-75",
        "nca-s0/checkpoint-100",
        *(name for name in builtin_names() if name != "builtin:organism-rules"),  # that one is this study's base
    ]
    assert [each.arm for each in found[:3]] == ["base", "my-own-arm", "nca"]
    assert found[2].words == "nca, seed 0, step 75"
    assert found[3].files()
    assert not found[0].files()


def test_a_study_of_somebodys_own_checkpoints(study, tmp_path):
    here = tmp_path / "here"
    shutil.copytree(ORGANISMS / "rules", here)
    arms = {"mine": {"model": str(here)}, "gone": {"model": "/no/such/folder"}, "odd": 3}
    manifest = {"schema_version": 1, "arms": arms}
    (study.path / "manifest.json").write_text(json.dumps(manifest))
    found = checkpoints(Study.open(study.path))
    assert [each.key for each in found] == ["arm/mine", *builtin_names()]


def test_a_folder_is_never_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for typed in ("gpt2", "Qwen/Qwen3-1.7B", "builtin:organism-rules", "nothing/here"):
        with pytest.raises(UserError, match="There is no folder"):
            folder(typed)
    shutil.copytree(ORGANISMS / "rules", tmp_path / "run" / "checkpoint-7")
    found = folder(" run/checkpoint-7 ")
    assert (found.arm, found.model) == ("run/checkpoint-7", str(tmp_path / "run" / "checkpoint-7"))


def test_an_adapter_needs_its_own_weights_as_safetensors(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "other.safetensors").write_bytes(b"")
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no weights as adapter_model\.safetensors"):
        folder(str(tmp_path))


@pytest.mark.slow
def test_neither_imports_torch():
    modules = "sys, cr_interp.study.checkpoints, cr_interp.study.questions, cr_interp.figures.tryout"
    code = f"import {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# -- questions -----------------------------------------------------------------------------------------------


def test_what_a_study_asks(study):
    rows = study.table("generations")
    found = questions.examples(study)
    assert [each.id for each in found] == sorted(set(rows["example_id"]))
    assert found[0].prompt == rows.loc[rows["example_id"] == found[0].id, "prompt"].iloc[0]
    assert questions.contexts(study) == {"exact": Context.system("rule: shift")}
    assert questions.token_limit(study) == get_task("rules:shift").max_new_tokens
    assert questions.no_context(study) == "empty_system"


@pytest.mark.parametrize("name", ["rules:swap", "codebook:A", "frozenlake:A", "sentiment"])
def test_a_study_that_is_only_begun_asks_its_task(tmp_path, name):
    study = Study.create(tmp_path / "begun", {"task": name})
    found = questions.examples(study)
    assert len(found) == questions.DRAWN
    assert questions.contexts(study)["exact"] == get_task(name).contexts(questions._letters)["exact"]
    assert questions.grade(study, found[0], found[0].answer, truncated=False) == "right"


def test_a_study_of_an_unknown_task_asks_from_its_tables(study):
    (study.path / "manifest.json").write_text(
        json.dumps(
            {"schema_version": 1, "task": "my-prompts", "no_context": [{"role": "system", "content": "hi"}]}
        )
    )
    study = Study.open(study.path)
    assert questions.token_limit(study) == study.table("generations")["n_tokens"].max()
    assert questions.grade(study, questions.examples(study)[0], "x", truncated=False) is None
    assert questions.contexts(study) == {}
    assert questions.no_context(study) == ({"role": "system", "content": "hi"},)
