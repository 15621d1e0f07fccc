"""What the user has chosen, and the tables that go with it, read once.

A :class:`Selection` is made by the sidebar before a page runs; pages get it from :func:`current`. Tables and
what is computed from them are cached for all sessions and are read-only: nobody may change a frame in place.
The key of a cache entry is the file's path, time and size, so a study that is made again is read again.

The table of single tokens, which may be too large for this, is in ``token_table.py``; what a page lets its reader choose
beyond the sidebar is in ``address.py``.
"""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from app.address import chosen_of
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import behind as drift_behind
from cr_interp.figures import maps as map_figures
from cr_interp.study.log import StudyLogs
from cr_interp.study.rows import counted_split, rows_of
from cr_interp.study.study import Study
from cr_interp.tables import behaviour, example_pairs, flips_by_drift, token_view, verdict_rows
from cr_interp.tables import drift as drift_tables
from cr_interp.tables.controls import relative_rows
from cr_interp.tables.patching import by_effect, patching_table, strongest
from cr_interp.tables.stored import stored
from cr_interp.vocabulary import DERIVED

#: The choices that pages share, beside the study.
SHARED = ("arms", "seeds", "control", "measure", "arm", "baseline", "sinks", "image")
#: Path, time and size of files: what a cache entry is valid for.
Stamp = tuple[tuple[str, int, int], ...]
T = TypeVar("T")
_cached = st.cache_resource(max_entries=128, show_spinner=False)


