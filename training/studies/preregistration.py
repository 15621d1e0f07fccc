"""A preregistration: everything that decides an experiment's answer, in one file that is committed before any run.

Mental model. The file is data, and its digest is its identity: what is run notes the digest, and whoever goes on with another
file is refused. Candidates are screened with the baseline alone (``screening.py`` has the rules of choice, which look at no
anchored arm); the chosen settings are confirmed with every arm on fresh seeds and items; ``cr_interp/tables/confirmation.py``
says what came out. No torch here.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from cr_interp.configuration import Strict, read_mapping, validated
from cr_interp.errors import UserError, unknown
from cr_interp.measure.settings import Drawn, Evaluation
from cr_interp.system.names import Name, Seed, distinct
from training.objectives import arm_terms
from training.settings import MANY, MOST, Plateau, StudyConfig, Training

FOLDER = Path(__file__).parents[1] / "preregistrations"
Rate = Annotated[float, Field(gt=0, le=100)]
#: Candidates times rates.
MOST_RUNS = 2000
Seeds = Annotated[tuple[Seed, ...], AfterValidator(distinct), Field(min_length=1)]


class Screening(Strict):
    """The look at candidates: the baseline, on validation items, at every rate of the grid."""

    arm: Name
    seeds: Seeds
    items: int = Field(gt=0, le=MANY)
    every: int = Field(gt=0, le=MOST)
    """Steps between two evaluations."""
    cap: int = Field(gt=0, le=MOST)
    """Longest run, in steps."""
    plateau: Plateau
    within: float = Field(ge=0, le=1)
    """Rates whose plateau is so close to the best one count as equal; of these the one with the fewest steps is taken."""
    of_equal: Literal["lowest", "highest"]
    """Which rate is taken where several need as few steps. A plateau is found after twice ``plateau.window`` evaluations at the
    earliest, so several often do, and the lowest is the gentlest."""
    stretch: float = Field(ge=1, le=100)
    """All arms are trained for so many times the steps to the plateau."""


class Eligible(Strict):
    """The conditions on which a candidate carries the claim's premise: the context is internalised, and giving it back harms."""

    of_teacher: float = Field(gt=0, le=1)
    harm: float = Field(ge=0, le=1)
    above_irrelevant: float = Field(ge=0, le=1)


class Choice(Strict):
    """The number of settings that are taken, and their spread."""

    settings: int = Field(gt=0, le=1000)
    of_one_task: int = Field(gt=0, le=1000)
    families: int = Field(gt=0, le=1000)
    games: int = Field(ge=0, le=1000)


class Sentinels(Strict):
    """Settings counted apart: those without Harm, and those stopped at an early share of their steps (regime B)."""

    without_harm: int = Field(ge=0, le=1000)
    harmless: float = Field(ge=0, le=1)
    """Harm of the baseline below which a setting is without."""
    stopped_early: int = Field(ge=0, le=1000)
    early: float = Field(gt=0, le=1)


class Adaptive(Strict):
    """The choice of ``nca_adaptive``'s terms: on the screening seeds and validation items, before the confirmation.

    The form with the highest obedience to a new instruction, among those whose mean Harm over the harmed settings is not
    above ``nca``'s by more than ``harm``, and whose mean Acc_xc over the runs that are stopped early is not below the
    baseline's by more than ``loss``. If none keeps both, the one that misses by the least.
    """

    settings: int = Field(gt=0, le=1000)
    """So many of the chosen settings, the first in the hash's order."""
    forms: dict[Name, tuple[str, ...]] = Field(min_length=1)
    harm: float = Field(ge=0, le=1)
    loss: float = Field(ge=0, le=1)


class Confirmation(Strict):
    """The runs on the chosen settings."""

    seeds: Seeds
    items: int = Field(gt=0, le=MANY)
    draw: int = Field(gt=0, lt=2**32)
    """Which test items are drawn."""
    items_sha256: str = Field(pattern="^([0-9a-f]{64})?$")
    """Digest of all items' ids (:func:`digest_of_all_items`); empty in a draft."""
    arms: dict[Name, tuple[str, ...]] = Field(min_length=2)
    adaptive: tuple[str, ...] | None
    """Terms of ``nca_adaptive``; null until it is chosen, and nothing is confirmed before."""


