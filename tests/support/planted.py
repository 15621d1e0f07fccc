"""A small suite planted so that every count is known by hand, a random one, a half-done one, and one of twelve."""

import io
import os
import sys

import pandas as pd
import warm
from rich.console import Console
from synthetic import make_study

from cr_interp.files import append_jsonl
from cr_interp.study.study import Study
from cr_interp.tables import suite

N = 20
OUTCOME = {"r": "right", "w": "wrong"}
#: setting → arm → what is answered without and with the context, one letter an example
PLANTED = {
    "sokoban-cross": {"opd": ("r" * N, "w" * 2 + "r" * 18), "nca": ("r" * 8 + "w" * 12,) * 2},  # pays with acc_x
    "rules-qwen3": {"opd": ("r" * N, "w" * 5 + "r" * 15), "nca": ("r" * N, "w" * 5 + "r" * 15)},  # a tie
    "rules-llama": {"opd": ("r" * N, "w" * 10 + "r" * 10), "nca": ("r" * N, "r" * N)},  # as in the paper
    "codebook-llama": {"opd": ("r" * N, "r" * N), "nca": ("r" * N, "w" * 10 + "r" * 10)},  # the reverse
}
BASE = ("w" * N, "r" * N)


def answers(arm: str, seed: int, letters: tuple[str, str], longer: int = 0, sample: int = 0) -> pd.DataFrame:
    rows = []
    for view, of_view in zip(("no_context", "with_context"), letters, strict=True):
        for index, letter in enumerate(of_view):
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "step": 0 if arm == "base" else 100,
                    "split": "test",
                    "example_id": f"e{index:02d}",
                    "view": view,
                    "control": "exact" if view == "with_context" else "none",
                    "sample": sample,
                    "prompt": "p",
                    "response": "a",
                    "outcome": OUTCOME[letter],
                    "n_tokens": 10 + (longer if view == "with_context" else 0),
                }
            )
    return pd.DataFrame(rows)


def plant(path, arms, seeds=(0, 1), longer=None, **manifest) -> Study:
    """A study whose answers are these letters; ``base`` has the one seed 0."""
    study = Study.create(
        path,
        {
            "name": path.name,
            "finished": "2026-07-01",
            "arms": {a: {} for a in arms},
            "seeds": [*seeds],
            **manifest,
        },
    )
    study.put("generations", answers("base", 0, BASE))
    for arm, letters in arms.items():
        for seed in seeds:
            study.put("generations", answers(arm, seed, letters, (longer or {}).get(arm, 0)))
    return study


def planted_suite(root) -> suite.Suite:
    for setting, arms in PLANTED.items():
        plant(root / setting, arms, longer={"nca": 1} if setting == "sokoban-cross" else None)
    return suite.open_suite(root)


def random_suite(root) -> suite.Suite:
    """Plausible studies with drift and training, two seeds each."""
    for index, setting in enumerate(("frozenlake-self", "rules-gpt-neox", "codebook-gpt-neox")):
        make_study(root / setting, seeds=(0, 1), examples=N, seed=index, controls=("exact", "irrelevant"))
    return suite.open_suite(root)


def partial_suite(root) -> suite.Suite:
    plant(root / "rules-llama", PLANTED["rules-llama"])
    study = plant(root / "rules-qwen3", {"opd": PLANTED["rules-llama"]["opd"]}, finished=None)
    study.update_manifest(arms={"opd": {}, "nca": {}}).put("generations", answers("nca", 1, ("r" * N, "r" * N)))
    plant(root / "rules-gemma2", {"opd": PLANTED["rules-llama"]["opd"]}, finished=None)
    started = Study.create(root / "codebook-llama", {"finished": None, "arms": {"opd": {}}, "seeds": [0]})
    append_jsonl(started.run_path("opd", 0) / "train.jsonl", {"kind": "eval", "step": 0, "acc_x": 0.1})
    return suite.open_suite(root)


def twelve_suite(root) -> suite.Suite:
    for setting in suite.SETTINGS:
        plant(root / setting, PLANTED["rules-llama"])
    return suite.open_suite(root)


def run(*words, code=0, cwd=None, **environment):
    command = [
        sys.executable,
        "-m",
        "cr_interp",
        *(word if isinstance(word, bytes) else str(word) for word in words),
    ]
    done = warm.run(command, cwd=cwd, env={**os.environ, **environment})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def printed(renderable, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    return console.file.getvalue().splitlines()
