"""A few cases of each input, the same every time; ``make fuzz`` plays a thousand. And that the campaign would notice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from hypothesis import given, seed, settings
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from apart import kind_of  # noqa: E402
from hostile import bytes_damage, damaged_bytes, damaged_object, object_damage  # noqa: E402

#: Inputs that one process plays after each other, which has to import everything once only → how many cases of each.
INPUTS = {("configurations", "studies", "checkpoints", "texts"): 12, ("planned",): 4}


@pytest.mark.slow
def test_each_case_ends_well_or_in_one_paragraph_and_changes_nothing(tmp_path):
    """In a process that has imported everything and forks for each case."""
    for names, cases in INPUTS.items():
        played = [sys.executable, str(HERE / "campaign.py"), "--cases", str(cases), *names]
        done = warm.run(played, cwd=tmp_path, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        for name in names:
            assert re.search(rf"^{name}: \d+ cases; ", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize(
    ("code", "err", "kind"),
    [
        (0, "note: something\n", "accepted"),
        (1, "", "accepted"),
        (2, "note: a\nerror: no such file\n", "clean"),
        (2, "error: one\nand another line\n", "traceback"),
        (2, "error: one\nerror: two\n", "traceback"),
        (2, "", "traceback"),
        (2, "Usage: cr-interp table\nError: x", "clean"),
        (1, "error: one", "traceback"),
        (3, "", "traceback"),
        (1, "Traceback (most recent call last):\nKeyError: 'x'\n", "traceback"),
        (2, "error: " + "x" * 5000, "traceback"),
    ],
)
def test_how_it_ended_is_told_apart(code, err, kind):
    assert kind_of(code, err) == kind


@pytest.mark.slow
def test_whatever_happens_in_a_fork_is_counted_and_stays_there(tmp_path):
    """In a process with one thread: a fork of one with many is another thing."""
    program = f"""
import os, sys, time
sys.path.insert(0, {str(HERE)!r})
import apart
from pathlib import Path
apart.COMPUTING, apart.ALTOGETHER, apart.MEMORY = 1, 3, 1 << 28
def spin():
    while True: pass
def fill():
    x = bytearray(1 << 40)
acts = dict(accepted=lambda: print("x"), crash=lambda: os.kill(os.getpid(), 11), hang=spin, traceback=lambda: 1 / 0)
for kind, act in acts.items():
    ended = apart.apart(act, Path("."), Path("."))
    assert ended.kind == kind, (kind, ended)
assert apart.apart(lambda: time.sleep(60), Path("."), Path(".")).kind == "hang"
assert apart.apart(fill, Path("."), Path(".")).kind == "traceback"
assert apart.apart(lambda: sys.exit(2), Path("."), Path(".")).code == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@seed(0)
@settings(max_examples=100, database=None, deadline=None)
@given(st.lists(bytes_damage, max_size=4), st.lists(object_damage, max_size=4))
def test_damages_are_done_whatever_they_are(of_bytes, of_object):
    assert isinstance(damaged_bytes(b'{"a": 1}', of_bytes), bytes)
    assert isinstance(damaged_object({"a": [1, {"b": 2}], "c": {}}, of_object), dict)


def test_a_file_that_changes_and_words_that_are_shown_are_noticed(tmp_path, monkeypatch):
    import campaign

    tally = object.__new__(campaign.Tally)
    tally.module, tally.name, tally.root, tally.only, tally.number = campaign, "x", tmp_path, None, 1
    tally.sound, tally.counts, tally.bad, tally.accepted = tmp_path, campaign.Counter(), [], []
    (tmp_path / "a").write_text("x")
    (tmp_path / "here").mkdir()
    before = campaign.tree(tmp_path)
    (tmp_path / "a").write_text("y")
    (tmp_path / "here" / "new").write_text(campaign.WORDS)
    ended = campaign.Ended("accepted", 0, "", "", 0.0)
    tally.note({}, "told", ended, tmp_path, before, "")
    assert tally.bad[0]["kinds"] == ["accepted", "changed", "shown"]
    assert tally.bad[0]["changed"] == ["a"]
