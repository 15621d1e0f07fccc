"""A study on disk: one task, context, base model and teacher, with several arms and seeds.

This is the only module that knows file names, and a table is the only thing that crosses from computing
to looking, so the app and the notebooks need this module and no torch.

    STUDY/manifest.json               schema version, configuration, fingerprints, versions, times
    STUDY/tables/generations.parquet  a row per arm, seed, example, view, control and sample
    STUDY/tables/drift.parquet        a row per arm, seed, site, layer, measure and control
    STUDY/tables/drift_with_sinks.parquet  the same with attention sinks, where drift leaves some out
    STUDY/tables/token_drift.parquet  a row per arm, seed, example, token and site, under the exact context
    STUDY/tables/cka_map.parquet      a row per arm, seed, map and pair of layers
    STUDY/runs/opd-s0/train.jsonl     a row a step, append-only
    STUDY/runs/opd-s0/checkpoint-100/ Hugging Face format

Writes are atomic (temporary file, fsync, rename). Reading never executes anything: JSON and Parquet only.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from cr_interp.errors import UserError, unknown

SCHEMA_VERSION = 1

#: Columns that every table has at least; a damaged table is recognised by their absence.
COLUMNS: dict[str, tuple[str, ...]] = {
    "generations": (
        "arm", "seed", "step", "split", "example_id", "view", "control", "sample",
        "prompt", "response", "n_tokens", "outcome",
    ),
    "drift": (
        "arm", "seed", "step", "site", "layer", "measure", "control",
        "estimate", "low", "high", "n_tokens", "n_examples",
    ),
    "drift_with_sinks": (
        "arm", "seed", "step", "site", "layer", "measure", "control",
        "estimate", "low", "high", "n_tokens", "n_examples",
    ),
    "token_drift": (
        "arm", "seed", "step", "example_id", "position", "token", "site", "layer", "cosine", "relative_l2", "kl",
    ),
    "cka_map": ("arm", "seed", "step", "map", "layer_x", "layer_y", "cka", "n_tokens"),
}  # fmt: skip

BUNDLED = Path(__file__).parent / "examples"


@dataclass(frozen=True)
class Study:
    """A study that exists on disk. ``manifest`` is what ``manifest.json`` held when it was opened."""

    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    # -- life ----------------------------------------------------------------------------------------------

    @staticmethod
    def create(path: str | Path, manifest: dict[str, Any]) -> "Study":
        """Make the folder and write its manifest; an existing study keeps its tables and runs."""
        path = Path(path)
        manifest = {"schema_version": SCHEMA_VERSION, **manifest}
        write_json(path / "manifest.json", manifest)
        return Study(path, manifest)

    @staticmethod
    def open(path: str | Path) -> "Study":
        """Open a study; a missing, damaged or newer one is a :class:`UserError` that says which."""
        path = Path(path)
        file = path / "manifest.json"
        if not file.is_file():
            raise UserError(f"{path} is not a study: it has no manifest.json. Give the folder of a study.")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            version = manifest["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The manifest of {path} is damaged ({type(error).__name__}: {error}). Its tables, if any, are "
                f"untouched; restore manifest.json from a copy, or make the study again."
            ) from error
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {version!r}; this cr_interp reads versions up to {SCHEMA_VERSION}. "
                f"Update cr_interp to open it."
            )
        return Study(path, manifest)

    def update_manifest(self, **changes: Any) -> "Study":
        return Study.create(self.path, {**self.manifest, **changes})

    # -- tables --------------------------------------------------------------------------------------------

    def table_path(self, name: str) -> Path:
        return self.path / "tables" / f"{name}.parquet"

    def has_table(self, name: str) -> bool:
        return self.table_path(name).is_file()

    def table(self, name: str) -> pd.DataFrame:
        """Read one table. Raises :class:`UserError` if it is missing, unreadable or lacks columns."""
        file = self.table_path(name)
        if not file.is_file():
            there = [each.stem for each in sorted((self.path / "tables").glob("*.parquet"))]
            raise UserError(f"Study {self.name} has no table '{name}' (it has: {', '.join(there) or 'none'}).")
        try:
            frame = pd.read_parquet(file, engine="pyarrow")
        except Exception as error:  # pyarrow raises many kinds
            raise UserError(f"{file} is not readable as Parquet ({error}). Make the table again.") from error
        missing = [column for column in COLUMNS.get(name, ()) if column not in frame.columns]
        if missing:
            raise UserError(f"{file} lacks the columns {missing}; it was damaged or written by something else.")
        return frame

    def drift(self, sinks: bool = False) -> pd.DataFrame:
        """The table ``drift``, which leaves attention sinks out; or with ``sinks`` the same with them.

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
        if self.has_table(name):
            old = self.table(name)
            replaced = pd.MultiIndex.from_frame(old[list(keys)]).isin(pd.MultiIndex.from_frame(rows[list(keys)]))
            rows = pd.concat([old[~replaced], rows], ignore_index=True)
        self.replace(name, rows)

    def replace(self, name: str, rows: pd.DataFrame) -> None:
        """Make these the rows of a table, whatever it held. Atomic."""
        write_atomic(
            self.table_path(name),
            lambda file: rows.to_parquet(file, engine="pyarrow", index=False, compression="zstd"),
        )

    def drop(self, name: str, rows: pd.DataFrame, keys: Sequence[str] = ("arm", "seed", "step")) -> None:
        """Take out of a table, if there is one, what has the same ``keys`` as ``rows``."""
        if self.has_table(name):
            old = self.table(name)
            gone = pd.MultiIndex.from_frame(old[list(keys)]).isin(pd.MultiIndex.from_frame(rows[list(keys)]))
            if gone.any():
                self.replace(name, old[~gone])

    # -- runs ----------------------------------------------------------------------------------------------

    def run_path(self, arm: str, seed: int) -> Path:
        return self.path / "runs" / f"{arm}-s{seed}"

    def runs(self) -> list[tuple[str, int]]:
        """The (arm, seed) pairs that have a training log, sorted."""
        found = []
        for log in sorted((self.path / "runs").glob("*-s*/train.jsonl")):
            arm, _, seed = log.parent.name.rpartition("-s")
            if arm and seed.isdecimal():
                found.append((arm, int(seed)))
        return found

    def checkpoints(self) -> list[tuple[str, int, int, Path]]:
        """(arm, seed, step, folder) of every checkpoint or adapter that is on disk, sorted. A folder gets this name only
        when it is whole."""
        found = []
        for folder in (self.path / "runs").glob("*-s*/checkpoint-*"):
            arm, _, seed = folder.parent.name.rpartition("-s")
            step = folder.name.removeprefix("checkpoint-")
            model = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
            if arm and seed.isdecimal() and step.isdecimal() and model and any(folder.glob("*.safetensors")):
                found.append((arm, int(seed), int(step), folder))
        return sorted(found)

    def train_rows(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """Rows of ``train.jsonl`` in step order; see :func:`read_jsonl` for what resuming leaves behind."""
        return read_jsonl(self.run_path(arm, seed) / "train.jsonl")

    def training(self) -> pd.DataFrame:
        """All runs' logs as one table with columns ``arm, seed, kind, step, …`` (empty if there are none)."""
        rows = [
            {"arm": arm, "seed": seed, **row} for arm, seed in self.runs() for row in self.train_rows(arm, seed)
        ]
        return pd.json_normalize(rows) if rows else pd.DataFrame(columns=["arm", "seed", "kind", "step"])


def last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a table's rows those of the last step of each (arm, seed); rows without a step count as before all others."""
    step = rows["step"].fillna(-1)
    return rows[step == step.groupby([rows["arm"], rows["seed"]], dropna=False).transform("max")]


def rows_of(
    frame: pd.DataFrame, arms: Sequence[Any] | None = None, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """The rows of some arms, in the order of ``arms``, and of some seeds; None: all.

    An arm that was run once, as the base model is, has no seeds to choose from and stays.
    """
    if seeds is not None and not frame.empty:
        once = frame.groupby("arm")["seed"].nunique() <= 1
        frame = frame[frame["seed"].isin(seeds) | frame["arm"].isin(once[once].index)]
    if arms is None:
        return frame
    order = {arm: index for index, arm in enumerate(arms)}
    frame = frame[frame["arm"].isin(order)]
    return frame.sort_values("arm", key=lambda names: names.map(order), kind="stable")


def export(study: Study, target: Path, light: bool = False) -> Study:
    """Copy what can be looked at (manifest, tables, training logs) without the checkpoints: megabytes, not gigabytes.

    ``light`` leaves out the largest: ``token_drift``, and of the logs all but every tenth training step.
    """
    kept = [*study.path.glob("tables/*.parquet"), *study.path.glob("runs/*-s*/train.jsonl")]
    for file in kept:
        if light and file.stem == "token_drift":
            continue
        content = file.read_bytes()
        if light and file.suffix == ".jsonl":
            rows = [row for row in read_jsonl(file) if row.get("kind") != "train" or row["step"] % 10 == 0]
            content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        write_atomic(target / file.relative_to(study.path), lambda out, content=content: out.write(content))
    return Study.create(target, study.manifest)  # the manifest last: only then is it a study


# -- finding studies -----------------------------------------------------------------------------------------


def search_paths() -> list[Path]:
    """Where studies are looked for: ``$CR_INTERP_STUDIES``, ``./studies``, the bundled examples."""
    own = [Path(part) for part in os.environ.get("CR_INTERP_STUDIES", "").split(os.pathsep) if part]
    return [*own, Path("studies"), BUNDLED]


def studies_in(folder: Path) -> dict[str, Path]:
    """Name → folder of the studies directly inside ``folder``; none if it is a study itself."""
    if (folder / "manifest.json").is_file():
        return {}
    return {manifest.parent.name: manifest.parent for manifest in sorted(folder.glob("*/manifest.json"))}


def find_studies() -> dict[str, Path]:
    """Name → folder of every study on the search paths; the first of a name wins.

    A folder of studies is a suite, and its studies are called ``SUITE/SETTING``; of two suites with one name the
    second is hidden as a whole, so that no suite is mixed from two.
    """
    found: dict[str, Path] = {}
    for root in search_paths():
        taken = {name.partition("/")[0] for name in found}
        here = studies_in(root)
        for suite in sorted(root.glob("*")):
            here |= {f"{suite.name}/{name}": path for name, path in studies_in(suite).items()}
        found |= {name: path for name, path in here.items() if name.partition("/")[0] not in taken}
    return found


def open_study(name_or_path: str | Path) -> Study:
    """Open a study by its folder, or by its name on the search paths: one that :func:`find_studies` lists."""
    if Path(name_or_path).is_dir():
        return Study.open(name_or_path)
    studies = find_studies()
    if str(name_or_path) not in studies:
        raise unknown("study", str(name_or_path), studies)
    return Study.open(studies[str(name_or_path)])


# -- files ---------------------------------------------------------------------------------------------------


def write_atomic(path: Path, write: Any) -> None:
    """Write a file so that it is either the old one or the whole new one, even if the machine stops.

    ``write`` takes an open binary file. A full disk or a read-only folder is a :class:`UserError`.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile, whose files only their owner may read: a study is shared with others.
        temporary = path.parent / f".{path.name}.{uuid4().hex}"
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"Could not write {path} ({error.strerror or error}). What was there before is untouched; free some "
            f"space or choose a folder that can be written, then run the same command again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False, sort_keys=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode("utf-8")))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row as one line; a line that a kill left torn is first closed with a newline."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
    except OSError as error:
        raise UserError(
            f"Could not append to {path} ({error.strerror or error}); the rows written so far are kept. Free some "
            f"space or make the folder writable, then resume."
        ) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows by (step, kind), the last written winning: a resumed run repeats the steps after its checkpoint.

    Torn lines are skipped: a kill can leave one.
    """
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for row in _lines(path):
        rows[(int(row.get("step", 0)), str(row.get("kind", "")))] = row
    return [rows[key] for key in sorted(rows)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
