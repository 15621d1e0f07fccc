"""An export goes into a new folder, and holds nothing but the study's own files."""

import os
import shutil

import pytest
from synthetic import make_study

from cr_interp.commands import looking
from cr_interp.errors import UserError
from cr_interp.study.exporting import export, links
from cr_interp.study.study import Study


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=6)


def state(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("where", [".", "copy", "../s", "..", "runs/opd-s0"])
def test_its_own_folder_is_refused(study, where):
    before = state(study.path)
    with pytest.raises(UserError, match=r"itself|is in it"):
        export(study, study.path / where, light=True)
    assert state(study.path) == before


def test_a_folder_that_holds_something_is_refused(study, tmp_path):
    other = make_study(tmp_path / "other", arms=("base", "nca"), seeds=(0, 1), examples=6)
    before = state(other.path)
    with pytest.raises(UserError, match="not an empty folder"):
        export(study, other.path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not an empty folder"):
        export(study, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not an empty folder"):
        export(study, tmp_path / "link")
    (tmp_path / "alias").symlink_to(study.path)
    with pytest.raises(UserError, match="itself"):
        export(study, tmp_path / "alias")
    assert state(other.path) == before
    (tmp_path / "empty").mkdir()
    assert export(study, tmp_path / "empty").table("drift").equals(study.table("drift"))


def test_no_links_target_is_copied(study, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "train.jsonl").write_text('{"kind": "secret", "step": 1}\n')
    (secret / "key.parquet").write_text("secret")
    (study.path / "tables" / "key.parquet").symlink_to(secret / "key.parquet")
    (study.path / "runs" / "nca-s0").symlink_to(secret)
    if hasattr(os, "mkfifo"):
        os.mkfifo(study.path / "tables" / "pipe.parquet")
    copied = export(study, tmp_path / "copy")
    assert not any(b"secret" in content for content in state(copied.path).values())
    assert not any(file.is_symlink() for file in copied.path.rglob("*"))
    assert set(links(study)) >= {"tables/key.parquet", "runs/nca-s0/train.jsonl"}
    assert Study.open(copied.path).has_table("generations")


def test_no_linked_study_of_a_suite_is_copied(study, tmp_path, capsys):
    """Somebody's suite may have a link to a study of mine, which is not theirs to share."""
    suite = tmp_path / "suite"
    make_study(suite / "one", seeds=(0,), examples=4)
    make_study(suite / "two", seeds=(0,), examples=4)
    (suite / "mine").symlink_to(study.path)
    looking.export(str(suite), tmp_path / "copy")
    assert sorted(each.name for each in (tmp_path / "copy").iterdir()) == ["one", "two"]
    assert "since they are links: mine" in capsys.readouterr().err
    shutil.rmtree(suite / "one")
    shutil.rmtree(suite / "two")
    (suite / "other").symlink_to(study.path)
    with pytest.raises(UserError, match="are links"):
        looking.export(str(suite), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_log_with_rows_of_another_kind_is_copied_all_the_same(study, tmp_path):
    log = study.run_path("opd", 0) / "train.jsonl"
    log.write_text('{"kind": "train", "loss": 1}\n{"kind": "train", "step": 10, "loss": 2}\n')
    assert export(study, tmp_path / "copy", light=True).train_rows("opd", 0) == [
        {"kind": "train", "step": 10, "loss": 2}
    ]


def test_a_file_that_is_larger_than_any_of_a_study_is_not_read_to_its_end(tmp_path):
    study = make_study(tmp_path / "s", seeds=(0,), examples=4)
    with open(study.run_path("opd", 0) / "train.jsonl", "wb") as hole:
        hole.truncate(1 << 40)
    with pytest.raises(UserError, match="are the most that is read"):
        export(study, tmp_path / "copy")
