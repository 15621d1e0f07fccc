"""What screening found of one setting, as a small file that outlives its checkpoints.

Mental model. Screening a grid takes longer than a machine may be at hand. So of each setting what the rules read, its curves and
its outcomes at the chosen rate, is written into ``OUT/screened/SETTING.json``, and a copy of that beside the preregistration
(``preregistrations/NAME/``) is as good: a setting that has one is not trained again. A file names the preregistration that it
belongs to, so none goes over to another.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, model_validator

from cr_interp.configuration import Strict, validated
from cr_interp.errors import UserError
from cr_interp.files import write_json
from cr_interp.provenance import provenance
from cr_interp.system.text_files import read_json
from training.settings import MOST
from training.studies.preregistration import FOLDER, Preregistration
from training.studies.screening import CURVE, OUTCOME

PLACE = "screened"


Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=100)]
Seed = Annotated[int, Field(ge=0)]


class Curve(Strict):
    """A run's accuracy without the context on validation items, at its evaluations."""

    rate: Rate
    seed: Seed
    step: tuple[Annotated[int, Field(ge=0, le=MOST)], ...] = Field(min_length=1)
    acc_x: tuple[Share, ...]

    @model_validator(mode="after")
    def _rises(self) -> "Curve":
        if len(self.step) != len(self.acc_x) or sorted(set(self.step)) != list(self.step):
            raise ValueError("'step' rises, and 'acc_x' has a value for each step")
        return self


class Outcome(Strict):
    """A seed's outcome at the chosen rate. Harm is null where nothing was right without the context."""

    rate: Rate
    seed: Seed
    acc_x: Share
    harm: Share | None
    harm_irrelevant: Share | None
    teacher: Share


class Screened(Strict):
    """A setting's file."""

    setting: str
    preregistration: str
    git_revision: str | None
    versions: dict[str, str | None]
    curves: tuple[Curve, ...] = Field(min_length=1)
    outcomes: tuple[Outcome, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "Screened":
        runs, ends = [(each.rate, each.seed) for each in self.curves], [each.seed for each in self.outcomes]
        if len(set(runs)) < len(runs) or len(set(ends)) < len(ends):
            raise ValueError("a run stands there twice")
        if len({each.rate for each in self.outcomes}) > 1 or {seed for _, seed in runs} != set(ends):
            raise ValueError("'outcomes' has one of every seed, all at the chosen rate")
        return self


def read_screened(
    plan: Preregistration, out: Path | None, setting: str
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Read the curves and outcomes of a setting that has been screened (rows :data:`CURVE` and :data:`OUTCOME`); None for one
    that has not. The file is among the studies in ``out`` (None: no matter which), or beside the preregistration.

    Raises :class:`UserError` for a file that is damaged or about another setting. One that belongs to another preregistration
    is passed over: that is another experiment.
    """
    folders = [*([] if out is None else [out / PLACE]), FOLDER / plan.name]
    for path in (folder / f"{setting}.json" for folder in folders):
        if not path.is_file():
            continue
        told = validated(Screened, read_json(path, "what screening found"), path)
        if told.setting != setting:
            raise UserError(f"{path} is about the setting {told.setting!r}, not about {setting}. Remove it.")
        if told.preregistration == plan.before_choice.digest:
            _check_whole(told, plan, path)
            curves = [
                (setting, run.rate, run.seed, step, acc_x)
                for run in told.curves
                for step, acc_x in zip(run.step, run.acc_x, strict=True)
            ]
            outcomes = pd.DataFrame([{"setting": setting, **each.model_dump()} for each in told.outcomes])
            return pd.DataFrame(curves, columns=CURVE), outcomes[list(OUTCOME)].astype(
                {"harm": float, "harm_irrelevant": float}
            )
    return None


def _check_whole(told: Screened, plan: Preregistration, path: Path) -> None:
    """Refuse a file that lacks a run of the grid, or has one more: the rules would choose from another grid."""
    group, *_ = plan.parts(told.setting)
    asked = {(rate, seed) for rate in group.rates for seed in plan.screening.seeds}
    if wrong := asked ^ {(each.rate, each.seed) for each in told.curves}:
        rate, seed = min(wrong)
        raise UserError(
            f"{path} does not hold the grid that {plan.name} asks for: rate {rate:g} with seed {seed} is "
            f"{'missing' if (rate, seed) in asked else 'none of it'}. Remove the file, so that the setting is screened again."
        )


def write_screened(
    plan: Preregistration, out: Path, setting: str, curves: pd.DataFrame, outcomes: pd.DataFrame
) -> None:
    """Write what screening found of a setting: rows :data:`CURVE` and :data:`OUTCOME`."""
    made = provenance()
    told = Screened(
        setting=setting,
        preregistration=plan.before_choice.digest,
        git_revision=made["git_revision"],
        versions=made["versions"],
        curves=tuple(
            Curve(rate=rate, seed=seed, step=tuple(run["step"]), acc_x=tuple(run["acc_x"]))
            for (rate, seed), run in curves.groupby(["rate", "seed"], sort=True)
        ),
        outcomes=tuple(
            Outcome(**{name: None if value != value else value for name, value in row.items()})
            for row in outcomes[list(Outcome.model_fields)].to_dict("records")
        ),
    )
    path = out / PLACE / f"{setting}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, told.model_dump(mode="json"))
