"""Put a study among the bundled ones, or add to one that is there: its tables and logs, without checkpoints.

``python docs/tools/bundle.py FOLDER NAME``, then ``make results``. A study that is bundled already is added to only by the very
same runs, made again: their logs have to be equal to the last digit, but for how long a step took. Rows of examples that no page
reads stay behind, and so does every path of the machine that it was made on.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from cr_interp.errors import UserError
from cr_interp.files import read_jsonl, write_json
from cr_interp.study.places import TABLES, log_of, manifest_of, run_of, table_of, tables_of
from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study
from training.run.peak import CUDA, LIFETIME, RESIDENT

#: Tables of examples beside which the one of their means is enough.
LEFT_OUT = ("attribution_examples", "knockout_examples", "patching_heads_examples")
#: What a log says of the machine, and not of the run.
OF_THE_MACHINE = ("seconds", "tokens_per_second", CUDA, RESIDENT, LIFETIME)


def bundle(folder: Path, target: Path) -> None:
    """Copy what there is to be copied. Raises :class:`UserError` for other runs than those that are bundled."""
    study = Study.open(folder)
    manifest: dict[str, Any] = dict(study.manifest)
    if target.exists():
        there = Study.open(target)
        for arm, seed in study.runs():
            if log_of(there.run_path(arm, seed)).is_file() and _log(study, arm, seed) != _log(there, arm, seed):
                raise UserError(
                    f"{arm} seed {seed} of {folder} is another run than the one in {target}: their logs differ. Bundle it under "
                    f"another name."
                )
        manifest = {**there.manifest, "asked": {**there.manifest.get("asked", {}), **manifest.get("asked", {})}}
    else:
        manifest |= {"name": target.name, "command": without_paths(manifest["command"])}
    if found := re.search(r'"/[^"]*"', json.dumps(manifest)):
        raise UserError(f"The manifest of {folder} names a place on this machine: {found[0]}.")
    for arm, seed in study.runs():
        run = run_of(target, arm, seed)
        if not run.is_dir():
            run.mkdir(parents=True)
            shutil.copy(log_of(study.run_path(arm, seed)), log_of(run))
    (target / TABLES).mkdir(exist_ok=True)
    for table in tables_of(folder):
        if table.stem not in LEFT_OUT:
            shutil.copy(table, table_of(target, table.stem))
    write_json(manifest_of(target), manifest)


def without_paths(command: str) -> str:
    """Leave out of a command where its study is written.

    >>> without_paths("cr-interp reproduce organism-shift --out /home/me/studies --seeds 0")
    'cr-interp reproduce organism-shift --seeds 0'
    """
    return re.sub(r" --out[ =]\S+", "", command)


def _log(study: Study, arm: str, seed: int) -> list[dict[str, Any]]:
    rows = read_jsonl(log_of(study.run_path(arm, seed)))
    return [{name: value for name, value in row.items() if name not in OF_THE_MACHINE} for row in rows]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    chosen = parser.parse_args()
    try:
        bundle(chosen.folder, BUNDLED / chosen.name)
    except UserError as error:
        sys.exit(f"error: {error}")