@dataclass(frozen=True)
class Selection:
    """The shared choices: every page shows this study, these arms and seeds, this control and measure; ``arm`` against
    ``baseline``."""

    study: Study
    all_arms: tuple[str, ...]
    arms: tuple[str, ...]
    control: str
    arm: str
    baseline: str
    image: str = "svg"
    all_seeds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    measure: str = "cosine"
    sinks: bool = False
    """Whether attention sinks count."""
    name: str = ""
    """By which the study is found: its own, or SUITE/SETTING."""

    @property
    def some_seeds(self) -> tuple[int, ...] | None:
        """The chosen seeds; None if that is all of them."""
        return None if set(self.seeds) >= set(self.all_seeds) else self.seeds

    @property
    def token_measure(self) -> str:
        """The chosen measure, if single tokens have it; else the cosine."""
        return self.measure if self.measure in token_view.MOVES else "cosine"

    def address(self, **more: Any) -> dict[str, Any]:
        """Return the query of a link to another page: this study, the other shared choices that are not as they begin, and
        ``more`` for that page. So a link means the same in a tab of its own.
        """
        own = {key: str(value) for key, value in more.items() if value is not None}
        return {"study": self.name, **chosen_of(*SHARED), **own}

    @property
    def files(self) -> Stamp:
        """The files that a figure of this study is valid for."""
        return stamp_of(self.study.path, *sorted(self.study.path.glob("tables/*.parquet")))

    def once(self, what: str, make: Callable[[], T], *more: Hashable) -> T:
        """Return what ``make`` returns, made once for these choices (and ``more``) until a table of the study changes."""
        choices = (self.arms, self.some_seeds, self.control, self.measure, self.sinks, self.arm, self.baseline)
        return _once(what, self.files, (*choices, *more), make)

    @property
    def split(self) -> str:
        """The split whose answers are counted: the test split, or the only one that somebody's own prompts have."""
        return counted_split(table(self.study, "generations"))

    def generations(self) -> pd.DataFrame:
        return rows_of(table(self.study, "generations"), seeds=self.some_seeds)

    def metrics(self) -> pd.DataFrame:
        """Return metrics of the chosen arms, in the order of the arms."""
        return self._only(_metrics(self.study.path, *self._generations()))

    def metrics_of(self, *arms: str) -> pd.DataFrame:
        """Return metrics of other arms than the chosen ones: those that are compared need not be among them."""
        table = _metrics(self.study.path, *self._generations())
        return table[table["arm"].isin(arms)]

    def differences(self) -> pd.DataFrame:
        return _differences(self.study.path, *self._generations(), self.arm, self.baseline)

    def verdict(self) -> tuple[pd.DataFrame, list[str]]:
        """Return the rows of the verdict on ``arm`` and ``baseline``, and its chips; see :mod:`cr_interp.tables.verdict_rows`."""

        pair = (self.arm, self.baseline, self.control)

        def rows() -> pd.DataFrame:
            divergence = table(self.study, "divergence") if self.study.has_table("divergence") else None
            if divergence is not None:
                divergence = rows_of(divergence, seeds=self.some_seeds)
            return verdict_rows.verdict_rows(self.generations(), *pair, self.split, divergence)

        def kept() -> tuple[pd.DataFrame, list[str]]:
            seeds = None if self.some_seeds is None else list(self.some_seeds)
            table_of = stored("verdict_rows", answer_files(self.study), [*pair, seeds], rows, self.study.path)
            return table_of, verdict_rows.chips(self.generations(), *pair, self.split)

        return self.once("verdict", kept)

    def regimes(self) -> pd.DataFrame:
        return self._only(_regimes(self.study.path, *self._generations()))

    def outcome_shares(self) -> pd.DataFrame:
        shares = self._only(_outcome_shares(self.study.path, *self._generations()))
        return shares[shares["control"].isin(["none", self.control])]

    def pairs(self) -> pd.DataFrame:
        """Return the pairs of responses of the chosen arms and seeds; see :func:`cr_interp.tables.example_pairs.paired`."""
        return self._only(_pairs(self.study.path, *self._generations()))

    def case_counts(self) -> pd.DataFrame:
        return self._only(_case_counts(self.study.path, *self._generations()))

    def drift(self) -> pd.DataFrame:
        """Return rows of the chosen arms, seeds and measure (and of its chance level), under every control."""

        def rows() -> pd.DataFrame:
            measures = (self.measure, drift_behind.CHANCE.get(self.measure))
            every = drift_of(self.study, self.sinks)
            if self.measure in DERIVED:
                every = relative_rows(every)
            return rows_of(every[every["measure"].isin(measures)], self.arms, self.some_seeds)

        return self.once("drift", rows)

    def mechanism(self, name: str) -> pd.DataFrame:
        """Return a table of ``cr-interp explain``, of the chosen arms and seeds."""
        return self.once(name, lambda: rows_of(table(self.study, name), self.arms, self.some_seeds))

    def patched(self, group: str, direction: str, readout: str) -> pd.DataFrame:
        """See :func:`cr_interp.tables.patching.patching_table`."""
        asked = group, direction, readout
        return self.once("patched", lambda: patching_table(self.mechanism("patching"), *asked), *asked)

    def strongest(self) -> pd.DataFrame:
        """See :func:`cr_interp.tables.patching.strongest`: of whole answers, of the two arms that are compared."""
        pair = [self.arm, self.baseline]

        def make() -> pd.DataFrame:
            patching = table(self.study, "patching")
            return strongest(patching[patching["arm"].isin(pair)], "answer")

        files = [self.study.table_path("patching")]
        return self.once("strongest", lambda: stored("strongest", files, pair, make, self.study.path))

    def deciding(
        self, groups: Collection[str] = ("harmed", "changed"), direction: str = "repair"
    ) -> pd.Series | None:
        """Name the place that pages speak of first: of the compared arm that has most examples, the layer and site after whose
        patch most whole answers follow; of equal ones that whose controls do least, the stream that is the answer last. None
        without an example.
        """
        found = self.strongest()
        found = found[(found["direction"] == direction) & found["group"].isin(groups) & (found["n_examples"] > 0)]
        if found.empty:
            return None
        return by_effect(found).sort_values("n_examples", ascending=False, kind="stable").iloc[0]

    def flips(self) -> pd.DataFrame:
        """See :func:`cr_interp.tables.flips_by_drift.flips_by_drift`, of the chosen arms and seeds."""

        def make() -> pd.DataFrame:
            both = [table(self.study, name) for name in ("token_drift", "generations")]
            return flips_by_drift.flips_by_drift(*both)

        files = [self.study.table_path(name) for name in ("token_drift", "generations")]
        whole = self.once("flips", lambda: stored("flips_by_drift", files, [], make, self.study.path))
        return rows_of(whole, self.arms, self.some_seeds)

    def layer_table(self, control: str | None = None) -> pd.DataFrame:
        """See :func:`cr_interp.tables.drift.layer_table`; of the chosen control, if no other is named."""
        under = control or self.control
        return self.once(
            "layer_table", lambda: drift_tables.layer_table(self.drift(), self.measure, under), under
        )

    def extremes(self) -> pd.DataFrame:
        """See :func:`cr_interp.tables.drift.extreme_layer`."""
        return self.once("extremes", lambda: drift_tables.extreme_layer(self.drift(), self.measure, self.control))

    def map_kinds(self) -> list[str]:
        return _map_kinds(self.study.path, stamp_of(self.study.table_path("cka_map")))

    def map_seeds(self, kind: str) -> pd.Series:
        """Return the seeds behind one kind of ``cka_map``, of the chosen arms and seeds."""
        return self.once(
            "map_seeds", lambda: self._only(_map_rows(*self._maps(kind)))["seed"].drop_duplicates(), kind
        )

    def map_table(self, kind: str) -> pd.DataFrame:
        """See :func:`cr_interp.figures.maps.map_table`."""
        return self.once("map_table", lambda: self._only(_map_table(*self._maps(kind))), kind)

    def map_difference(self, kind: str) -> pd.DataFrame:
        """See :func:`cr_interp.figures.maps.map_difference`; the baseline need not be among the chosen arms."""
        return self.once(
            "map_difference", lambda: self._only(_map_difference(*self._maps(kind), self.baseline)), kind
        )

    def metrics_by_step(self) -> pd.DataFrame:
        return self._only(_metrics_by_step(self.study.path, *self._generations()))

    def _generations(self) -> tuple[Stamp, str, tuple[int, ...] | None]:
        return stamp_of(self.study.table_path("generations")), self.control, self.some_seeds

    def _maps(self, kind: str) -> tuple[Path, Stamp, str, tuple[int, ...] | None]:
        return self.study.path, stamp_of(self.study.table_path("cka_map")), kind, self.some_seeds

    def _only(self, frame: pd.DataFrame) -> pd.DataFrame:
        return rows_of(frame, self.arms)


