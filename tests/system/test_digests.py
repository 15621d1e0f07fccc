"""What a result was made of: digests that change exactly if the content does, and changes in words."""

import json
import sys

import pytest

from cr_interp.system.digests import changes, code_digest, digest_of, flat, folder_digest
from cr_interp.tasks.base import Example
from cr_interp.tasks.yours.own_code import module_of, run_task_file


def test_order_of_keys_does_not_matter_and_content_does():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
    assert digest_of([Example("1", "a", "b")]) != digest_of([Example("1", "a", "c")])
    assert digest_of("\udc80").startswith("#")  # what is no text still has a digest


def test_changes_are_told_with_both_values_and_long_ones_as_changed():
    old = flat({"training": {"lr": 0.1, "lora": None}, "same": [1]})
    new = flat({"training": {"lr": 0.2, "lora": {"rank": 2}}, "same": (1,)})
    assert changes(old, new) == ["training.lr (0.1, now 0.2)", "training.lora.rank (none, now 2)"]
    assert changes({"context (exact)": "#1"}, {"context (exact)": "#2"}) == ["context (exact) (other content)"]
    assert changes(new, json.loads(json.dumps(new))) == []


TASK = """
from dataclasses import dataclass
from own_grading import judge

@dataclass(frozen=True)
class Mine:
    name = "mine"
    max_new_tokens = 3
    def examples(self, split, n=None, seed=0): return []
    def contexts(self, count_tokens): return {}
    def grade(self, example, response, truncated): return judge(response)

def task(): return Mine()
"""


def test_a_grader_beside_the_task_belongs_to_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    grading = tmp_path / "own_grading.py"
    grading.write_text("def judge(response): return 'right'\n")
    file = tmp_path / "mine.py"
    file.write_text(TASK)
    run_task_file(file)
    before = code_digest(file, module_of(file))
    assert code_digest(file, module_of(file)) == before
    grading.write_text("def judge(response): return 'wrong'\n")
    assert code_digest(file, module_of(file)) != before
    sys.modules.pop("own_grading")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_models_digest_is_that_of_what_it_computes_with(tmp_path, name):
    for file in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (tmp_path / file).write_text("{}")
    before = folder_digest(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "trainer_state.json").write_text("{}")
    assert folder_digest(tmp_path) == before
    (tmp_path / name).write_text("{ }")
    assert folder_digest(tmp_path) != before


def test_an_adapter_is_another_one_on_another_base(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "config.json").write_text("{}")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    before = folder_digest(adapter)
    (base / "config.json").write_text("{ }")
    assert folder_digest(adapter) != before
