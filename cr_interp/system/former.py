"""Addresses of the first edition: ``from cr_interp.models.forward import build_view`` goes on working.

Mental model: modules have moved into folders, and scripts of users name them where they were. A finder at the end of the
import system's list answers for the names in :data:`MOVED` (and ``training``'s) with the module itself, so that there is
never a second copy. The project's own code uses the new addresses, and a test holds it to that.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # the import system asks for methods, not for these classes, and they take longer to load than all of this package's ground
    Loader = MetaPathFinder = object

#: former address → address
MOVED: dict[str, str] = {
    "cr_interp.similarity.ends": "cr_interp.ends",
    "cr_interp.suite_report": "cr_interp.report.suite",
    "cr_interp.figure_style": "cr_interp.figures.style",
    "cr_interp.drift_behind": "cr_interp.figures.behind",
    "cr_interp.cells": "cr_interp.figures.cells",
    "cr_interp.drift_figures": "cr_interp.figures.drift",
    "cr_interp.map_figures": "cr_interp.figures.maps",
    "cr_interp.suite_figures": "cr_interp.figures",
    "cr_interp.training_figures": "cr_interp.figures.training",
    "cr_interp.token_html": "cr_interp.figures.token_html",
    "cr_interp.token_strips": "cr_interp.figures.token_strips",
    "cr_interp.tryout_figures": "cr_interp.figures.tryout",
    "cr_interp.behaviour": "cr_interp.tables.behaviour",
    "cr_interp.controls": "cr_interp.tables.controls",
    "cr_interp.drift_tables": "cr_interp.tables.drift",
    "cr_interp.example_pairs": "cr_interp.tables.example_pairs",
    "cr_interp.matching": "cr_interp.tables.matching",
    "cr_interp.obedience": "cr_interp.tables.obedience",
    "cr_interp.pairing": "cr_interp.tables.pairing",
    "cr_interp.suite": "cr_interp.tables.suite",
    "cr_interp.suite_ablations": "cr_interp.tables.ablations",
    "cr_interp.token_view": "cr_interp.tables.token_view",
    "cr_interp.train_log": "cr_interp.study.log",
    "cr_interp.questions": "cr_interp.study.questions",
    "cr_interp.checkpoints": "cr_interp.study.checkpoints",
    "cr_interp.evaluation": "cr_interp.measure.evaluate",
    "cr_interp.drift": "cr_interp.measure.drift",
    "cr_interp.token_measures": "cr_interp.measure.tokens",
    "cr_interp.compare": "cr_interp.measure.compare",
    "cr_interp.case_study": "cr_interp.measure.case_study",
    "cr_interp.tryout": "cr_interp.measure.tryout",
    "cr_interp.turns": "cr_interp.measure.turns",
    "cr_interp.sites": "cr_interp.capture.sites",
    "cr_interp.check": "cr_interp.capture.check",
    "cr_interp.states": "cr_interp.capture.states",
    "cr_interp.adapters": "cr_interp.models.adapters",
    "cr_interp.devices": "cr_interp.models.devices",
    "cr_interp.shards": "cr_interp.models.shards",
    "cr_interp.forward": "cr_interp.models.forward",
    "cr_interp.prefix_cache": "cr_interp.models.prefix_cache",
    "cr_interp.generation": "cr_interp.models.generation",
    "cr_interp.templates": "cr_interp.models.templates",
    "cr_interp.context_text": "cr_interp.tasks.context_text",
    "cr_interp.tasks.rules": "cr_interp.tasks.organisms.rules",
    "cr_interp.tasks.codebook": "cr_interp.tasks.organisms.codebook",
    "cr_interp.tasks.filler": "cr_interp.tasks.organisms.filler",
    "cr_interp.tasks.pairs": "cr_interp.tasks.organisms.pairs",
    "cr_interp.tasks.sentiment": "cr_interp.tasks.language.sentiment",
    "cr_interp.tasks.wordclass": "cr_interp.tasks.language.wordclass",
    "cr_interp.tasks.labels": "cr_interp.tasks.language.labels",
    "cr_interp.tasks.grids": "cr_interp.tasks.games.grids",
    "cr_interp.tasks.frozenlake": "cr_interp.tasks.games.frozenlake",
    "cr_interp.tasks.sokoban": "cr_interp.tasks.games.sokoban",
    "cr_interp.tasks.arena": "cr_interp.tasks.games.arena",
    "cr_interp.tasks.textarena": "cr_interp.tasks.games.textarena",
    "cr_interp.tasks.transcript": "cr_interp.tasks.games.transcript",
    "cr_interp.tasks.own": "cr_interp.tasks.yours.own",
    "cr_interp.tasks.own_code": "cr_interp.tasks.yours.own_code",
    "cr_interp.tasks.described": "cr_interp.tasks.yours.described",
    "cr_interp.tasks.sources": "cr_interp.tasks.yours.sources",
    "cr_interp.tasks.new": "cr_interp.tasks.yours.new",
    "cr_interp.tasks.named": "cr_interp.tasks.yours.named",
    "training.config": "training.settings",
    "training.trainer": "training.run.trainer",
    "training.step": "training.run.step",
    "training.head": "training.run.head",
    "training.lora": "training.run.lora",
    "training.precision": "training.run.precision",
    "training.recompute": "training.run.recompute",
    "training.rollouts": "training.run.rollouts",
    "training.vllm_rollouts": "training.run.vllm_rollouts",
    "training.episodes": "training.run.episodes",
    "training.parallel": "training.run.parallel",
    "training.peak": "training.run.peak",
    "training.distill": "training.run.distill",
    "training.subject": "training.run.subject",
    "training.pipeline": "training.studies.pipeline",
    "training.suite": "training.studies.suite",
    "training.workers": "training.studies.workers",
    "training.jobs": "training.studies.jobs",
    "training.plan": "training.planning.plan",
    "training.plan_report": "training.planning.plan_report",
    "training.memory": "training.planning.memory",
    "training.work": "training.planning.work",
    "training.duration": "training.planning.duration",
    "training.architecture": "training.planning.architecture",
    "training.organism": "training.organisms.organism",
    "training.curriculum": "training.organisms.curriculum",
    "training.pack": "training.organisms.pack",
    "training.pretrain": "training.organisms.pretrain",
    "training.pretrain_state": "training.organisms.pretrain_state",
    "training.card": "training.organisms.card",
}


class _Alias(Loader):
    def __init__(self, address: str) -> None:
        self.address = address

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.address)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own  # the import system has just written the former address into it


class _Former(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Alias(MOVED[name])) if name in MOVED else None


def answer() -> None:
    """Let the former addresses be imported; a second call changes nothing."""
    if not any(isinstance(finder, _Former) for finder in sys.meta_path):
        sys.meta_path.append(_Former())