def current() -> Selection:
    """Return the selection that the sidebar has just made."""
    return st.session_state["selection"]


def table(study: Study, name: str) -> pd.DataFrame:
    """Read a table of a study, from the cache if the file has not changed."""
    return _table(study.path, stamp_of(study.table_path(name)), name)


def drift_of(study: Study, sinks: bool) -> pd.DataFrame:
    return _drift(study.path, stamp_of(*(study.table_path(n) for n in ("drift", "drift_with_sinks"))), sinks)


def sinks_in(study: Study) -> int | None:
    """Count the tokens that were left out as attention sinks, at most at one site; None if the table does not say."""
    try:
        masked = drift_of(study, False)["n_masked"].max()
    except (UserError, KeyError):
        return None
    return None if pd.isna(masked) else int(masked)


def answer_files(study: Study) -> list[Path]:
    """List the files that the verdict on two arms is made from."""
    return [study.table_path(name) for name in ("generations", "divergence") if study.has_table(name)]


def logs_of(study: Study) -> StudyLogs:
    """Return the study's training logs, which read on from where they were, whoever asks."""
    return _logs(study.path)


def log_stamp(study: Study, log: pd.DataFrame) -> Stamp:
    """Return what a figure of a log is valid for: these files, and as many rows as were read, since there may be more by now."""
    return ((str(study.path), len(log), 0), *stamp_of(*study.logs()))


def arms_of(study: Study) -> list[str]:
    """List arms that a study has rows for; those of its manifest if no table can be read."""
    found: list[Any] = []
    for name in ("generations", "drift"):
        found += _distinct(study, name, "arm")
    declared = study.manifest.get("arms")
    return figures.arm_order(map(str, found or (declared if isinstance(declared, dict) else ())))


def controls_of(study: Study) -> list[str]:
    """List context controls that a study has rows for, the exact context first."""
    found = {*_distinct(study, "generations", "control"), *_distinct(study, "drift", "control")}
    found -= {"none", "repeat", "floor"}  # references that a context is compared with, not contexts
    known = [name for name in behaviour.CONTROLS if name in found]
    return known + sorted(str(name) for name in found - set(known))


def measures_of(study: Study) -> list[str]:
    """List measures of drift that a study has rows for, in the figures' order; all that there are if it has none."""
    found = {*_distinct(study, "drift", "measure")} - {*drift_behind.CHANCE.values()}
    known = [name for name in figures.MEASURES if name in found]
    derived = list(DERIVED) if "cosine" in found and "floor" in _distinct(study, "drift", "control") else []
    return known + sorted(str(name) for name in found - set(known)) + derived or list(figures.MEASURES)