class Success(Strict):
    """Settings needed of ``of``: Harm lower, lower after Holm, Acc_x not lower by the margin, Harm lower on common prompts."""

    lower: int = Field(gt=0, le=1000)
    holm: int = Field(gt=0, le=1000)
    not_lower: int = Field(gt=0, le=1000)
    common: int = Field(gt=0, le=1000)
    of: int = Field(gt=0, le=1000)
    failure: int = Field(ge=0, le=1000)
    """Lower in so many or fewer: the claim has failed. Between the two the result is inconclusive."""
    margin: float = Field(gt=0, lt=1)


class Candidates(Strict):
    """Every task with every model, at every rate."""

    group: Name
    tasks: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(min_length=1)
    rates: Annotated[tuple[Rate, ...], AfterValidator(distinct)] = Field(min_length=1)
    teacher: str | None = None
    games: bool = False
    batch_size: int = Field(64, gt=0, le=MANY)
    bf16: bool = False
    """Matrix products in bfloat16."""
    every: int | None = Field(None, gt=0, le=MOST)
    """Steps between two evaluations; null: the screening's. For models that need few steps, each of them dear."""
    screened_items: int | None = Field(None, gt=0, le=MANY)
    """Validation items; null: the screening's."""
    seeds: int | None = Field(None, gt=0, le=1000)
    """So many of the confirmation's seeds; null: all."""
    items: int | None = Field(None, gt=0, le=MANY)
    """Test items, where a task has fewer; null: the confirmation's."""
    leave_out: Drawn | None = None
    """The draw of test items that has been published: left out, with everything of their clusters. null: none has."""


