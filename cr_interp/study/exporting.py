"""Copy a study without its checkpoints: what can be looked at, small enough to share.

Mental model: tables, logs and notes are copied one by one into a folder that is new, and the manifest last, so that only then
it is a study. What is no file of the study's own (a link, a pipe) is left out and named: a link may point anywhere.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cr_interp.confined import content
from cr_interp.errors import UserError
from cr_interp.files import read_jsonl, write_atomic
from cr_interp.study.places import EVERY_RUN, LOG, NOTE, RUNS, TABLES
from cr_interp.study.schema import MOST_FILE
from cr_interp.study.study import Study
from cr_interp.system.names import check_folder

#: What is copied.
PATTERNS = (f"{TABLES}/*.parquet", f"{RUNS}/{EVERY_RUN}/{LOG}", f"{RUNS}/{EVERY_RUN}/{NOTE}")


def export(study: Study, target: Path, light: bool = False) -> Study:
    """Copy what can be looked at (manifest, tables, training logs) without the checkpoints: megabytes, not gigabytes.

    ``light`` leaves out the largest: ``token_drift``, and of the logs all but every tenth training step. Raises
    :class:`UserError` for a target that holds something, or that is in the study.
    """
    check_target(target, study.path)
    for file in _files(study.path):
        if left_out(study.path, file) or (light and file.stem == "token_drift"):
            continue
        data = content(file, "a study whose files are no larger than a study's can be", MOST_FILE)
        if light and file.suffix == ".jsonl":
            data = "".join(json.dumps(row) + "\n" for row in read_jsonl(file) if _is_kept(row)).encode()
        write_atomic(target / file.relative_to(study.path), lambda out, data=data: out.write(data))
    return Study.create(target, study.manifest)  # the manifest last: only then is it a study


def check_target(target: Path, source: Path) -> None:
    """Refuse a folder that a copy of ``source`` must not go into, before anything is written."""
    check_folder(target)
    to, of = target.resolve(), source.resolve()
    if to == of or to.is_relative_to(of) or of.is_relative_to(to):
        raise UserError(
            f"{target} is or holds the study {source} itself, or is in it. Give a new folder elsewhere."
        )
    try:
        if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
            raise UserError(f"{target} is there already and is not an empty folder. Give a new folder.")
    except OSError as error:
        raise UserError(f"{target} cannot be looked into ({error.strerror}). Give a new folder.") from error


def links(study: Study) -> list[str]:
    """List what an export leaves out because it is not a file of the study's own."""
    return [str(file.relative_to(study.path)) for file in _files(study.path) if left_out(study.path, file)]


def left_out(root: Path, file: Path) -> bool:
    """Tell whether a path is a link, lies behind one, or is no file at all."""
    parts = file.relative_to(root).parts
    behind = any(root.joinpath(*parts[:n]).is_symlink() for n in range(1, len(parts) + 1))
    return behind or not file.is_file()


def _files(root: Path) -> Iterator[Path]:
    for pattern in PATTERNS:
        yield from sorted(root.glob(pattern))


def _is_kept(row: dict[str, object]) -> bool:
    step = row.get("step")
    return row.get("kind") != "train" or (isinstance(step, int) and step % 10 == 0)
