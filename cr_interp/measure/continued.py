"""What a comparison's folder already holds: continue it, add to it, begin it anew, or refuse it.

Mental model. A study of ``compare`` notes under ``made_of`` everything that decides its rows. An unfinished study that is
made of the same is continued. A finished one takes further arms, if nothing else differs. Anything else is refused, or begun
anew with ``--again``. A checkpoint that was measured once is not needed again: the manifest holds its digest.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.errors import UserError
from cr_interp.measure.divergence import Teacher
from cr_interp.measure.pairs import arm_and_seed
from cr_interp.models.loading import Loaded
from cr_interp.models.named_models import model_digest
from cr_interp.study.places import MANIFEST, RUNS, is_study, manifest_of, tables_of
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes
from cr_interp.system.notes import say
from cr_interp.tasks.base import Task

LIST = "list of checkpoints"


def finished(out: Path) -> Study | None:
    """Open the finished study in a folder, if it says which checkpoints it compares; else None."""
    if not is_study(out):
        return None
    study = Study.open(out)
    made = study.manifest.get("made_of")
    listed = isinstance(made, dict) and isinstance(made.get(LIST), list)
    return study if study.manifest.get("finished") and listed else None


def earlier(study: Study) -> dict[str, str]:
    """Map the arms (or ``arm@seed``) of a finished study to their models."""
    listed = (study.manifest.get("made_of") or {})[LIST]
    return {name: where for name, _, where in (str(each).partition("=") for each in listed)}


def digest(before: Study | None, name: str, where: str) -> str:
    """Digest a checkpoint's files. If a finished study has the checkpoint and its files are gone, give the digest that was
    noted.
    """
    noted_then = None if before is None else (before.manifest.get("made_of") or {}).get(f"checkpoint of {name}")
    if noted_then is None or Path(where).exists() or where.startswith("builtin:"):
        return model_digest(where)
    return str(noted_then)


def begun(out: Path, told: Mapping[str, Any], parts: Parts, again: bool, new: Sequence[str] = ()) -> Study | None:
    """Open the study that was begun in a folder; None if there is none, or if it has to begin anew.

    ``new`` checkpoints are added to a finished study. A finished study to which nothing is added is refused, and so is one that
    measures something else. With ``again`` either begins anew; its tables go first, so that a kill leaves a study that is refused
    and not half of one.
    """
    if not is_study(out):
        if tables_of(out):
            raise UserError(
                f"{out} holds tables but no {MANIFEST}. Give another folder with --out, or remove it first."
            )
        return None
    study = Study.open(out)
    study.sweep()
    before = study.manifest.get("made_of")
    if isinstance(before, dict):
        differing = changes(before, _without(parts, new))
    else:  # of before this was noted
        differing = changes({name: study.manifest.get(name) for name in told}, told)
    done = bool(study.manifest.get("finished"))
    if not done and not differing:
        return study
    if done and new and not differing and not again:
        say(
            f"{', '.join(new)}: added to the finished study {study.name}, whose other checkpoints are not measured again."
        )
        return study.update_manifest(finished=None, made_of=parts)
    if again and (out / RUNS).exists():
        raise UserError(
            f"{out} holds a study with runs of its own, which is not measured anew here. Give another folder."
        )
    if again:
        for table in tables_of(out):
            table.unlink()
        manifest_of(out).unlink()
        return None
    if done:
        raise UserError(
            f"{out} already holds a finished study"
            + (f", made with another {', another '.join(differing)}" if differing else "")
            + "; give another folder with --out, or type the command with --again to measure it anew."
        )
    raise UserError(
        f"{out} holds a study that was begun with another {', another '.join(differing)}. Give another folder with --out, or "
        f"type the command with --again to begin it anew."
    )


def _without(parts: Parts, new: Sequence[str]) -> Parts:
    """Give the parts as they were before these checkpoints were added."""
    gone = {f"checkpoint of {name}" for name in new}
    kept = {key: value for key, value in parts.items() if key not in gone}
    return {**kept, LIST: [each for each in parts[LIST] if each.partition("=")[0] not in new]}


# -- what is there of one checkpoint -------------------------------------------------------------------------


def has(study: Study, table: str, arm: str, seed: int) -> bool:
    """Tell whether a table has rows of a checkpoint."""
    if not study.has_table(table):
        return False
    rows = study.table(table)
    return bool(((rows["arm"] == arm) & (rows["seed"] == seed)).any())


def answers_of(generations: pd.DataFrame, arm: str, seed: int | None = None) -> pd.DataFrame:
    """Pick the answers of one checkpoint; without a seed, those of the arm's first seed."""
    mine = generations[generations["arm"] == arm]
    return mine[mine["seed"] == (mine["seed"].min() if seed is None else seed)]


def noted(study: Study, name: str) -> str | None:
    """Read which model was measured under this name; None if none was."""
    arm, seed = arm_and_seed(name)
    told = (study.manifest.get("arms") or {}).get(arm) or {}
    run = (told.get("seeds") or {}).get(str(seed)) if isinstance(told, dict) else None
    found = run if isinstance(run, dict) else told if seed == 0 and "seeds" not in told else {}
    return found.get("model")


def note_checkpoint(study: Study, name: str, where: str, fingerprint: str) -> Study:
    """Note in the manifest that a checkpoint was measured: its place, its place relative to the study, and its fingerprint."""
    arm, seed = arm_and_seed(name)
    about: dict[str, Any] = {"model": where, "fingerprint": fingerprint}
    if Path(where).exists():
        about["beside"] = os.path.relpath(Path(where).resolve(), study.path.resolve())
    arms = study.manifest.get("arms") or {}
    if "@" in name:
        there = arms.get(arm) or {}
        about = {
            **(about if "model" not in there else there),
            "seeds": {**there.get("seeds", {}), str(seed): about},
        }
    seeds = sorted({*study.manifest.get("seeds", [0]), seed})
    return study.update_manifest(arms={**arms, arm: about}, seeds=seeds)


def first_of_all(where: str, name: str, teachers: Teacher, opened: Callable[[str], Loaded]) -> Loaded | None:
    """Load the checkpoint that maps are against, when it was measured before. Give None, and say so, if it is gone."""
    known = teachers.known(where)
    if known is not None:
        return known
    try:
        return opened(where)
    except UserError as error:
        say(f"Maps against {name} are left out, for its model is not here: {error}")
        return None


def warn_of_truncation(rows: pd.DataFrame, name: str, loaded: Loaded, task: Task, much: float = 0.1) -> None:
    """Say how many answers were cut off, if many were: their lengths and divergences are those of beginnings."""
    ends = set(loaded.eos_ids)
    cut = sum(len(ids) >= task.max_new_tokens and int(ids[-1]) not in ends for ids in rows["response_ids"])
    if cut > much * len(rows):
        say(
            f"{cut} of {len(rows)} answers of {name} were cut off at {task.max_new_tokens} tokens; --max-new-tokens "
            f"{4 * task.max_new_tokens} would let more of them end."
        )
