"""What the user has chosen, and the tables that go with it, read once.

A :class:`Selection` is made by the sidebar before a page runs; pages get it from :func:`current`. Tables and
what is computed from them are cached for all sessions and are read-only: nobody may change a frame in place.
The key of a cache entry is the file's path, time and size, so a study that is made again is read again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cr_interp import behaviour, figures
from cr_interp.errors import UserError
from cr_interp.study import Study

_Stamp = tuple[tuple[str, int, int], ...]
_cached = st.cache_resource(max_entries=128, show_spinner=False)


@dataclass(frozen=True)
class Selection:
    """The shared choices: every page shows this study, these arms, this control; ``arm`` against ``baseline``."""

    study: Study
    all_arms: tuple[str, ...]
    arms: tuple[str, ...]
    control: str
    arm: str
    baseline: str
    image: str = "svg"

    def generations(self) -> pd.DataFrame:
        return table(self.study, "generations")

    def metrics(self) -> pd.DataFrame:
        """Metrics of the chosen arms, in the order of the arms."""
        return self._only(_metrics(self.study.path, *self._generations()))

    def metrics_of(self, *arms: str) -> pd.DataFrame:
        """Metrics of other arms than the chosen ones: those that are compared need not be among them."""
        table = _metrics(self.study.path, *self._generations())
        return table[table["arm"].isin(arms)]

    def differences(self) -> pd.DataFrame:
        return _differences(self.study.path, *self._generations(), self.arm, self.baseline)

    def regimes(self) -> pd.DataFrame:
        return self._only(_regimes(self.study.path, *self._generations()))

    def outcome_shares(self) -> pd.DataFrame:
        shares = self._only(_outcome_shares(self.study.path, *self._generations()))
        return shares[shares["control"].isin(["none", self.control])]

    def drift(self) -> pd.DataFrame:
        return self._only(table(self.study, "drift"))

    def training(self) -> pd.DataFrame:
        log = _training(self.study.path, _stamp(*sorted(self.study.path.glob("runs/*/train.jsonl"))))
        return self._only(log)

    def _generations(self) -> tuple[_Stamp, str]:
        return _stamp(self.study.table_path("generations")), self.control

    def _only(self, frame: pd.DataFrame) -> pd.DataFrame:
        order = {arm: index for index, arm in enumerate(self.arms)}
        frame = frame[frame["arm"].isin(order)]
        return frame.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")


def current() -> Selection:
    """The selection that the sidebar has just made."""
    return st.session_state["selection"]


def table(study: Study, name: str) -> pd.DataFrame:
    """A table of a study, from the cache if the file has not changed."""
    return _table(study.path, _stamp(study.table_path(name)), name)


def arms_of(study: Study) -> list[str]:
    """Arms that a study has rows for; those of its manifest if no table can be read."""
    found: list[Any] = []
    for name in ("generations", "drift"):
        found += _distinct(study, name, "arm")
    declared = study.manifest.get("arms")
    return figures.arm_order(map(str, found or (declared if isinstance(declared, dict) else ())))


def controls_of(study: Study) -> list[str]:
    """Context controls that a study has rows for, the exact context first."""
    found = {*_distinct(study, "generations", "control"), *_distinct(study, "drift", "control")}
    found -= {"none", "repeat", "floor"}  # references that a context is compared with, not contexts
    known = [name for name in behaviour.CONTROLS if name in found]
    return known + sorted(str(name) for name in found - set(known))


def _distinct(study: Study, name: str, column: str) -> list[Any]:
    try:
        return list(table(study, name)[column].dropna().unique())
    except UserError:
        return []  # the page that needs the table says what is wrong with it


def _stamp(*files: Path) -> _Stamp:
    found = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            found.append((str(file), 0, 0))
        else:
            found.append((str(file), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@_cached
def _table(path: Path, stamp: _Stamp, name: str) -> pd.DataFrame:
    return Study.open(path).table(name)


@_cached
def _training(path: Path, stamp: _Stamp) -> pd.DataFrame:
    return Study.open(path).training()


@_cached
def _metrics(path: Path, stamp: _Stamp, control: str) -> pd.DataFrame:
    return _behaviour(behaviour.metrics, path, stamp, control=control)


@_cached
def _differences(path: Path, stamp: _Stamp, control: str, arm: str, baseline: str) -> pd.DataFrame:
    return _behaviour(behaviour.differences, path, stamp, arm=arm, baseline=baseline, control=control)


@_cached
def _regimes(path: Path, stamp: _Stamp, control: str) -> pd.DataFrame:
    return _behaviour(behaviour.regimes, path, stamp, control=control)


@_cached
def _outcome_shares(path: Path, stamp: _Stamp, control: str) -> pd.DataFrame:
    return _behaviour(behaviour.outcome_shares, path, stamp)


def _behaviour(function: Callable[..., pd.DataFrame], path: Path, stamp: _Stamp, **options: Any) -> pd.DataFrame:
    """A study of somebody's own prompts need not have a test split; then all its answers count."""
    generations = _table(path, stamp, "generations")
    split = "test" if (generations["split"] == "test").any() else None
    return function(generations, split=split, **options)
