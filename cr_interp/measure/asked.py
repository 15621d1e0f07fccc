"""What a checkpoint was asked, as parts that can be compared: task, contexts, examples, decoding.

Mental model. Rows of a table say with ``made_of`` what they were made of. ``a1b2c3d4e5f60718-9f8e7d6c5b4a3920`` is the digest
of what was asked, then the digest of the checkpoint's files. States that were read on another arm's responses have that
checkpoint's digest as a third part. What was asked is written out once for a study, in its manifest under ``asked``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.measure.subject import Subject
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts, changes, code_digest, digest_of, flat, rows_digest
from cr_interp.tasks.base import TakesTurns, Task
from cr_interp.views import Given, NoContext

#: The column that says what a row was made of.
COLUMN = "made_of"


def task_parts(task: Task, name: str) -> Parts:
    """Name the task by its content: a name for those of this package, a digest for a file."""
    path = Path(name)
    described = getattr(task, "description", None)
    if path.suffix == ".py":
        from cr_interp.tasks.yours.own_code import module_of

        content = {"code of the task": code_digest(path, module_of(path))}
    elif described is not None:
        content = {"description of the task": digest_of(described.told())}
    else:
        content = {"task": name}
    content |= getattr(task, "grader_parts", dict)()
    turns = task.max_turns if isinstance(task, TakesTurns) else 1
    return {**content, "max_new_tokens": task.max_new_tokens, "max_turns": turns}


def context_parts(contexts: Mapping[str, Given]) -> Parts:
    return {f"context ({control})": digest_of(context.to_dict()) for control, context in contexts.items()}


def asked_parts(
    subject: Subject, name: str, no_context: NoContext, template: Mapping[str, Any] | None = None
) -> Parts:
    """List all that decides a checkpoint's rows, except the checkpoint. ``name`` is the task's, as it was given."""
    return {
        **task_parts(subject.task, name),
        "no_context": no_context,
        **flat(dict(template or {}), "template."),
        **context_parts(subject.contexts),
        "evaluation data": rows_digest(subject.examples),
        **flat(subject.evaluation.told(), "evaluation."),
    }


def made_of(asked: Mapping[str, Any], checkpoint: str, responses: str | None = None) -> str:
    """Return the value of the column; ``responses`` is the checkpoint whose responses were read, if not its own."""
    return "-".join(part.removeprefix("#") for part in (digest_of(asked), checkpoint, responses) if part)


def note_asked(study: Study, asked: Parts) -> Study:
    """Write out in the manifest what rows with this digest were asked, before there are any."""
    there = study.manifest.get("asked") or {}
    key = digest_of(asked)
    return study if key in there else study.update_manifest(asked={**there, key: asked})


def row_changes(study: Study, found: str, expected: str, asked: Parts) -> list[str]:
    """Say why rows with ``found`` in their column are not those that would be made now; empty if they are."""
    if found == expected:
        return []
    old, new = found.split("-"), expected.split("-")
    told = (study.manifest.get("asked") or {}).get(f"#{old[0]}")
    why = []
    if old[0] != new[0]:
        why = changes(told, asked) if isinstance(told, dict) else ["question (other content)"]
    if old[1:2] != new[1:2]:
        why.append("checkpoint (other content)")
    return why or ["set of responses that were read (other content)"]


def rows_made_of(frame: pd.DataFrame) -> dict[tuple[str, int, int], set[str | None]]:
    """Map (arm, seed, step) → what its rows were made of; None for rows that are older than the column."""
    found: dict[tuple[str, int, int], set[str | None]] = {}
    column = frame[COLUMN] if COLUMN in frame else pd.Series(None, index=frame.index, dtype=object)
    pairs = pd.DataFrame(
        {**{key: frame[key] for key in ("arm", "seed", "step")}, COLUMN: column}
    ).drop_duplicates()
    for arm, seed, step, value in pairs.itertuples(index=False):
        found.setdefault((str(arm), int(seed), int(step)), set()).add(value if isinstance(value, str) else None)
    return found
