"""A disk that does not take what is written: known by its error's number or by trying, and clean-up that hides nothing."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cr_interp.errors import UserError
from cr_interp.files import write_atomic, write_json
from cr_interp.study.study import Study
from cr_interp.system import disk
from cr_interp.system.disk import disk_trouble, probe, remove, sweep, temporary_name


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "reports an error"),
    ],
)
def test_known_by_its_number_however_it_is_worded_or_wrapped(tmp_path, number, said):
    assert said in str(disk_trouble(OSError(number, "Kein Platz"), tmp_path))
    wrapped = RuntimeError("unexpected pos 64 vs 0")
    wrapped.__cause__ = OSError(number, "Kein Platz")
    assert said in str(disk_trouble(wrapped, tmp_path))


def test_a_librarys_error_without_a_number_asks_the_folder(tmp_path, monkeypatch):
    error = RuntimeError("I/O error: something")
    assert disk_trouble(error, tmp_path) is None
    room = shutil.disk_usage(tmp_path).free
    assert "the disk is full" in str(disk_trouble(error, tmp_path, room + (1 << 30)))
    monkeypatch.setattr(disk.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
    assert "the disk is full" in str(disk_trouble(error, tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_only_sounds_like_a_disk_is_not_one(tmp_path):
    assert disk_trouble(ValueError("No space left on device (os error 28)"), tmp_path) is None
    assert disk_trouble(OSError(errno.ENOENT, "No space"), tmp_path) is None


def test_a_mistake_in_what_writes_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "x", lambda file: file.write(1 / 0))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not list(tmp_path.iterdir())


def test_clean_up_that_fails_does_not_hide_the_cause(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "read-only now")

    monkeypatch.setattr(Path, "unlink", refuse)
    remove(tmp_path / "x")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(UserError, match="the disk is full"):
        write_atomic(tmp_path / "x", lambda file: file.write(b"x"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_log_on_a_full_disk_is_told_as_that(tmp_path):
    from cr_interp.files import append_jsonl

    (tmp_path / "train.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full"):
        append_jsonl(tmp_path / "train.jsonl", {"step": 1})


def test_what_a_kill_left_is_swept_and_what_is_being_written_is_not(tmp_path):
    study = Study.create(tmp_path / "s", {})
    run = study.run_path("opd", 0)
    run.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", "from cr_interp.system.disk import temporary_name; print(temporary_name())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    mine = temporary_name()
    elsewhere = ".writing-another_host-1-abc"
    for folder in (study.path, run):
        for name in (done, mine, elsewhere, "train.jsonl"):
            (folder / name).write_text("x")
    study.sweep()
    for folder in (study.path, run):
        names = {file.name for file in folder.iterdir()}
        assert done not in names
        assert {mine, elsewhere, "train.jsonl"} <= names
    sweep(tmp_path / "nowhere")


def test_whoever_writes_next_takes_a_left_over_away(tmp_path):
    # Not every command looks through a study before it writes.
    left = tmp_path / temporary_name()
    left.write_text("x")
    yesterday = time.time() - 86400
    os.utime(left, (yesterday, yesterday))
    write_json(tmp_path / "new.json", {})
    assert [file.name for file in tmp_path.iterdir()] == ["new.json"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system does not tell when a process began")
def test_the_number_of_a_process_that_is_gone_may_be_another_ones_by_now(tmp_path):
    before, now = tmp_path / temporary_name(), tmp_path / temporary_name()
    before.write_text("x")
    now.write_text("x")
    yesterday = time.time() - 86400  # this process, whose number both names have, began later
    os.utime(before, (yesterday, yesterday))
    sweep(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [now.name]


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: socket.socket(socket.AF_UNIX).bind(str(path))]
)
def test_what_is_no_file_is_not_replaced_by_one(make, tmp_path, monkeypatch):
    """A device neither: there a user with all rights would lose it."""
    monkeypatch.chdir(tmp_path)
    make(Path("x"))
    before = Path("x").lstat()
    with pytest.raises(UserError, match="no file but a folder, a pipe or a device"):
        write_atomic(tmp_path / "x", lambda file: file.write(b"a"))
    assert (Path("x").lstat().st_ino, Path("x").lstat().st_mode) == (before.st_ino, before.st_mode)
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "own").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    write_atomic(tmp_path / "link", lambda file: file.write(b"new"))
    assert ((tmp_path / "own").read_bytes(), (tmp_path / "link").read_bytes()) == (b"mine", b"new")


def test_any_name_that_a_file_may_have_can_be_written(tmp_path):
    name = "n" * 255
    write_atomic(tmp_path / name, lambda file: file.write(b"x"))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with pytest.raises(UserError, match="the name is too long"):
        write_atomic(tmp_path / ("n" * 256), lambda file: file.write(b"x"))
    assert probe(tmp_path) is None
