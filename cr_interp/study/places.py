"""Where a study's files lie: the only module that spells their names. No pandas, no torch.

    STUDY/manifest.json               schema version, configuration, fingerprints, versions, times; a folder with one is a study
    STUDY/tables/generations.parquet  a row per arm, seed, example, view, control and sample; with the example's cluster
    STUDY/tables/drift.parquet        a row per arm, seed, site, layer, measure and control
    STUDY/tables/drift_with_sinks.parquet  the same with attention sinks, where drift leaves some out
    STUDY/tables/token_drift.parquet  a row per arm, seed, example, token and site, under the exact context
    STUDY/tables/cka_map.parquet      a row per arm, seed, map and pair of layers
    STUDY/runs/opd-s0/train.jsonl     a row a step, append-only
    STUDY/runs/opd-s0/made_of.json    what the run is trained with
    STUDY/runs/opd-s0/checkpoint-100/ Hugging Face format

A study is given by its folder, a run by its own: a folder may be asked for before there is a study in it.
"""

from pathlib import Path

MANIFEST, LOG, NOTE = "manifest.json", "train.jsonl", "made_of.json"
TABLES, RUNS = "tables", "runs"
CHECKPOINT = "checkpoint-"
#: Folders of runs, and of checkpoints in one of them.
EVERY_RUN, EVERY_CHECKPOINT = "*-s*", f"{CHECKPOINT}*"


def manifest_of(study: Path) -> Path:
    return study / MANIFEST


def is_study(folder: Path) -> bool:
    """Tell whether a folder is a study. Raises :class:`OSError` for a folder that may not be looked into."""
    return manifest_of(folder).is_file()


def table_of(study: Path, name: str) -> Path:
    return study / TABLES / f"{name}.parquet"


def tables_of(study: Path) -> list[Path]:
    """List the tables that are there, sorted."""
    return sorted((study / TABLES).glob("*.parquet"))


def run_of(study: Path, arm: str, seed: int) -> Path:
    """Name the folder of a run.

    >>> log_of(run_of(Path("studies/mine"), "opd", 0)).as_posix()
    'studies/mine/runs/opd-s0/train.jsonl'
    """
    return study / RUNS / f"{arm}-s{seed}"


def run_in(folder: Path) -> tuple[str, int] | None:
    """Read arm and seed in a run's folder's name; None for a folder that is called otherwise.

    >>> run_in(Path("runs/opd-s0")), run_in(Path("runs/opd-sx"))
    (('opd', 0), None)
    """
    arm, _, seed = folder.name.rpartition("-s")
    try:
        is_text = bool(arm.encode())  # the bytes of a folder's name may be none
    except UnicodeEncodeError:
        is_text = False
    return (arm, int(seed)) if is_text and seed.isascii() and seed.isdecimal() and len(seed) < 16 else None


def runs_of(study: Path) -> list[Path]:
    """List the folders of runs, sorted: whatever is named like one."""
    return sorted((study / RUNS).glob(EVERY_RUN))


def log_of(run: Path) -> Path:
    return run / LOG


def note_of(run: Path) -> Path:
    return run / NOTE


def checkpoint_of(run: Path, step: int) -> Path:
    """Name the folder of the checkpoint of a step, which has this name only when it is whole."""
    return run / f"{CHECKPOINT}{step}"
