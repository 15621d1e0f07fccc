"""What is bundled is a study without its checkpoints, and only the same runs add to it."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study

TOOLS = Path(__file__).parents[2] / "docs" / "tools"


@pytest.fixture
def bundle(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import bundle

    yield bundle
    sys.modules.pop("bundle")


@pytest.fixture
def made_again(tmp_path):
    """The runs of a bundled study, made again elsewhere: one table more, other times, and a checkpoint."""
    folder = tmp_path / "made-again"
    shutil.copytree(BUNDLED / "organism-shift", folder, ignore=shutil.ignore_patterns("computed"))
    log = folder / "runs" / "opd-s0" / "train.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({**row, "seconds": 1.5}) + "\n" for row in rows))
    (log.parent / "checkpoint-4").mkdir()
    (log.parent / "checkpoint-4" / "model.safetensors").write_bytes(b"weights")
    for name in ("extra", "knockout_examples"):
        pd.DataFrame({"arm": ["opd"]}).to_parquet(folder / "tables" / f"{name}.parquet")
    study = Study.open(folder)
    study.update_manifest(
        asked={"#new": {"analysis": "extra"}}, command="cr-interp reproduce it --out /home/me/x --seeds 0"
    )
    return folder


def test_a_new_study_has_tables_and_logs_and_no_place_of_this_machine(bundle, made_again, tmp_path):
    target = tmp_path / "bundled"
    bundle.bundle(made_again, target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert "tables/extra.parquet" in files
    assert "tables/knockout_examples.parquet" not in files
    assert [name for name in files if name.startswith("runs/opd-s0/")] == ["runs/opd-s0/train.jsonl"]
    manifest = Study.open(target).manifest
    assert (manifest["name"], manifest["command"]) == ("bundled", "cr-interp reproduce it --seeds 0")


def test_the_same_runs_add_their_tables(bundle, made_again, tmp_path):
    target = tmp_path / "bundled"
    shutil.copytree(BUNDLED / "organism-shift", target)
    before = Study.open(target).manifest
    bundle.bundle(made_again, target)
    after = Study.open(target).manifest
    assert after["asked"] == {**before["asked"], "#new": {"analysis": "extra"}}
    assert {**after, "asked": None} == {**before, "asked": None}
    assert (target / "tables" / "extra.parquet").is_file()


def test_other_runs_are_refused(bundle, made_again, tmp_path):
    target = tmp_path / "bundled"
    shutil.copytree(BUNDLED / "organism-shift", target)
    log = made_again / "runs" / "nca-s1" / "train.jsonl"
    log.write_text(log.read_text().replace('"loss": ', '"loss": 1', 1))
    with pytest.raises(UserError, match=r"nca seed 1 of .* is another run than the one in"):
        bundle.bundle(made_again, target)
    assert not (target / "tables" / "extra.parquet").exists()


def test_a_place_of_this_machine_is_refused(bundle, made_again, tmp_path):
    Study.open(made_again).update_manifest(model="/home/me/model")
    with pytest.raises(UserError, match='names a place on this machine: "/home/me/model"'):
        bundle.bundle(made_again, tmp_path / "bundled")
    assert not (tmp_path / "bundled").exists()
