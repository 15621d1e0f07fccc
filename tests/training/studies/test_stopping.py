"""Told to end: the exit code, the message, and no worker left, whoever was told and however."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import warm
from killing import kill

from cr_interp.system import stopping
from cr_interp.system.stopping import MESSAGE, PARENT, Stopped, raise_on_signals

#: A study whose runs take long: it is stopped on its way.
LONG = [
    "distill",
    "organism-shift",
    "training.steps=2000",
    "training.batch_size=2",
    "training.eval_every=100000",
    "training.eval_examples=2",
    "training.save_every=100000",
    "--arms",
    "opd",
    "--seeds",
    "0",
    "--out",
]


def started(words: list[str], out: Path, jobs: str = "own") -> warm.Popen:
    """The command in a group of its own, once its worker has logged a step; ``jobs``: see :class:`warm.Popen`."""
    command = [sys.executable, "-m", "cr_interp", *words]
    with open(out.parent / "errors", "w") as errors:
        process = warm.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, jobs=jobs)
    log = out / "runs" / "opd-s0" / "train.jsonl"
    ends = time.monotonic() + 200
    while not log.is_file() or '"train"' not in log.read_text():
        if process.poll() is not None or time.monotonic() > ends:
            kill(process)
            raise AssertionError((out.parent / "errors").read_text())
        time.sleep(0.05)
    return process


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "whom", "jobs"),
    [
        (signal.SIGINT, 130, "group", "own"),
        (signal.SIGINT, 130, "parent", "own"),
        (signal.SIGTERM, 143, "parent", "own"),
        (signal.SIGHUP, 129, "parent", "own"),
        (signal.SIGKILL, -9, "parent", "executed"),
        (signal.SIGTERM, 2, "worker", "own"),
    ],
)
def test_no_worker_is_left_and_the_next_start_works_at_once(tmp_path, number, code, whom, jobs):
    words = [*LONG, str(tmp_path / "s")]
    process = started(words, tmp_path / "s", jobs)
    workers = process.children()
    assert workers
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if whom == "parent" else workers[0].pid, number)
    assert process.wait(60) == code
    said = (tmp_path / "errors").read_text()
    if whom == "worker":
        assert "opd seed 0 stopped" in said
        assert "killed by SIGTERM" in said
    elif number != signal.SIGKILL:
        assert said.strip().splitlines()[-1] == MESSAGE
    assert "Traceback" not in said
    assert all_gone(workers)
    log = tmp_path / "s" / "runs" / "opd-s0" / "train.jsonl"
    log.unlink()
    again = started([*words, "--resume"], tmp_path / "s", jobs="beside")
    kill(again)


def stopped_by(raised: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """``cr-interp studies`` in which that is raised."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, cr_interp.study.searching as study\n"
        f"def stop(): raise {raised}\n"
        "study.find_studies = stop\n"
        "sys.argv = ['cr-interp', 'studies']\n"
        "from cr_interp.cli import main\n"
        "main()"
    )
    return warm.run([sys.executable, str(script)])


def test_ctrl_c_ends_any_command_with_130_and_its_message(tmp_path):
    """Also one that typer would end silently and well."""
    done = stopped_by("KeyboardInterrupt", tmp_path)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (130, MESSAGE, "")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            "OSError(28, 'Kein Platz', '/x/y')",
            2,
            "error: The system refused to read or write (/x/y): the disk is full",
        ),
        (
            "OSError(30, 'nur lesbar')",
            2,
            "error: The system refused to read or write: the file system is read-only",
        ),
        ("OSError(2, 'a mistake of ours')", 1, "Traceback"),
        ("SystemExit(7)", 7, ""),
    ],
)
def test_what_the_system_refuses_is_one_paragraph_wherever_it_happens(raised, code, said, tmp_path):
    done = stopped_by(raised, tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(said)


def test_a_signal_becomes_an_exception_once_and_one_that_is_ignored_stays_so(monkeypatch):
    monkeypatch.delenv(PARENT, raising=False)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise_on_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(signal.SIGTERM)
        assert stopped.value.code == 143
        os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_worker_that_starts_after_its_parent_has_ended_ends_as_well():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    worker = "from cr_interp.system.stopping import end_with_parent; end_with_parent(); print('lives')"
    env = {**os.environ, stopping.PARENT: str(gone.pid)}
    done = subprocess.run([sys.executable, "-c", worker], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")
    mine = {**os.environ, **stopping.worker_of_this()}
    assert (
        subprocess.run([sys.executable, "-c", worker], env=mine, capture_output=True, text=True).stdout
        == "lives\n"
    )


def test_jobs_that_do_not_listen_are_ended_all_the_same(tmp_path):
    from training.studies.jobs import end

    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    end([process], patience=0.2)
    assert process.returncode == -signal.SIGKILL
