"""Where tests write (``support/in_memory.py``): in memory if there is room, and nothing is left there."""

import os
import subprocess
import sys

import pytest
from in_memory import NAME, VARIABLE, write_in_memory

#: What a run makes is gone when it ends.
RUN = """
import os, sys
sys.path.insert(0, SUPPORT)
from in_memory import write_in_memory
from pathlib import Path
folder = write_in_memory(Path(PLACE), 1)
(folder / "a").mkdir()
print(folder, os.environ["PYTEST_DEBUG_TEMPROOT"], (folder.stat().st_mode & 0o777) == 0o700)
"""


@pytest.fixture(autouse=True)
def nobody_has_said_where(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_run_s_folder_ends_with_it_and_those_of_the_killed_before(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f"{NAME}{gone.pid}" / "left").mkdir(parents=True)
    (tmp_path / f"{NAME}{os.getpid()}").mkdir()
    (tmp_path / "somebody_else_s").mkdir()
    support = os.path.dirname(sys.modules["in_memory"].__file__)
    code = RUN.replace("SUPPORT", repr(support)).replace("PLACE", repr(str(tmp_path)))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == said[1]
    assert said[0].startswith(str(tmp_path / NAME))
    assert said[2] == "True"
    assert {each.name for each in tmp_path.iterdir()} == {f"{NAME}{os.getpid()}", "somebody_else_s"}


def test_without_room_or_where_a_place_is_given_it_is_as_ever(tmp_path, monkeypatch):
    assert write_in_memory(tmp_path, 1 << 60) is None
    assert write_in_memory(tmp_path / "nowhere", 1) is None
    monkeypatch.setenv(VARIABLE, "/said")
    assert write_in_memory(tmp_path, 1) is None
    assert os.environ[VARIABLE] == "/said"
    assert not list(tmp_path.iterdir())
