"""What screening wrote and the confirmation reads: the chosen settings and the sentinels, row by row.

Mental model. Both files are CSV, so that a reader can open them, and both decide what is run, so every row is checked when it
is read: numbers within bounds, a setting that is a candidate, no setting twice.
"""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from cr_interp.configuration import Strict, validated
from cr_interp.errors import UserError
from cr_interp.system.names import Name
from cr_interp.tasks.yours.local_rows import read_local
from training.settings import MOST
from training.studies.preregistration import Preregistration
from training.studies.screening import is_settled

CHOICE, SENTINELS = "choice.csv", "sentinels.csv"


class Chosen(Strict):
    """A row of ``choice.csv``, as far as it decides what is run."""

    setting: str
    rate: float = Field(gt=0, le=100)
    train_steps: int = Field(gt=0, le=MOST)
    chosen: bool


class Sentinel(Strict):
    """A row of ``sentinels.csv``."""

    name: Name
    setting: str
    kind: Literal["harmless", "early"]
    rate: float = Field(gt=0, le=100)
    train_steps: int = Field(gt=0, le=MOST)


Row = TypeVar("Row", Chosen, Sentinel)


def read_choice(out: Path, plan: Preregistration) -> list[Chosen]:
    """Read what screening chose. Raises :class:`UserError` before as many candidates have been screened as decide the choice,
    and for a file that it has not written so."""
    path = out / CHOICE
    screened = _read(path, Chosen, plan) if path.is_file() else []
    if len({row.setting for row in screened}) < len(screened):
        raise UserError(f"{path} names a setting twice. Run --screen again, which writes it.")
    known, in_order = {each.setting for each in screened}, sorted(plan.settings(), key=plan.order)
    left = [name for name in in_order if name not in known]
    taken = [each.setting for each in screened if each.chosen]
    without = sum(each.kind == "harmless" for each in read_sentinels(out, plan)) if left else 0
    # With a gap in the order some settings were screened out of turn.
    if left and not (known == set(in_order[: len(known)]) and is_settled(taken, without, plan)):
        raise UserError(
            f"{len(left)} of {len(plan.settings())} candidates have not been screened ({', '.join(left[:3])}, …), and those that "
            f"have been do not decide the choice. Run --screen first."
        )
    return screened


def read_sentinels(out: Path, plan: Preregistration) -> list[Sentinel]:
    """Read which settings are run beside the chosen ones and counted apart."""
    path = out / SENTINELS
    return _read(path, Sentinel, plan) if path.is_file() and path.stat().st_size > 1 else []


def _read(path: Path, kind: type[Row], plan: Preregistration) -> list[Row]:
    rows = read_local(path)
    names = [name for name in kind.model_fields if name not in rows.column_names]
    if names:
        raise UserError(f"{path} lacks the columns {', '.join(names)}. Run --screen again, which writes it.")
    found = []
    for number in range(len(rows)):
        given = {name: rows[name][number] for name in kind.model_fields}
        row = validated(kind, given, path.with_name(f"{path.name}, {rows.place(number)}"))
        plan.parts(row.setting)  # or it is no candidate
        found.append(row)
    return found
