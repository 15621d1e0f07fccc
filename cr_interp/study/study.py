"""A study on disk: one task, context, base model and teacher, with several arms and seeds.

A table is the only thing that crosses from computing to looking, so the app and the notebooks need this package and no torch.
Which files a study has, and where, says ``places.py``.

Writes are atomic (temporary file, fsync, rename) and one at a time (``locking.py``). Reading never executes anything: JSON and
Parquet only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from pydantic import ValidationError

from cr_interp.configuration import brief, explain
from cr_interp.confined import is_regular, leads_inside, own
from cr_interp.errors import UserError
from cr_interp.files import read_jsonl, write_atomic, write_json
from cr_interp.study.locking import writing
from cr_interp.study.places import (
    CHECKPOINT,
    EVERY_CHECKPOINT,
    EVERY_RUN,
    LOG,
    MANIFEST,
    RUNS,
    TABLES,
    log_of,
    manifest_of,
    run_in,
    run_of,
    runs_of,
    table_of,
    tables_of,
)
from cr_interp.study.reading import read_table
from cr_interp.study.schema import COLUMNS, SCHEMA_VERSION, SECTIONS, Manifest
from cr_interp.system.disk import sweep
from cr_interp.system.notes import say
from cr_interp.system.text_files import read_json


@dataclass(frozen=True)
class Study:
    """A study that exists on disk. ``manifest`` is what its file held when it was opened."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def manifest_path(self) -> Path:
        return manifest_of(self.path)

    # -- life ----------------------------------------------------------------------------------------------

    @staticmethod
    def create(path: str | Path, manifest: Mapping[str, object]) -> "Study":
        """Make the folder and write its manifest; an existing study keeps its tables and runs."""
        path = Path(path)
        sections = {"schema_version": SCHEMA_VERSION, **manifest}
        with writing(path):
            write_json(manifest_of(path), sections)
        return Study(path, cast(Manifest, sections))

    @staticmethod
    def open(path: str | Path) -> "Study":
        """Open a study; a missing, damaged or newer one is a :class:`UserError` that says which."""
        path = Path(path)
        file = manifest_of(path)
        if not file.is_file():
            raise UserError(f"{path} is not a study: it has no {MANIFEST}. Give the folder of a study.")
        try:
            if not own(path, file):
                raise UserError(f"{file} is no file of the study's own.")
            manifest = read_json(file)
            version = manifest["schema_version"]
        except (UserError, KeyError, TypeError) as error:
            raise UserError(
                f"The manifest of {path} is damaged ({type(error).__name__}: {error}). Its tables, if any, are "
                f"untouched; restore {MANIFEST} from a copy, or make the study again."
            ) from error
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {brief(version)}; this cr_interp reads versions up to {SCHEMA_VERSION}. "
                f"Update cr_interp to open it."
            )
        return Study(path, cast(Manifest, _Sections(path, _sound(path, manifest))))

    def update_manifest(self, **changes: Any) -> "Study":
        """Change sections of the manifest as it is on disk now, which may be more than when this study was opened: sections that
        grow (``arms``, ``asked``, ``seeds``) keep what another process has added."""
        with writing(self.path):
            try:
                there = Study.open(self.path).manifest
            except UserError:
                there = self.manifest
            return Study.create(self.path, {**there, **_grown(there, changes)})

    def sweep(self) -> None:
        """Remove what a kill left half-written in the study's folders, by any process that is gone."""
        with writing(self.path):  # which takes the lock's file of a process that is gone away, too
            for folder in (self.path, self.path / TABLES, *runs_of(self.path)):
                sweep(folder)

    # -- tables --------------------------------------------------------------------------------------------

    def table_path(self, name: str) -> Path:
        return table_of(self.path, name)

    def has_table(self, name: str) -> bool:
        return self.table_path(name).is_file()

    def table(self, name: str) -> pd.DataFrame:
        """Read one table. Raises :class:`UserError` if it is missing, unreadable or lacks columns.

        Answers that were written without their ``cluster`` get it from their ids, if the task is a built-in one.
        """
        file = self.table_path(name)
        if not is_regular(file):
            there = [each.stem for each in tables_of(self.path)]
            raise UserError(f"Study {self.name} has no table '{name}' (it has: {', '.join(there) or 'none'}).")
        if not own(self.path, file):
            raise UserError(
                f"{file} leads out of the study's folder, so it is not read. Put the table itself there."
            )
        return read_table(file, name, str(self.manifest.get("task")))

    def drift(self, sinks: bool = False) -> pd.DataFrame:
        """Read the table ``drift``, which leaves attention sinks out; or with ``sinks`` the same with them.

        Where a site had none, both are the same rows.
        """
        masked = self.table("drift")
        if not sinks or not self.has_table("drift_with_sinks"):
            return masked
        kept = self.table("drift_with_sinks")
        of = ["arm", "seed", "step", "site", "layer", "control"]
        replaced = pd.MultiIndex.from_frame(masked[of]).isin(pd.MultiIndex.from_frame(kept[of]))
        return pd.concat([masked[~replaced], kept], ignore_index=True)

    def put(self, name: str, rows: pd.DataFrame, keys: Sequence[str] = ("arm", "seed", "step")) -> None:
        """Add rows to a table; earlier rows with the same ``keys`` are replaced. Atomic."""
        missing = [column for column in COLUMNS.get(name, ()) if column not in rows.columns]
        if missing:
            raise ValueError(f"rows for '{name}' lack {missing}")
        with writing(self.path):
            if self.has_table(name):
                old = self.table(name)
                replaced = pd.MultiIndex.from_frame(old[list(keys)]).isin(
                    pd.MultiIndex.from_frame(rows[list(keys)])
                )
                rows = pd.concat([old[~replaced], rows], ignore_index=True)
            self.replace(name, rows)

    def replace(self, name: str, rows: pd.DataFrame) -> None:
        """Make these the rows of a table, whatever it held. Atomic."""
        with writing(self.path):
            write_atomic(
                self.table_path(name),
                lambda file: rows.to_parquet(file, engine="pyarrow", index=False, compression="zstd"),
            )

    def keep(self, name: str, kept: Callable[[pd.DataFrame], pd.Series]) -> None:
        """Keep a table's rows, if there is one, for which ``kept`` is true. Atomic."""
        with writing(self.path):
            if self.has_table(name):
                rows = self.table(name)
                stays = kept(rows)
                if not stays.any() and name == "generations":
                    self.table_path(name).unlink()  # answers of nobody are refused by whoever reads them
                elif not stays.all():
                    self.replace(name, rows[stays])

    def drop(self, name: str, rows: pd.DataFrame, keys: Sequence[str] = ("arm", "seed", "step")) -> None:
        """Take out of a table, if there is one, what has the same ``keys`` as ``rows``."""
        gone = pd.MultiIndex.from_frame(rows[list(keys)])
        self.keep(name, lambda old: ~pd.MultiIndex.from_frame(old[list(keys)]).isin(gone))

    # -- runs ----------------------------------------------------------------------------------------------

    def run_path(self, arm: str, seed: int) -> Path:
        return run_of(self.path, arm, seed)

    def log_path(self, arm: str, seed: int) -> Path:
        return log_of(self.run_path(arm, seed))

    def runs(self) -> list[tuple[str, int]]:
        """List the (arm, seed) pairs that have a training log, sorted."""
        return [run for log in self.logs() if (run := run_in(log.parent))]

    def logs(self) -> list[Path]:
        """List their training logs, in the same order."""
        found = sorted((self.path / RUNS).glob(f"{EVERY_RUN}/{LOG}"))
        return [log for log in found if run_in(log.parent) and leads_inside(self.path, log)]

    def checkpoints(self) -> list[tuple[str, int, int, Path]]:
        """List (arm, seed, step, folder) of every checkpoint or adapter that is on disk, sorted. A folder gets this name only
        when it is whole.
        """
        found = []
        for folder in (self.path / RUNS).glob(f"{EVERY_RUN}/{EVERY_CHECKPOINT}"):
            run, step = run_in(folder.parent), folder.name.removeprefix(CHECKPOINT)
            model = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
            weights = sorted(folder.glob("*.safetensors")) if model else []
            whole = weights and all(leads_inside(self.path, each) for each in (*weights, *folder.glob("*.json")))
            if run and step.isdecimal() and len(step) < 16 and whole:
                found.append((*run, int(step), folder))
        return sorted(found)

    def train_rows(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """Read rows of a run's log in step order; see :func:`read_jsonl` for what resuming leaves behind."""
        return read_jsonl(self.log_path(arm, seed))

    def training(self) -> pd.DataFrame:
        """Read all runs' logs as one table with columns ``arm, seed, kind, step, …`` (empty if there are none)."""
        rows = [
            {"arm": arm, "seed": seed, **row} for arm, seed in self.runs() for row in self.train_rows(arm, seed)
        ]
        return pd.json_normalize(rows) if rows else pd.DataFrame(columns=["arm", "seed", "kind", "step"])


def _grown(there: Manifest, changes: dict[str, Any]) -> dict[str, Any]:
    """Return changes of a manifest, with what is there already in sections that only grow."""
    grown = dict(changes)
    before: dict[str, Any] = {**there}
    for name in ("arms", "asked"):
        if isinstance(before.get(name), dict) and isinstance(changes.get(name), dict):
            grown[name] = {**before[name], **changes[name]}
    if isinstance(before.get("seeds"), list) and isinstance(changes.get("seeds"), list):
        grown["seeds"] = sorted({*before["seeds"], *changes["seeds"]})
    return grown


def _sound(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest without sections that are not what they are called: they count as missing, and that is said.

    A section that is ``null`` and must not be is missing too, which need not be said: it says so itself.
    """
    try:
        SECTIONS.validate_python(manifest)
    except ValidationError as error:
        found = error.errors()
        if empty := {str(each["loc"][0]) for each in found if each["input"] is None and len(each["loc"]) == 1}:
            return _sound(path, {key: value for key, value in manifest.items() if key not in empty})
        wrong = {str(each["loc"][0]) for each in found}
        if "schema_version" in wrong:
            raise UserError(f"The manifest of {path} is damaged: {explain(error)}") from error
        say(f"The manifest of {path} is read without {', '.join(sorted(wrong))}: {explain(error)}")
        return {key: value for key, value in manifest.items() if key not in wrong}
    return manifest


class _Sections(dict[str, Any]):
    """A manifest that was read: a section that is asked for and not there is the file's fault, and said as that."""

    def __init__(self, path: Path, sections: dict[str, Any]) -> None:
        super().__init__(sections)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise UserError(
            f"The manifest of {self._path} does not say '{name}', which is needed here. It was damaged, or written by something "
            f"else; restore {MANIFEST} from a copy, or make the study again."
        )