class Preregistration(Strict):
    """See ``preregistrations/suite-2.yaml``."""

    name: Name
    screening: Screening
    eligible: Eligible
    choice: Choice
    sentinels: Sentinels
    adaptive: Adaptive
    confirmation: Confirmation
    success: Success
    candidates: tuple[Candidates, ...] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """Identity of everything that it says; comments and the order of keys are no part of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def before_choice(self) -> "Preregistration":
        """This, as it was before the terms of ``nca_adaptive`` were chosen."""
        return self.model_copy(update={"confirmation": self.confirmation.model_copy(update={"adaptive": None})})

    def settings(self) -> dict[str, Candidates]:
        """Map setting → its group, in the file's order; the group's one task and one model are in :func:`parts`."""
        return {setting: group for setting, group, *_ in self._each()}

    def parts(self, setting: str) -> tuple[Candidates, str, str]:
        """Group, task and model of a setting."""
        for name, group, task, model in self._each():
            if name == setting:
                return group, task, model
        raise unknown("setting", setting, self.settings())

    def order(self, setting: str) -> str:
        """Place a setting when the eligible ones are taken in turn: nobody's preference, the same for everybody."""
        return hashlib.sha256(f"{self.name} {setting}".encode()).hexdigest()

    def screened(self, setting: str, rate: float) -> StudyConfig:
        """Return the study in which a candidate is screened at a rate."""
        asked, (group, task, model) = self.screening, self.parts(setting)
        return self._study(
            {
                "name": f"{setting}-lr{rate:g}",
                "task": task,
                "model": model,
                "teacher": group.teacher,
                "arms": [asked.arm],
                "seeds": asked.seeds,
                "training": {
                    "steps": asked.cap,
                    "batch_size": group.batch_size,
                    "lr": rate,
                    "bf16": group.bf16,
                    "eval_every": group.every or asked.every,
                    "eval_examples": group.screened_items or asked.items,
                    "save_every": asked.cap,
                    "keep_checkpoints": 1,
                    "plateau": asked.plateau.model_dump(),
                },
                "evaluation": {
                    "split": "validation",
                    "examples": group.screened_items or asked.items,
                    "controls": ["exact", "irrelevant"],
                    "permutations": 0,
                },
            }
        )

    def tried(self, setting: str, rate: float, steps: int) -> StudyConfig:
        """Return the study in which the forms of ``nca_adaptive`` are compared: screening seeds, validation items."""
        asked, arms = self.screening, {**self.confirmation.arms, **self.adaptive.forms}
        group, *_ = self.parts(setting)
        names = [asked.arm, "nca", *self.adaptive.forms]
        evaluation = {
            "split": "validation",
            "examples": group.screened_items or asked.items,
            "controls": ["exact", "mismatched"],
            "permutations": 0,
        }
        own = {name: arms[name] for name in names}
        return self._run(setting, setting, own, asked.seeds, rate, steps, evaluation)

    def confirmed(self, setting: str, rate: float, steps: int, name: str | None = None) -> StudyConfig:
        """Return the study in which a chosen setting is confirmed. Raises :class:`UserError` before the adaptive arm is fixed."""
        asked, (group, *_) = self.confirmation, self.parts(setting)
        if asked.adaptive is None:
            raise UserError(
                f"{self.name} does not say yet what nca_adaptive is (confirmation.adaptive is null), so nothing can be "
                f"confirmed. Choose its terms on the screening seeds (--choose), write them there and commit the file."
            )
        evaluation = self.test_items(setting).model_dump()
        own = {**asked.arms, "nca_adaptive": asked.adaptive}
        return self._run(name or setting, setting, own, asked.seeds[: group.seeds], rate, steps, evaluation)

    def test_items(self, setting: str) -> Evaluation:
        """Say what a setting is asked in the confirmation."""
        asked, (group, *_) = self.confirmation, self.parts(setting)
        return Evaluation(
            split="test", examples=group.items or asked.items, seed=asked.draw, leave_out=group.leave_out
        )

    def _run(
        self,
        name: str,
        setting: str,
        arms: Mapping[str, Sequence[str]],
        seeds: Sequence[int],
        rate: float,
        steps: int,
        evaluation: Mapping[str, Any],
    ) -> StudyConfig:
        group, task, model = self.parts(setting)
        return self._study(
            {
                "name": name,
                "task": task,
                "model": model,
                "teacher": group.teacher,
                "arms": list(arms),
                "own_arms": dict(arms),
                "seeds": list(seeds),
                "training": {
                    "steps": steps,
                    "batch_size": group.batch_size,
                    "lr": rate,
                    "bf16": group.bf16,
                    "eval_every": group.every or self.screening.every,
                    "eval_examples": group.screened_items or Training.model_fields["eval_examples"].default,
                    "save_every": steps,
                    "keep_checkpoints": 1,
                },
                "evaluation": dict(evaluation),
            }
        )

    def _study(self, data: dict[str, Any]) -> StudyConfig:
        return validated(StudyConfig, data, Path(f"The preregistration {self.name}, {data['name'][:80]}"))

    def _each(self) -> Iterator[tuple[str, Candidates, str, str]]:
        for group in self.candidates:
            for task in group.tasks:
                for model in group.models:
                    family = model.removeprefix("builtin:").removeprefix("organism-")
                    words = dict.fromkeys([group.group, *task.split(":"), family])
                    yield _slug("-".join(words)), group, task, model


def load_preregistration(name_or_path: str) -> Preregistration:
    """Read a preregistration by its name in ``training/preregistrations`` or by path.

    Raises :class:`UserError` for what cannot be run as it stands: two settings of one name, terms that are none.
    """
    path = Path(name_or_path)
    if not path.is_file():
        known = sorted(each.stem for each in FOLDER.glob("*.yaml"))
        if name_or_path not in known:
            raise unknown("preregistration", name_or_path, known)
        path = FOLDER / f"{name_or_path}.yaml"
    found = validated(Preregistration, read_mapping(path), path)
    runs = sum(len(group.tasks) * len(group.models) * len(group.rates) for group in found.candidates)
    if runs > MOST_RUNS:  # a product, so a short file may name billions
        raise UserError(f"{path} names {runs} runs; {MOST_RUNS} are the most that are screened.")
    names = [setting for setting, *_ in found._each()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: two candidates are called {', '.join(twice)}. Give their groups other names.")
    for name, group in found.settings().items():
        # What cannot be run is said before anything is.
        called = [found.screened(name, rate).name for rate in group.rates]
        if len(set(called)) < len(called):
            raise UserError(f"{path}: two rates of {name} are both called {called[0]}. Round them.")
    adaptive = found.confirmation.adaptive
    fixed = {"nca_adaptive": adaptive} if adaptive else {}
    for arm, terms in {**found.confirmation.arms, **found.adaptive.forms, **fixed}.items():
        arm_terms(arm, {arm: terms})
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
