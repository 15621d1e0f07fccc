"""A folder to start a task of one's own from: what ``cr-interp new-task NAME`` writes. It runs as written.

Mental model: ``task.yaml`` with its rows and its context, or ``task.py`` with all of them in code, and a ``study.yaml``
that distils it on a bundled model in a minute or two. Replacing one part after the other keeps it running.
"""

import json
import os
import re
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.system.names import check_folder, check_name
from cr_interp.tasks.organisms.rules import rules_task

ROWS = {"train": 160, "test": 48}


def new_task(name: str, folder: Path, python: bool = False) -> list[Path]:
    """Write the folder, whole or not at all; returns its files. What exists is never written over."""
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(
            f"'{name}' is no name for a task: letters, digits, - and _ only, since files are named so."
        )
    check_name("a task", name)
    check_folder(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already. Give another name, or another folder with --out.")
    written = {"task.py": _template("task.py", name)} if python else _data(name)
    task_file = "task.py" if python else "task.yaml"
    written["study.yaml"] = _template("study.yaml", name).replace("TASK", task_file)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for file, text in written.items():
                (staging / file).write_text(text, encoding="utf-8")
            staging.chmod(0o755)
            os.rename(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"Could not write {folder} ({error.strerror}). Give a folder that can be written."
        ) from error
    return [folder / file for file in written]


def _template(file: str, name: str) -> str:
    text = files("cr_interp.tasks.yours").joinpath("templates", file).read_text(encoding="utf-8")
    return text.replace("NAME", name)


def _data(name: str) -> dict[str, str]:
    """Return the description with its rows, which are those of ``rules:swap`` so that a bundled model can do them."""
    task = rules_task("swap")
    rows = {
        f"{split}.jsonl": "".join(
            json.dumps({"prompt": example.prompt, "answer": example.answer}) + "\n"
            for example in task.examples(split, n)  # type: ignore[arg-type]
        )
        for split, n in ROWS.items()
    }
    return {"task.yaml": _template("task.yaml", name), "context.txt": "swap the letters in pairs\n", **rows}
