"""Jobs: order, side by side, failures told in their own words, and nothing left running."""

import itertools
import sys
import time
from functools import partial

import pytest

from cr_interp.errors import UserError
from cr_interp.study import Study
from training import jobs as jobs_module
from training import workers
from training.config import load_config
from training.jobs import Job, run_jobs


def job(tmp_path, name, code, after=(), **more):
    return Job(name, [sys.executable, "-c", code], tmp_path / f"{name}.log", after=after, **more)


def stamp(tmp_path, name, code="", after=()):
    """A job that writes when it began and ended."""
    file = tmp_path / f"{name}.times"
    body = (
        f"import time\nbegan = time.time()\n{code}\nopen({str(file)!r}, 'w').write(f'{{began}} {{time.time()}}')"
    )
    return job(tmp_path, name, body, after)


def times(tmp_path, name):
    return tuple(map(float, (tmp_path / f"{name}.times").read_text().split()))


def test_jobs_wait_for_what_they_need_and_run_side_by_side(tmp_path):
    first = stamp(tmp_path, "first", "time.sleep(0.6)")
    second = stamp(tmp_path, "second", "time.sleep(0.6)")
    last = stamp(tmp_path, "last", after=(first, second))
    run_jobs([last, first, second], workers=2)
    one, two, three = (times(tmp_path, name) for name in ("first", "second", "last"))
    assert max(one[0], two[0]) < min(one[1], two[1])  # they overlap
    assert three[0] >= max(one[1], two[1])


def test_no_more_at_a_time_than_asked(tmp_path):
    jobs = [stamp(tmp_path, str(i), "time.sleep(0.2)") for i in range(3)]
    run_jobs(jobs, workers=1)
    spans = sorted(times(tmp_path, str(i)) for i in range(3))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_a_failure_is_told_in_its_own_words_and_stops_the_others(tmp_path):
    slow = stamp(tmp_path, "slow", "time.sleep(60)")
    bad = job(tmp_path, "bad", "print('error: the disk is full.'); raise SystemExit(2)")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"bad stopped\. the disk is full\. \(whole output: .*bad\.log\)"):
        run_jobs([slow, bad], workers=2)
    assert time.monotonic() - began < 30
    assert not (tmp_path / "slow.times").exists()


def test_a_traceback_ends_up_in_the_message_too(tmp_path):
    with pytest.raises(UserError, match="ZeroDivisionError"):
        run_jobs([job(tmp_path, "bad", "1 / 0")], workers=1)


def test_an_older_failure_in_the_same_log_is_not_told_again(tmp_path):
    failing = job(tmp_path, "bad", "print('error: the disk is full.'); raise SystemExit(2)")
    with pytest.raises(UserError, match="the disk is full"):
        run_jobs([failing], workers=1)
    for code, said in (
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", r"It said nothing \(exit code 3\)"),
        ("import os; os.kill(os.getpid(), 9)", r"It said nothing \(killed by SIGKILL\)"),
        ("print('error: no memory.'); raise SystemExit(2)", "no memory"),
    ):
        with pytest.raises(UserError, match=said) as error:
            run_jobs([job(tmp_path, "bad", code)], workers=1)
        assert "the disk is full" not in str(error.value)


def test_progress_is_read_while_a_job_runs(tmp_path):
    seen = []

    def look(log):
        seen.append(log)
        return {"completed": len(seen), "note": "going"}

    watched = job(tmp_path, "x", "import time; time.sleep(0.7)", progress=partial(look, "x"), total=10)
    run_jobs([watched], workers=1)
    assert len(seen) >= 2


def test_jobs_side_by_side_have_a_gpu_each(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module, "visible_gpus", lambda: ["4", "7"])
    file = tmp_path / "gpus"
    file.touch()
    tell = f"import os, time\nopen({str(file)!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ')"
    wait = f"\nwhile len(open({str(file)!r}).read().split()) < 4: time.sleep(0.05)"
    run_jobs([job(tmp_path, str(i), tell + (wait if i == 0 else "")) for i in range(4)], workers=2)
    assert sorted(file.read_text().split()) == ["4", "7", "7", "7"]  # the first one keeps its own


def test_one_run_a_gpu_unless_something_else_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "run_jobs", lambda jobs, n: asked.append(n))
    config = load_config("organism-shift")
    study = Study.create(tmp_path / "s", {})
    monkeypatch.setattr(workers, "visible_gpus", list)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 6)
    workers.run_all(config, study)
    monkeypatch.setattr(workers, "visible_gpus", lambda: ["0"])
    workers.run_all(config, study)
    workers.run_all(config, study, 3)
    served = load_config("organism-shift", ["training.vllm=http://127.0.0.1:9"])
    workers.run_all(served, study, 3)  # the server has one student's weights
    assert asked == [6, 1, 3, 1]
