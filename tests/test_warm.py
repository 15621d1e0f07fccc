"""Warm processes (``support/warm.py``) do what cold ones do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import warm

ROOT = Path(__file__).resolve().parents[1]
TELL = """
import json, os, random, sys, numpy
loaded = "torch" in sys.modules
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("OF_MINE"), __name__, sys.path[0], loaded]))
print("at a loss", file=sys.stderr)
print(random.random(), numpy.random.rand(), file=open(f"drawn-{os.getpid()}", "w"))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def script(tmp_path: Path):
    def write(code: str) -> list[str]:
        (tmp_path / "script.py").write_text(code)
        return [sys.executable, str(tmp_path / "script.py")]

    return write


@pytest.mark.parametrize("cold", [False, True])
def test_a_process_is_what_was_asked_for(script, tmp_path, cold):
    folder = tmp_path / "there"
    folder.mkdir()
    found = warm.run([*script(TELL), "3", "b c"], cwd=folder, env={**os.environ, "OF_MINE": "é"}, cold=cold)
    assert found.returncode == 3
    assert json.loads(found.stdout) == [["3", "b c"], str(folder), "é", "__main__", str(tmp_path), not cold]
    assert found.stderr == "at a loss\n"


def test_no_two_draw_the_same(script, tmp_path):
    for _ in range(2):
        warm.run([*script(TELL), "0"], cwd=tmp_path)
    drawn = {number for file in tmp_path.glob("drawn-*") for number in file.read_text().split()}
    assert len(drawn) == 4


def test_an_error_is_a_traceback_and_exit_code_1(script):
    found = warm.run(script("def f():\n    return 1 / 0\n\nf()"))
    assert found.returncode == 1
    assert 'script.py", line 4' in found.stderr
    assert found.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_is_registered_for_the_end_is_run(script):
    code = "import atexit, threading, time\natexit.register(print, 'end')\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"
    assert warm.run(script(code)).stdout.split() == ["thread", "end"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_is_a_kill(script, tmp_path, how):
    with (tmp_path / "log").open("w") as log:
        process = warm.Popen(script("import time\ntime.sleep(60)"), stdout=log, stderr=subprocess.STDOUT)
        assert process.poll() is None
        assert psutil.Process(process.pid).ppid() != os.getpid()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        os.kill(process.pid, how)
        assert process.wait(30) == process.poll() == -how
    assert not psutil.pid_exists(process.pid)


def test_whoever_takes_too_long_is_killed(script, monkeypatch):
    made = []

    class Noted(warm.Popen):
        def wait(self, timeout=None):
            made.append(self.pid)
            return super().wait(timeout)

    monkeypatch.setattr(warm, "Popen", Noted)
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(script("import time\ntime.sleep(60)"), timeout=0.1)
    assert not psutil.pid_exists(made[0])


def test_nobody_outlives_whoever_asked_for_it(script, tmp_path):
    with (tmp_path / "log").open("w") as log:
        process = warm.Popen(script("import time\ntime.sleep(60)"), stdout=log, stderr=subprocess.STDOUT)
    process._line.close()
    for _ in range(300):
        if not psutil.pid_exists(process.pid):
            break
        time.sleep(0.1)
    assert not psutil.pid_exists(process.pid)


def test_an_environment_that_libraries_have_read_already_is_started_cold(script, tmp_path):
    found = warm.run([*script(TELL), "0"], cwd=tmp_path, env={**os.environ, "HF_OF_MINE": "1"})
    assert json.loads(found.stdout)[-1] is False


SAYS_WHOSE = """
import sys
before = "NAME" in sys.modules
import NAME
print(before, hasattr(NAME, "somebody_else_s"))
"""


@pytest.mark.parametrize("name", ["training", "cr_interp"])
def test_code_that_a_new_process_would_find_elsewhere_is_imported_from_there(script, tmp_path, name):
    """The server has imported this project: its forks begin with it only where they would have found the same."""
    (tmp_path / "there" / name).mkdir(parents=True)
    (tmp_path / "there" / name / "__init__.py").write_text("somebody_else_s = 1\n")
    for first, said in (("nowhere", "True False\n"), ("there", "False True\n")):
        places = os.pathsep.join(map(str, (tmp_path / first, ROOT)))
        told = warm.run(script(SAYS_WHOSE.replace("NAME", name)), env={**os.environ, "PYTHONPATH": places})
        assert told.stdout == said, told.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are executed")
@pytest.mark.parametrize("whom", ["command", "worker"])
def test_a_command_s_own_children_are_warm_and_end_with_it(tmp_path, whom):
    words = ["distill", "organism-shift", "training.steps=2000", "training.eval_examples=2", "--arms", "opd"]
    words += ["training.batch_size=2", "--seeds", "0", "--out", str(tmp_path / "s")]
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "cr_interp", *words]
        process = warm.Popen(command, stdout=log, stderr=subprocess.STDOUT, jobs="own")
    ends = time.monotonic() + 60
    while not (tmp_path / "s" / "runs" / "opd-s0" / "train.jsonl").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    (worker,) = children = process.children()
    assert (worker.ppid(), os.getpgid(worker.pid)) == (process.pid, process.pid)
    assert worker.cmdline() == psutil.Process(process.pid).cmdline()  # a fork of a fork, by nobody executed
    os.kill(process.pid if whom == "command" else worker.pid, signal.SIGKILL)
    assert process.wait(60) == (-9 if whom == "command" else 2)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    if whom == "worker":
        assert "killed by SIGKILL" in (tmp_path / "log").read_text()


ASKS_AT_ONCE = """
import os, subprocess, sys, warm, warm_children
def play(arguments):
    os._exit(int(arguments[0]))
warm_children.open_nursery(play)
for _ in range(5):
    child = warm_children.Child([sys.executable, "7"], stdout=sys.stdout, stderr=subprocess.STDOUT, env={})
    assert child.poll() in (None, 7)
    assert child.wait(20) == 7
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are executed")
def test_a_child_can_be_asked_after_as_soon_as_it_is_there(script):
    found = warm.run(script(ASKS_AT_ONCE), env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "support")})
    assert (found.returncode, found.stderr) == (0, "")


RANKS = """
import os, sys, torch
from torch import distributed
distributed.init_process_group("gloo")
sum = torch.ones(1)
distributed.all_reduce(sum)
os.write(1, f"{distributed.get_rank()} {int(sum)} {os.environ['LOCAL_RANK']}\\n".encode())  # whole, whoever else writes
if "fail" in sys.argv and distributed.get_rank() == 1:
    sys.exit(5)
if "fail" in sys.argv:
    distributed.barrier()
    __import__("time").sleep(60)
distributed.destroy_process_group()
"""


@pytest.mark.parametrize(("words", "code"), [([], 0), (["fail"], 1)])
def test_ranks_meet_and_fall_together(script, words, code):
    torchrun = [sys.executable, *warm.TORCHRUN, "2", *script(RANKS)[1:], *words]
    found = warm.run(torchrun, timeout=60)
    assert found.returncode == code
    assert sorted(found.stdout.splitlines()) == ["0 2 0", "1 2 1"]
