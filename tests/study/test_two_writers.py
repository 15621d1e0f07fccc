"""Two processes on one study: nothing that one writes is lost to the other, and nobody waits for a process that is gone."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.study.locking import LOCK, writing
from cr_interp.study.schema import COLUMNS
from cr_interp.study.study import Study

WRITER = textwrap.dedent("""
    import sys
    import pandas as pd
    from cr_interp.study.schema import COLUMNS
    from cr_interp.study.study import Study
    arm = sys.argv[2]
    study = Study.open(sys.argv[1])
    sys.stdin.readline()
    for seed in range(12):
        row = {name: 0 for name in COLUMNS["drift"]} | {"arm": arm, "seed": seed, "site": "final", "measure": "m"}
        study.put("drift", pd.DataFrame([row | {"control": "exact"}]))
        study = study.update_manifest(arms={arm: {}}, seeds=[seed], asked={f"{arm}{seed}": 1}, **{f"by_{arm}": seed})
""")
HOLDER = """
import sys
from pathlib import Path
from cr_interp.study.locking import writing
with writing(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.readline()
"""


def started(program, *words):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "s", {"seeds": [99], "arms": {"old": {}}})


@pytest.fixture
def holder(study):
    process = started(HOLDER, study.path)
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_two_processes_lose_nothing(study):
    writers = [started(WRITER, study.path, arm) for arm in ("a", "b")]
    for each in writers:
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in writers:
        each.communicate(timeout=120)
        assert each.returncode == 0
    rows = study.table("drift")
    assert sorted(zip(rows["arm"], rows["seed"], strict=True)) == [(arm, n) for arm in "ab" for n in range(12)]
    told = Study.open(study.path).manifest
    assert sorted(told["arms"]) == ["a", "b", "old"]
    assert told["seeds"] == [*range(12), 99]
    assert len(told["asked"]) == 24
    assert (told["by_a"], told["by_b"]) == (11, 11)
    assert {each.name for each in study.path.iterdir()} == {"manifest.json", "tables"}


def test_who_holds_the_lock_and_is_killed_blocks_nobody(study, holder):
    done = threading.Thread(target=study.update_manifest, kwargs={"name": "x"})
    done.start()
    time.sleep(0.3)
    assert done.is_alive()
    os.kill(holder.pid, signal.SIGKILL)
    done.join(10)
    assert Study.open(study.path).manifest["name"] == "x"


def test_the_file_that_a_kill_leaves_is_swept(study, holder):
    holder.kill()
    holder.wait()
    assert (study.path / LOCK).exists()
    study.sweep()
    assert {each.name for each in study.path.iterdir()} == {"manifest.json"}


def test_waiting_is_said_and_ends(study, holder, capsys, monkeypatch):
    monkeypatch.setattr("cr_interp.study.locking.SAID_AFTER", 0.1)
    with (
        pytest.raises(UserError, match=r"has been writing into .* for 0 seconds"),
        writing(study.path, patience=0.3),
    ):
        pass
    assert "this one waits for it" in capsys.readouterr().err
    assert Study.open(study.path).manifest == study.manifest  # reading waits for nobody


def test_a_lock_is_taken_again_within_and_by_one_thread_at_a_time(study):
    order = []

    def other():
        with writing(study.path):
            order.append("other")

    with writing(study.path):
        thread = threading.Thread(target=other)
        thread.start()
        with writing(study.path):
            study.update_manifest(name="y")
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_a_lock_that_is_a_link_leads_nowhere(study, tmp_path):
    (tmp_path / "words").write_text("keep these")
    (study.path / LOCK).symlink_to(tmp_path / "words")
    with pytest.raises(UserError, match="Could not write into"):
        study.update_manifest(name="z")
    assert (tmp_path / "words").read_text() == "keep these"


def test_what_is_taken_out_is_taken_out_of_what_is_there_now(study):
    row = {name: 0 for name in COLUMNS["drift"]} | {"site": "final", "measure": "m", "control": "exact"}
    study.put("drift", pd.DataFrame([row | {"arm": arm} for arm in ("a", "b")]))
    study.drop("drift", pd.DataFrame([{"arm": "a", "seed": 0, "step": 0}]))
    assert list(study.table("drift")["arm"]) == ["b"]
    study.drop("none", pd.DataFrame([{"arm": "a", "seed": 0, "step": 0}]))
