"""Real disks that are full at any size, and a real one that is read-only: one paragraph and code 2, and nothing is lost.

``CR_INTERP_KILLS=10`` (``make kills``) asks for ten sizes.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import warm
from killing import KILLS
from mounted import disk, grow, read_only
from test_kills import SMALL, same

from cr_interp.study.study import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="mounts file systems as Linux does"),
]
DISTILL = [
    "distill",
    "organism-shift",
    *SMALL,
    "training.steps=4",
    "--arms",
    "opd",
    "--seeds",
    "0",
    "--in-process",
    "--resume",
    "--out",
]
PARTS = (DISTILL, ["evaluate"], ["capture"])
#: Shares of what a whole study takes: no manifest, no first checkpoint, a part of one, one and no second, all but a table, …
SHARES = (0.0002, 0.001, 0.005, 0.05, 0.2, 0.4, 0.55, 0.7, 0.9, 0.985) if KILLS >= 10 else (0.005, 0.7)


def run(words: list[str], study: Path, log: Path) -> tuple[int, str]:
    with open(log, "w") as output:
        process = warm.Popen(
            [sys.executable, "-m", "cr_interp", *words, str(study)], stdout=subprocess.DEVNULL, stderr=output
        )
        code = process.wait(300)
    return code, log.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for words in PARTS:
        code, said = run(words, root / "s", root / "log")
        assert code == 0, said
    return root / "s"


@pytest.mark.parametrize("share", SHARES)
def test_a_disk_that_is_full(share, whole, tmp_path):
    """What was written stays, what is said is the disk, and with more room the same commands end with the same bits."""
    size = max(4, int(share * sum(file.stat().st_size for file in whole.rglob("*")) / 1024))
    refused = 0
    with disk(tmp_path / "disk", size) as place:
        study = place / "s"
        for words in PARTS:
            code, said = run(words, study, tmp_path / "log")
            if code:
                refused, where = refused + 1, words[0]
                errors = [line for line in said.splitlines() if line.startswith("error: ")]
                assert code == 2, said
                assert len(errors) == 1, said
                assert "disk is full" in errors[0]
                assert "Traceback" not in said
                assert not list(place.rglob(".writing-*")) + list(place.rglob(".saving-*"))
                break
        assert refused, f"{size} kB were enough"
        grow(place, 400_000)
        for words in PARTS:
            code, said = run(words, study, tmp_path / "log")
            assert code == 0, said
        same(study, whole)
    print(f"a disk of {size} kB: refused in {where}, then finished")


def test_a_disk_that_is_read_only(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "mine" / "s")
    with read_only(tmp_path / "mine", tmp_path / "ro") as place:
        study = place / "s"
        for words in (["table"], ["table", "--json"], ["controls"]):
            code, said = run(words, study, tmp_path / "log")
            assert code == 0, said
        assert len(Study.open(study).table("drift"))
        code, said = run(["export", str(study)], tmp_path / "copy", tmp_path / "log")
        assert code == 0, said
        pd.testing.assert_frame_equal(
            Study.open(tmp_path / "copy").table("drift"), Study.open(whole).table("drift")
        )
        again = [*DISTILL[:2], "training.steps=6", *DISTILL[3:]]
        more = [*DISTILL[:-4], "0,1", *DISTILL[-3:]]
        for words in (
            more,
            ["evaluate", "--again"],
            ["capture", "--again"],
            ["explain", "--examples", "1"],
            ["export", str(whole)],
        ):
            where = place / "new" if words[0] == "export" else study
            code, said = run(words, where, tmp_path / "log")
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            assert (code, len(errors)) == (2, 1), (words, said)
            assert "read-only" in errors[0]
        code, said = run(again, study, tmp_path / "log")
        assert code == 2, said
    same(tmp_path / "mine" / "s", whole)
