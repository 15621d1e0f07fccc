"""One model of a comparison after the other: opened, checked, asked, and measured.

Mental model. A :class:`Comparison` holds what is the same for all models, the study once there is one, and the first model
while maps are made against it. It is told to take a model twice, once to answer and once to be measured, and does what the
study does not have yet. Models are let go when a step is done, so that the next one does not come beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.capture.sites import blocks
from cr_interp.errors import UserError
from cr_interp.measure.asked import made_of
from cr_interp.measure.continued import answers_of, first_of_all, has, note_checkpoint, noted, warn_of_truncation
from cr_interp.measure.divergence import Own, Teacher
from cr_interp.measure.evaluate import Sampler
from cr_interp.measure.fitting import fitting
from cr_interp.measure.in_process_vllm import engine_for
from cr_interp.measure.pairs import arm_and_seed
from cr_interp.measure.readings import Readings
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, behaviour_rows, own_responses, own_turns, with_tokens
from cr_interp.models.loading import Loaded, fingerprint, tokenizer_fingerprint
from cr_interp.provenance import now, provenance
from cr_interp.study.analyses import analyses, fill
from cr_interp.study.study import Study
from cr_interp.system.digests import Parts
from cr_interp.tasks.base import Task
from cr_interp.views import NoContext


@dataclass
class Comparison:
    """The models (name → where each is) with what all are asked, and how far that is."""

    models: Mapping[str, str]
    order: Sequence[str]
    """Names, in the order in which they are measured: maps are against the first."""
    files: Mapping[str, str]
    """Name → digest of the model's files."""
    task: Task
    no_context: NoContext
    evaluation: Evaluation
    asked: Parts
    """What is asked, as it is noted beside every row."""
    told: Mapping[str, Any]
    """Sections that a new study's manifest begins with."""
    out: Path
    opened: Callable[[str], Loaded]
    teachers: Teacher
    fixed: str | None
    """The arm on whose responses all are measured; None: each on its own."""
    across: bool
    sites_per_pass: int | None
    engine: str
    study: Study | None
    first: Loaded | None = None

    def answer(self, name: str) -> None:
        """Have a model answer, unless the study has its answers and divergences."""
        arm, seed = arm_and_seed(name)
        if self.study is not None and all(has(self.study, t, arm, seed) for t in ("generations", "divergence")):
            return
        if not self._is_done(name):
            self._answered(name)

    def measure(self, name: str, bar: Callable[[str], Callable[[int, int], None]]) -> None:
        """Have a model answer as :meth:`answer` does, read its states, and note that it was measured. ``bar`` opens a bar."""
        if self._is_done(name):
            return
        loaded, subject, study = self._answered(name)
        arm, seed = arm_and_seed(name)
        generations = study.table("generations")
        self.study = study = with_tokens(study, generations, self.fixed or "own")
        answers = answers_of(generations, self.fixed or arm, None if self.fixed else seed)
        given = Readings(
            loaded,
            subject,
            own_responses(answers),
            self._counterpart(name, loaded),
            self.sites_per_pass,
            progress=bar(name),
            turns=own_turns(answers),
            example_tokens=study.manifest["example_tokens"],
        )
        origin = made_of(self.asked, self.files[name], self.files[self.order[0]] if self.fixed else None)
        place_of = {"arm": arm, "seed": seed, "step": 0, "made_of": origin}
        fitting(subject, lambda some: fill(study, analyses("capture"), replace(given, subject=some), **place_of))
        if self.across and name == self.order[0]:
            self.first = loaded
        self.study = note_checkpoint(study, name, self.models[name], fingerprint(loaded.model, loaded.tokenizer))

    def _is_done(self, name: str) -> bool:
        return self.study is not None and noted(self.study, name) == self.models[name]

    def _answered(self, name: str) -> tuple[Loaded, Subject, Study]:
        """Open a model, check that it can stand beside the others, and put its answers and divergences into the study."""
        where, (arm, seed) = self.models[name], arm_and_seed(name)
        loaded = self.teachers.known(where) or self.opened(where)
        subject = Subject.of(self.task, loaded.tokenizer, self.no_context, self.evaluation)
        if self.study is None:
            self.study = self._created(loaded, subject)
        study = self.study
        self._check_alike(study, name, loaded)
        origin = made_of(self.asked, self.files[name])
        if not has(study, "generations", arm, seed):
            rows = _put_answers(study, loaded, subject, arm, seed, origin, engine_for(self.engine, where))
            warn_of_truncation(rows, name, loaded, self.task)
        if not has(study, "divergence", arm, seed):
            _put_divergence(study, loaded, subject, arm, seed, origin, self.teachers.of(loaded, where))
        return loaded, subject, study

    def _created(self, loaded: Loaded, subject: Subject) -> Study:
        """Write the manifest: what was told, and what only a model that is open says."""
        manifest = {
            "name": self.out.name,
            "created": now(),
            "finished": None,
            **provenance(),
            **self.told,
            "seeds": [0],
            "tokenizer_fingerprint": tokenizer_fingerprint(loaded.tokenizer),
            "context": subject.contexts["exact"].to_dict(),
            "ends": sorted(loaded.eos_ids),
        }
        if len(subject.contexts) > 1:
            manifest["controls"] = {control: each.to_dict() for control, each in subject.contexts.items()}
        return Study.create(self.out, manifest)

    def _check_alike(self, study: Study, name: str, loaded: Loaded) -> None:
        """Refuse a model whose tokens or whose ends of a turn are not those of the models before it."""
        where = self.models[name]
        if tokenizer_fingerprint(loaded.tokenizer) != study.manifest["tokenizer_fingerprint"]:
            raise UserError(
                f"{where} ({name}) has another tokenizer or chat template than the first checkpoint, so their views "
                f"cannot be compared token by token. Give checkpoints of one model family."
            )
        ends = sorted(loaded.eos_ids)
        if ends != study.manifest.get("ends", ends):
            raise UserError(
                f"{where} ({name}) ends its turns with {_words(loaded, ends)}, the checkpoints before it with "
                f"{_words(loaded, study.manifest['ends'])}, so their answers would be cut in different places. "
                f"Give all the same eos_token_id in generation_config.json."
            )

    def _counterpart(self, name: str, loaded: Loaded) -> Loaded | None:
        """Return the model that a map is made against. None between models of different depth: their layers have no
        counterparts.
        """
        first = self.order[0]
        if self.across and self.first is None and name != first:  # it was measured before
            self.first = first_of_all(self.models[first], first, self.teachers, self.opened)
        alike = self.first is not None and len(blocks(self.first.model)) == len(blocks(loaded.model))
        return self.first if alike else None


def _put_answers(
    study: Study, loaded: Loaded, subject: Subject, arm: str, seed: int, origin: str, sampler: Sampler | None
) -> pd.DataFrame:
    rows = fitting(subject, lambda some: behaviour_rows(loaded, some, arm, seed, 0, sampler))
    study.put("generations", rows.assign(made_of=origin))
    return rows


def _put_divergence(
    study: Study, loaded: Loaded, subject: Subject, arm: str, seed: int, origin: str, teacher: Loaded | None
) -> None:
    answers = answers_of(study.table("generations"), arm, seed)
    own = Own(loaded, subject, own_responses(answers), own_turns(answers), teacher)
    place_of = {"arm": arm, "seed": seed, "step": 0, "made_of": origin}
    fitting(subject, lambda some: fill(study, analyses("evaluate"), replace(own, subject=some), **place_of))


def _words(loaded: Loaded, ids: Sequence[int]) -> str:
    """Spell token ids as the tokenizer's vocabulary does."""
    return ", ".join(map(str, loaded.tokenizer.convert_ids_to_tokens(list(ids))))
