"""Killed anywhere: in training, while a checkpoint is written, in evaluation, capture, explaining, while a table is written.

Mental model. A study is made once without a kill, and kept as it was before each of its parts. Then a part is begun from there,
killed, and continued: what is on disk in the end has to be the same bits and the same tables, with nothing beside them that
a kill left, and no process. Whom the kill meets is the command's group, the command alone (its workers notice), or
a worker alone.
``CR_INTERP_KILLS=10`` (``make kills``) asks for more of each.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
import warm
from killing import KILLS

from cr_interp.study.study import Study

pytestmark = pytest.mark.slow
SMALL = [
    "training.steps=8",
    "training.batch_size=4",
    "training.save_every=2",
    "training.eval_every=4",
    "training.eval_examples=4",
    "training.keep_checkpoints=9",
    "evaluation.examples=24",
    "evaluation.permutations=5",
]
TRAIN = [
    "distill",
    "organism-shift",
    *SMALL,
    "--arms",
    "opd,nca",
    "--seeds",
    "0",
    "--workers",
    "2",
    "--resume",
    "--out",
]
ALONE = [*TRAIN[:-4], "--in-process", "--resume", "--out"]
#: Parts of a study in their order: the words of the command, whose last one is the study's folder.
PARTS = {
    "train": TRAIN,
    "evaluate": ["evaluate"],
    "capture": ["capture"],
    "explain": [
        "explain",
        *("--examples", "4", "--training-examples", "16", "--sites", "resid_post"),
        *("--heads", "2", "--windows", "2", "--cuts", "0", "--spans", "context,system"),
    ],
}
#: Kills of each in a run of all tests; ``make kills`` has ten of each.
FEW = 1 if KILLS < 10 else KILLS


def started(words: list[str], study: Path, jobs: str = "own") -> warm.Popen:
    with open(study.parent / "log", "w") as log:
        return warm.Popen(
            [sys.executable, "-m", "cr_interp", *words, str(study)],
            stdout=log,
            stderr=subprocess.STDOUT,
            jobs=jobs,
        )


def finish(words: list[str], study: Path) -> None:
    process = started(words, study, jobs="beside")
    assert process.wait(300) == 0, (study.parent / "log").read_text()


#: How long each part takes if nothing is killed; :func:`states` measures it.
SECONDS: dict[str, float] = {}


@pytest.fixture(scope="module")
def states(tmp_path_factory) -> dict[str, Path]:
    """The study as it is before each part, and at the ``end``; nothing was ever killed in it."""
    root = tmp_path_factory.mktemp("states")
    study, found = root / "s", {}
    for part, words in PARTS.items():
        found[part] = root / part
        if study.exists():
            shutil.copytree(study, found[part] / "s")
        began = time.monotonic()
        finish(words, study)
        SECONDS[part] = time.monotonic() - began
    return {**found, "end": root}


def after(part: str) -> str:
    order = [*PARTS, "end"]
    return order[order.index(part) + 1]


@pytest.fixture
def begun(states, tmp_path) -> Callable[[str], Path]:
    def begin(part: str) -> Path:
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        if (states[part] / "s").exists():
            shutil.copytree(states[part] / "s", tmp_path / "s")
        return tmp_path / "s"

    return begin


def kill_in(
    part: str, study: Path, moment: Callable[[], bool], whom: str, rng: random.Random, words: list[str]
) -> bool:
    """Begin a part and kill it a random moment after ``moment`` has come; whether that was before it had ended by itself."""
    process = started(words, study)
    ends = time.monotonic() + 200
    while not moment():
        if process.poll() is not None:
            assert process.returncode == 0, (study.parent / "log").read_text()
            return False
        assert time.monotonic() < ends
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.25 if part != "table" else 0.005))
    if process.poll() is not None:
        return False
    workers = process.children()
    if whom == "worker" and workers:
        with suppress(psutil.NoSuchProcess):
            rng.choice(workers).kill()
        process.wait(60)
    elif whom == "group":
        process.kill()
        for each in workers:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    else:
        process.kill()
    process.wait(60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE], "a worker is left"
    return True


def same(study: Path, reference: Path) -> None:
    """The same weights, states of optimizers, logs and tables; and nothing that only a kill leaves."""
    of = Study.open(study), Study.open(reference)
    checkpoints = [[folder.relative_to(each.path) for *_, folder in each.checkpoints()] for each in of]
    assert checkpoints[0] == checkpoints[1]
    for folder in checkpoints[0]:
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):  # the Trainer's state has times in it
            assert (study / folder / name).read_bytes() == (reference / folder / name).read_bytes(), (
                folder,
                name,
            )
    assert of[0].runs() == of[1].runs()
    for run in of[0].runs():
        logs = [
            [
                (row["kind"], row["step"], row.get("loss"), row.get("acc_x"), row.get("harm"))
                for row in each.train_rows(*run)
            ]
            for each in of
        ]
        assert logs[0] == logs[1]
    tables = [sorted(file.name for file in (each.path / "tables").glob("*")) for each in of]
    assert tables[0] == tables[1]
    for file in tables[0]:
        frames = [each.table(file.removesuffix(".parquet")) for each in of]
        pd.testing.assert_frame_equal(*(_sorted(frame) for frame in frames))
    names = [{_plain(file, each.path) for file in each.path.rglob("*")} for each in of]
    assert names[0] - names[1] == set()


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [
        name
        for name in frame
        if not frame[name].map(lambda value: hasattr(value, "__len__") and not isinstance(value, str)).any()
    ]
    return frame.sort_values(keys, ignore_index=True)


def _plain(file: Path, study: Path) -> str:
    name = file.relative_to(study).as_posix()
    return "log" if name.endswith(".log") else name


def logged(study: Path, at_least: int) -> Callable[[], bool]:
    """Has some run logged so many rows more than there were?"""
    files = [study / "runs" / f"{arm}-s0" / "train.jsonl" for arm in ("opd", "nca")]
    return lambda: any(file.is_file() and file.read_bytes().count(b"\n") >= at_least for file in files)


def there(study: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(True for _ in study.glob(pattern))


def later(seconds: float) -> Callable[[], bool]:
    ends = time.monotonic() + seconds
    return lambda: time.monotonic() > ends


@pytest.mark.parametrize("whom", ["group", "parent", "worker"])
def test_in_training(whom, states, begun):
    rng, kills = random.Random(whom), 0
    for _ in range(FEW):
        study = begun("train")
        kills += kill_in("train", study, logged(study, rng.randint(1, 10)), whom, rng, TRAIN)
        finish(ALONE, study)
        same(study, states[after("train")] / "s")
    assert kills
    print(f"training, the {whom} killed {kills} times")


def test_while_a_checkpoint_is_written(states, begun):
    rng, kills = random.Random("checkpoint"), 0
    for _ in range(FEW):
        study = begun("train")
        wanted = f"runs/*/.saving-checkpoint-{2 * rng.randint(1, 4)}"
        kills += kill_in("table", study, there(study, wanted), "parent", rng, ALONE)
        finish(ALONE, study)
        same(study, states[after("train")] / "s")
    assert kills
    print(f"writing a checkpoint, killed {kills} times")


@pytest.mark.parametrize("part", ["evaluate", "capture", "explain"])
def test_in_what_fills_tables(part, states, begun):
    rng, kills = random.Random(part), 0
    for _ in range(FEW):
        study = begun(part)
        kills += kill_in(part, study, later(rng.uniform(0.3, 1) * SECONDS[part]), "parent", rng, PARTS[part])
        finish(PARTS[part], study)
        same(study, states[after(part)] / "s")
    print(f"{part}, killed {kills} times")


def test_while_a_table_is_written(states, begun):
    rng, kills = random.Random("table"), 0
    for n in range(FEW):
        part = ("evaluate", "capture", "explain")[n % 3]
        study = begun(part)
        kills += kill_in("table", study, there(study, "tables/.writing-*"), "parent", rng, PARTS[part])
        finish(PARTS[part], study)
        same(study, states[after(part)] / "s")
    print(f"writing a table, killed {kills} times")


def test_told_to_stop_politely_it_continues_as_well(states, begun):
    """A closed terminal: what runs is ended by its signal, and says how it goes on."""
    study = begun("train")
    process = started(TRAIN, study)
    moment = logged(study, 4)
    while not moment():
        assert process.poll() is None, (study.parent / "log").read_text()
        time.sleep(0.01)
    workers = process.children()
    os.kill(process.pid, signal.SIGHUP)
    assert process.wait(60) == 129
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    finish(ALONE, study)
    same(study, states[after("train")] / "s")
