"""A run's checkpoints on disk: whole, or not taken.

Mental model. A checkpoint is written beside its place and *sealed*: ``checkpoint.json`` lists every file with its size and
SHA-256, and the step. Then it is moved into its place. From then on it is whole if, and only if, all of that is still so;
anything else (a file missing, added or changed, another step) is a flaw, and whoever continues takes the last whole one.
What a kill leaves behind has names of its own and is swept by the next start.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.study.places import CHECKPOINT, EVERY_CHECKPOINT, note_of
from cr_interp.system.digests import file_digest
from cr_interp.system.text_files import read_json

SEAL = "checkpoint.json"
#: A folder in which a checkpoint is being written.
STAGING = ".saving-"
_NAME = re.compile(rf"{CHECKPOINT}(\d+)")
#: Without these a run continues otherwise than it would have gone on; DeepSpeed has its own in a folder of each step.
_NEEDED = ("optimizer", "scheduler", "trainer_state.json")


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def folders(run_path: Path) -> list[Path]:
    """List every folder with a checkpoint's name, whole or not, oldest first."""
    return sorted((path for path in run_path.glob(EVERY_CHECKPOINT) if _NAME.fullmatch(path.name)), key=step_of)


def checkpoints(run_path: Path) -> list[Path]:
    """List a run's whole checkpoints, oldest first."""
    return [path for path in folders(run_path) if flaw(path) is None]


def latest_checkpoint(run_path: Path) -> Path | None:
    """Find the last whole checkpoint. Those before it are not read."""
    return next((path for path in reversed(folders(run_path)) if flaw(path) is None), None)


def passed_over(run_path: Path) -> str | None:
    """Say what has to be said where the last checkpoint is not whole; None if it is, or if there is none."""
    last, found = latest_checkpoint(run_path), folders(run_path)
    flawed = [path for path in found if last is None or step_of(path) > step_of(last)]
    if not flawed:
        return None
    told = "; ".join(f"{path.name} ({flaw(path)})" for path in flawed)
    instead = f"it continues from {last.name}" if last else "it begins again with the first step"
    return f"{run_path}: not whole and not used: {told}; {instead}."


# -- sealing -------------------------------------------------------------------------------------------------


def seal(folder: Path, step: int) -> None:
    """List what a finished checkpoint consists of; everything is on the disk when this returns."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        _sync(file)
    listed = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in files
    }
    list_file = folder / SEAL
    list_file.write_text(json.dumps({"step": step, "files": listed}, indent=1) + "\n", encoding="utf-8")
    _sync(list_file)
    _sync(folder)


def put_in_place(folder: Path, final: Path) -> None:
    """Move a sealed checkpoint to where it belongs, so that it appears whole or not at all."""
    # Deterministic runs write the same checkpoint twice after a resume; the older one may go first.
    shutil.rmtree(final, ignore_errors=True)
    os.replace(folder, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flaw(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, in a few words; None if it is whole."""
    try:
        if not (folder / SEAL).exists():
            return _flaw_of_older(folder)
        told = read_json(folder / SEAL, "a list of files")
        step, listed = int(told["step"]), dict(told["files"])
        there = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if not f.is_dir()}
        there.pop(SEAL)
        if step != step_of(folder):
            return f"its list is of step {step}"
        if lacking := sorted(set(listed) - set(there)):
            return f"{lacking[0]} is missing"
        if added := sorted(set(there) - set(listed)):
            return f"{added[0]} does not belong to it"
        if without := _without(listed):
            return f"it was written without its {without}"
        for name, file in there.items():
            if file.is_symlink() or file.stat().st_size != listed[name]["bytes"]:
                return f"{name} has another size than it was written with"
            if file_digest(file) != listed[name]["sha256"]:
                return f"{name} has other content than it was written with"
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return f"its list of files is not readable: {type(error).__name__}"
    return None


def _without(files: Iterable[str]) -> str | None:
    """Say what a run needs and a checkpoint with these files has not."""
    listed = list(files)
    if any(file.startswith("global_step") for file in listed):
        return None
    return next((name for name in _NEEDED if not any(name in file for file in listed)), None)


def _flaw_of_older(folder: Path) -> str | None:
    """Judge a checkpoint from before they were sealed: whether what a run needs is there, and of this step.

    Runs that note what they are made of came with the seal, so there a missing list is a flaw.
    """
    if note_of(folder.parent).is_file():
        return "its list of files is missing"
    if without := _without({file.name for file in folder.iterdir()}):
        return f"its {without} is missing"
    step = read_json(folder / "trainer_state.json", "a trainer's state")["global_step"]
    return None if step == step_of(folder) else f"its state is of step {step}"


# -- what is no longer needed --------------------------------------------------------------------------------


def sweep_run(run_path: Path) -> None:
    """Remove checkpoints that a kill left half-written. Whoever calls this holds the run's lock."""
    for leftover in run_path.glob(f"{STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def keep_last(run_path: Path, step: int, n: int) -> None:
    """Keep of the checkpoints up to ``step`` the last ``n``, and none that is not whole."""
    past = [path for path in folders(run_path) if step_of(path) <= step]
    kept = [path for path in past if flaw(path) is None][-n:]
    for path in past:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