def seeds_of(study: Study) -> list[int]:
    """List seeds that a study has rows for, sorted."""
    found = {*_distinct(study, "generations", "seed"), *_distinct(study, "drift", "seed")}
    return sorted({int(seed) for seed in found if hasattr(seed, "__int__")})


def _distinct(study: Study, name: str, column: str) -> list[Any]:
    try:
        return _distinct_values(study.path, stamp_of(study.table_path(name)), name, column)
    except (UserError, TypeError):
        return []  # the page that needs the table says what is wrong with it


def stamp_of(*files: Path) -> Stamp:
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
def _table(path: Path, stamp: Stamp, name: str) -> pd.DataFrame:
    return Study.open(path).table(name)


@st.cache_resource(max_entries=256, show_spinner=False)
def _once(what: str, stamp: Stamp, choices: tuple[Hashable, ...], _make: Callable[[], Any]) -> Any:
    return _make()


@_cached
def _distinct_values(path: Path, stamp: Stamp, name: str, column: str) -> list[Any]:
    """Find the distinct values of columns, and keep them on disk: what can be chosen on the left is asked by every page, of
    tables that most pages do not need.
    """

    def make() -> pd.DataFrame:
        return pd.DataFrame({"value": list(_table(path, stamp, name)[column].dropna().unique())})

    return list(stored("distinct", [Study.open(path).table_path(name)], [name, column], make)["value"])


@_cached
def _drift(path: Path, stamp: Stamp, sinks: bool) -> pd.DataFrame:
    return Study.open(path).drift(sinks)


@st.cache_resource(max_entries=8, show_spinner=False)
def _logs(path: Path) -> StudyLogs:
    return StudyLogs(Study.open(path))


@_cached
def _metrics_by_step(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    return _behaviour(behaviour.metrics_by_step, path, stamp, seeds, control=control)


@_cached
def _metrics(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    return _behaviour(behaviour.metrics, path, stamp, seeds, control=control)


@_cached
def _differences(
    path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None, arm: str, baseline: str
) -> pd.DataFrame:
    return _behaviour(behaviour.differences, path, stamp, seeds, arm=arm, baseline=baseline, control=control)


@_cached
def _regimes(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    return _behaviour(behaviour.regimes, path, stamp, seeds, control=control)


@_cached
def _outcome_shares(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    return _behaviour(behaviour.outcome_shares, path, stamp, seeds)


@_cached
def _pairs(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    generations = _table(path, stamp, "generations")
    return example_pairs.paired(
        rows_of(generations, seeds=seeds), split=counted_split(generations), control=control
    )


@_cached
def _case_counts(path: Path, stamp: Stamp, control: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    given = [control, None if seeds is None else list(seeds)]
    files = [Study.open(path).table_path("generations")]
    return stored(
        "case_counts", files, given, lambda: example_pairs.case_counts(_pairs(path, stamp, control, seeds)), path
    )


def _behaviour(
    function: Callable[..., pd.DataFrame],
    path: Path,
    stamp: Stamp,
    seeds: tuple[int, ...] | None,
    **options: Any,
) -> pd.DataFrame:
    """Compute the metrics, and keep them on disk: bootstraps over all answers take seconds. The answers are those of the
    split that counts (:func:`~cr_interp.study.rows.counted_split`).
    """

    def make() -> pd.DataFrame:
        generations = _table(path, stamp, "generations")
        return function(rows_of(generations, seeds=seeds), split=counted_split(generations), **options)

    given = [None if seeds is None else list(seeds), options]
    return stored(function.__name__, [Study.open(path).table_path("generations")], given, make, path)


@_cached
def _map_kinds(path: Path, stamp: Stamp) -> list[str]:
    return map_figures.map_kinds(_table(path, stamp, "cka_map"))


@_cached
def _map_rows(path: Path, stamp: Stamp, kind: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    maps = _table(path, stamp, "cka_map")
    return rows_of(maps[maps["map"] == kind], seeds=seeds)


@_cached
def _map_table(path: Path, stamp: Stamp, kind: str, seeds: tuple[int, ...] | None) -> pd.DataFrame:
    return map_figures.map_table(_map_rows(path, stamp, kind, seeds), kind)


@_cached
def _map_difference(
    path: Path, stamp: Stamp, kind: str, seeds: tuple[int, ...] | None, baseline: str
) -> pd.DataFrame:
    return map_figures.map_difference(_map_rows(path, stamp, kind, seeds), kind, baseline)
