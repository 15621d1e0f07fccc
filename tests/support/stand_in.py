"""Local rows in the hub's schema, and descriptions that read them: the bundled descriptions' own words, other files.

So a test goes through the code that a user with a network goes through, up to which file is opened.
"""

import json
from pathlib import Path

import yaml

from cr_interp.tasks.yours.described import PUBLISHED

#: Task → the answers that its stand-in rows may have.
ANSWERS = {"medmcqa": "ABCD", "safety": ("yes", "no"), "dapo": ("7", "12", "1/2")}


def hub_rows(name: str, split: str, n: int) -> list[dict]:
    """Rows as the hub has them: a chat of one user message, and an answer."""
    answers = ANSWERS[name]
    return [
        {
            "content": [{"role": "user", "content": f"{split} question {i}?"}],
            "answer": answers[i % len(answers)],
            "source": "made up",
        }
        for i in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stand_in(name: str, folder: Path, n: int = 40, **changes) -> Path:
    """The bundled description ``name`` with rows and far contexts replaced by files in ``folder``."""
    told = yaml.safe_load((PUBLISHED / f"{name}.yaml").read_text())
    for split in ("train", "test"):
        write_jsonl(folder / f"{name}-{split}.jsonl", hub_rows(name, split, n))
        told[split] = {"dataset": f"{name}-{split}.jsonl"}
    (folder / "context.txt").write_text("Think, then answer.\n")
    for control in ("context", "mismatched"):
        if "url" in told[control]:
            told[control] = {"file": "context.txt"} if control == "context" else {"text": "Answer in rhymes."}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**told, **changes}))
    return path
