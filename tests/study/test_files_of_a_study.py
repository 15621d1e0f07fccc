"""The files of a study: one module knows their names, and says where each lies."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cr_interp.study import places
from cr_interp.study.study import Study

ROOT = Path(__file__).resolve().parents[2]
OWNER = Path(places.__file__)
#: They name them for another reason: files beside weights that say nothing about them; a package of this project.
OTHERS = {
    "made_of.json": {"cr_interp/system/digests.py"},
    "tables": {"cr_interp/tables/stored.py", "cr_interp/tables/code_of.py"},
}


def spelt(tree: ast.Module) -> Iterator[str]:
    """Names of files and folders that a module spells: whole texts, and what a path is divided by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in (places.MANIFEST, places.LOG, places.NOTE):
            yield str(node.value)
        divided = node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) else None
        if isinstance(divided, ast.Constant) and divided.value in (places.TABLES, places.RUNS):
            yield str(divided.value)
        if isinstance(node, ast.Constant) and str(node.value).startswith(places.CHECKPOINT):
            yield places.CHECKPOINT


@pytest.mark.parametrize("package", ["cr_interp", "training", "app", "docs/tools"])
def test_only_one_module_spells_the_names_of_a_studys_files(package):
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        if file != OWNER
        for name in spelt(ast.parse(file.read_text("utf-8")))
        if str(file.relative_to(ROOT)) not in OTHERS.get(name, ())
    }
    assert not found


def test_a_study_lies_where_they_say(tmp_path):
    assert not places.is_study(tmp_path)
    study = Study.create(tmp_path, {"name": "mine"})
    assert places.is_study(tmp_path)
    assert study.manifest_path == tmp_path / "manifest.json"
    assert study.log_path("opd", 2) == tmp_path / "runs" / "opd-s2" / "train.jsonl"
    assert places.checkpoint_of(study.run_path("opd", 2), 40) == tmp_path / "runs" / "opd-s2" / "checkpoint-40"
    assert study.runs() == []
    study.log_path("opd", 2).parent.mkdir(parents=True)
    study.log_path("opd", 2).touch()
    assert study.runs() == [("opd", 2)]
    assert places.runs_of(tmp_path) == [study.run_path("opd", 2)]
    assert places.tables_of(tmp_path) == []
