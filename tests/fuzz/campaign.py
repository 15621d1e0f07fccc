"""Damaged and hostile inputs by the thousand: each ends in success or in one paragraph with exit code 2, and changes nothing.

    python tests/fuzz/campaign.py                        1,000 of each input
    python tests/fuzz/campaign.py --cases 20 studies     20 of one
    python tests/fuzz/campaign.py studies --only 417     one case, with what it says

An input is a module here with ``prepare`` (what is sound, once), ``cases`` (a strategy: what is done to it) and ``play`` (do
that to a copy, and give the command and what it is meant to write), perhaps ``wrong`` (what is not right about what was
accepted). Hypothesis draws from fixed seeds, so number 417 is always the same case; it varies what it has drawn, so it is
begun anew every few cases, and what comes out the same on disk is played once. Beside how it ended, what was there before
has to be as it was, and the words of a file outside may be shown nowhere.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

from apart import Ended, apart  # noqa: E402
from hypothesis import HealthCheck, Phase, given, reject, seed, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402

INPUTS = ("configurations", "studies", "checkpoints", "texts")
#: Not an input of its own: does what `plan` calls sound begin?
MORE = ("planned",)
#: Cases of one seed.
TOGETHER = 10
WORDS = "the words of a file outside"
KINDS = ("clean", "accepted", "traceback", "hang", "crash", "changed", "shown", "wrong")


class Tally:
    """Plays the cases of one input and counts how they ended; what must not be is kept in ``bad``."""

    def __init__(self, name: str, root: Path, only: int | None = None) -> None:
        self.module: Any = importlib.import_module(name)
        self.name, self.root, self.only = name, root, only
        self.sound, self.logs = root / "sound", root / "logs"
        for folder in (self.sound, self.logs):
            folder.mkdir()
        self.module.prepare(self.sound)
        self.counts: Counter[str] = Counter()
        self.number = 0
        self.seen: set[tuple[str, str]] = set()
        self.bad: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []

    def play(self, case: Any) -> None:
        place = self.root / "case"
        outside = place / "outside.txt"
        place.mkdir()
        outside.write_text(f"{WORDS}\n")
        try:
            folder = place / "here"
            folder.mkdir()
            told, act, own = self.module.play(case, self.sound, folder, outside)
            before = tree(place)
            if not self.is_new(told, before):
                reject()
            self.number += 1
            if self.only is not None and self.number != self.only:
                return
            ended = apart(act, folder, self.logs)
            self.note(case, told, ended, place, before, own)
            if self.number % 50 == 0:
                print(self.line(), flush=True)
        finally:
            shutil.rmtree(place)

    def is_new(self, told: str, there: dict[str, str]) -> bool:
        key = told, hashlib.blake2b(repr(sorted(there.items())).encode()).hexdigest()
        new = key not in self.seen
        self.seen.add(key)
        return new

    def note(self, case: Any, told: str, ended: Ended, place: Path, before: dict[str, str], own: str) -> None:
        after = tree(place)
        changed = sorted(
            name
            for name, what in before.items()
            if after.get(name) != what and not (own and name.startswith(f"here/{own}"))
        )
        new = [place / name for name in after.keys() - before.keys()]
        typed = getattr(self.module, "typed", lambda _: False)(case)
        shown = not typed and (WORDS in ended.out + ended.err or any(_has_words(file) for file in new))
        kinds = [ended.kind, *(["changed"] if changed else []), *(["shown"] if shown else [])]
        judge = getattr(self.module, "wrong", None)
        if ended.kind == "accepted" and judge and (why := judge(case, self.sound, place / "here")):
            kinds.append("wrong")
            changed.append(why)
        self.counts.update(kinds)
        row = {
            "number": self.number,
            "kinds": kinds,
            "told": told,
            "case": repr(case)[:4000],
            "code": ended.code,
            "seconds": round(ended.seconds, 1),
            "err": ended.said,
            "out": ended.out[-1500:],
            "changed": changed,
        }
        if {*kinds} & {*KINDS[2:]}:
            self.bad.append(row)
            print(f"{self.name} {self.number}: {' '.join(kinds)}: {told[:200]}: {_last(ended.said)}", flush=True)
        elif ended.kind == "accepted":
            self.accepted.append(row)
        if self.only is not None:
            print(json.dumps(row, indent=1, ensure_ascii=False))

    def line(self) -> str:
        return f"{self.name}: {self.number} cases; " + ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS)


def tree(root: Path) -> dict[str, str]:
    """What is there: a file's content, a link's target, else only what it is. Large holes are known by their size."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = os.fsencode(path.relative_to(root)).decode("latin-1")
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_file():
            large = path.stat().st_size > 1 << 30
            found[name] = "large" if large else hashlib.blake2b(path.read_bytes()).hexdigest()
        else:
            found[name] = "else"
    return found


def _has_words(file: Path) -> bool:
    return not file.is_symlink() and file.is_file() and WORDS.encode() in file.read_bytes()


def _last(said: str) -> str:
    return said.splitlines()[-1][:300] if said else ""


def campaign(name: str, cases: int, root: Path, start: int = 0, only: int | None = None) -> Tally:
    tally = Tally(name, root, only)
    block = 0
    while tally.number < cases and block < cases:
        _play_some(tally, min(TOGETHER, cases - tally.number), 10**6 * start + block)
        block += 1
    return tally


def _play_some(tally: Tally, cases: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(tally.module.cases)
    def play(case: Any) -> None:
        tally.play(case)

    with contextlib.suppress(Unsatisfiable):  # all of them were there before
        play()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("inputs", nargs="*", default=INPUTS, choices=[*INPUTS, *MORE, []])
    asked.add_argument("--cases", type=int, default=1000)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", type=int)
    asked.add_argument(
        "--report", type=Path, help="a JSON file with what must not be, and with what was accepted"
    )
    given_ = asked.parse_args()
    report, bad = {}, 0
    for name in given_.inputs:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
            tally = campaign(name, given_.cases, Path(root), given_.seed, given_.only)
        print(tally.line(), flush=True)
        report[name] = {"counts": tally.counts, "bad": tally.bad, "accepted": tally.accepted}
        bad += len(tally.bad)
        if given_.report:
            given_.report.parent.mkdir(parents=True, exist_ok=True)
            given_.report.write_text(json.dumps(report, indent=1, ensure_ascii=False, default=repr))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
