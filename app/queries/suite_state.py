"""The tables of a suite that the Suite page shows, computed once for all sessions until a file of the suite changes."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from app.queries.state import Stamp, arms_of, controls_of, stamp_of
from cr_interp.tables import ablations as suite_ablations
from cr_interp.tables import suite
from cr_interp.tables.suite import Suite
from cr_interp.vocabulary import CONTROLS, arm_order

_cached = st.cache_resource(max_entries=64, show_spinner=False)


def stamp(chosen: Suite) -> Stamp:
    """Return what the tables of all settings, and their training logs, are valid for.

    Looked up once for each suite that is opened, as a page does whenever it runs: there are hundreds of logs, and many ask.
    """
    kept = vars(chosen)
    if "_stamp" not in kept:
        kept["_stamp"] = _stamp_now(chosen)
    return kept["_stamp"]


def _stamp_now(chosen: Suite) -> Stamp:
    files = [study.table_path(name) for study in chosen.studies.values() for name in ("generations", "drift")]
    logs = [log for study in chosen.studies.values() for log in study.logs()]
    return stamp_of(*files, *logs)


@dataclass(frozen=True)
class There:
    """All that any of the settings has."""

    arms: tuple[str, ...]
    controls: tuple[str, ...]


def there(chosen: Suite) -> There:
    """Return the arms and contexts that can be chosen. A setting whose answers cannot be read counts with those that its
    manifest names.
    """
    return _there(chosen.path, stamp(chosen))


def setting_rows(chosen: Suite, arms: tuple[str, ...], control: str) -> pd.DataFrame:
    return _setting_rows(chosen.path, stamp(chosen), arms, control)


def comparisons(chosen: Suite, arm: str, baseline: str, control: str) -> pd.DataFrame:
    return _comparisons(chosen.path, stamp(chosen), arm, baseline, control)


def ablation_rows(chosen: Suite, baseline: str, control: str) -> pd.DataFrame:
    return _ablation_rows(chosen.path, stamp(chosen), baseline, control)


def has_ablations(chosen: Suite) -> bool:
    """Tell whether there are ablations, without comparing anything: the page asks before it knows whether anybody will look
    at them.
    """
    return _has_ablations(chosen.path, stamp(chosen))


def drift(chosen: Suite, measure: str, control: str) -> pd.DataFrame:
    return _drift(chosen.path, stamp(chosen), measure, control)


def early_gap(chosen: Suite, arms: tuple[str, ...]) -> pd.DataFrame:
    return _early_gap(chosen.path, stamp(chosen), arms)


def lacking(chosen: Suite) -> dict[str, str]:
    return _lacking(chosen.path, stamp(chosen))


@_cached
def _there(path: Path, files: Stamp) -> There:
    studies = suite.open_suite(path).studies.values()
    arms = {arm for study in studies for arm in arms_of(study)}
    controls = {control for study in studies for control in controls_of(study)}
    known = [name for name in CONTROLS if name in controls]
    return There(tuple(arm_order(arms)), (*known, *sorted(controls - set(known))))


@_cached
def _setting_rows(path: Path, files: Stamp, arms: tuple[str, ...], control: str) -> pd.DataFrame:
    return suite.setting_rows(suite.open_suite(path), arms, control)


@_cached
def _comparisons(path: Path, files: Stamp, arm: str, baseline: str, control: str) -> pd.DataFrame:
    return suite.comparisons(suite.open_suite(path), arm, baseline, control)


@_cached
def _ablation_rows(path: Path, files: Stamp, baseline: str, control: str) -> pd.DataFrame:
    return suite_ablations.ablation_rows(suite.open_suite(path), control, baseline)


@_cached
def _has_ablations(path: Path, files: Stamp) -> bool:
    return bool(suite_ablations.ablated(suite.open_suite(path)).studies)


@_cached
def _drift(path: Path, files: Stamp, measure: str, control: str) -> pd.DataFrame:
    return suite.suite_drift(suite.open_suite(path), measure, control)


@_cached
def _early_gap(path: Path, files: Stamp, arms: tuple[str, ...]) -> pd.DataFrame:
    return suite.early_gap(suite.suite_training(suite.open_suite(path)), arms=arms)


@_cached
def _lacking(path: Path, files: Stamp) -> dict[str, str]:
    return suite.unfinished(suite.open_suite(path))
