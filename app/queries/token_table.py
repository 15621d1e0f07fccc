"""``token_drift`` of a study, of which only what is looked at is read: a row per arm, seed, example, token and site.

Mental model: at 80 layers this is the one table that may not fit into a frame. :class:`Tokens` answers a few questions, each
with a filter on the columns it needs, and keeps the answers; the keys of its caches are those of ``state.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from pyarrow import dataset

from app.queries.state import Stamp, stamp_of
from cr_interp import figures
from cr_interp.study.reading import refuse_wrong
from cr_interp.study.rows import last_step
from cr_interp.study.schema import COLUMNS, wrong_columns
from cr_interp.study.study import Study
from cr_interp.tables import token_view
from cr_interp.vocabulary import OUTPUT, site_at

_kept = st.cache_resource(max_entries=64, show_spinner=False)
_TEXTS = ("arm", "site", "example_id", "token")
#: Up to so many rows ``token_drift`` is kept in memory (50 bytes a row); of a larger one only what is looked at is read.
_IN_MEMORY = 8_000_000


class Tokens:
    """``token_drift`` of a study: each question reads the rows it needs, and its answer is cached."""

    def __init__(self, study: Study) -> None:
        self._key = (study.path, stamp_of(study.table_path("token_drift")))

    def runs(self) -> dict[str, list[int]]:
        """Map each arm to its seeds."""
        return _token_runs(*self._key)

    def layers(self) -> list[int]:
        """List places as :func:`cr_interp.tables.token_view.place` numbers them, the output among them."""
        return _token_layers(*self._key)

    def scale_end(self, measure: str) -> float:
        return _token_scale(*self._key, measure)

    def ranked(self, arm: str, seed: int, layer: int, measure: str, statistic: str) -> pd.DataFrame:
        """Rank examples by drift; see :func:`cr_interp.tables.token_view.rank`."""
        return _token_rank(*self._key, arm, seed, layer, measure, statistic)

    def example(self, example: str) -> pd.DataFrame:
        """Return all rows of one example: every arm, seed and site, the last step of each run."""
        return _token_example(*self._key, example)


@st.cache_resource(max_entries=2, show_spinner=False)
def _token_source(path: Path, stamp: Stamp) -> Any:
    study = Study.open(path)
    if not study.has_table("token_drift"):
        study.table("token_drift")  # raises, and says which tables there are
    texts = dataset.ParquetReadOptions(dictionary_columns=list(_TEXTS))
    source = dataset.dataset(
        study.table_path("token_drift"), format=dataset.ParquetFileFormat(read_options=texts)
    )
    if source.count_rows() > _IN_MEMORY:
        return source
    return dataset.dataset(source.to_table(columns=list(COLUMNS["token_drift"])).unify_dictionaries())


def _token_part(path: Path, stamp: Stamp, columns: Sequence[str], where: Any = None) -> pd.DataFrame:
    """Read some columns of the rows that fulfil a condition; the last step of each run, if ``step`` is among them."""
    try:
        found = _token_source(path, stamp).to_table(columns=list(columns), filter=where)
        texts = [name for name in columns if name in _TEXTS]
        for name in texts:
            at = found.schema.get_field_index(name)
            found = found.set_column(at, name, found[name].cast("string"))
        rows = found.to_pandas()
        refuse_wrong(path, wrong_columns(rows))
    except Exception:
        Study.open(path).table("token_drift")  # says what is wrong with it, if it is the table
        raise
    if "step" in rows and len(rows):
        rows = last_step(rows)
    return rows.reset_index(drop=True)


def _token_pairs(path: Path, stamp: Stamp, *columns: str) -> pd.DataFrame:
    """Find distinct combinations of a column or two."""
    try:
        found = _token_source(path, stamp).to_table(columns=list(columns)).unify_dictionaries()
        pairs = found.group_by(list(columns)).aggregate([]).to_pandas()
        refuse_wrong(path, wrong_columns(pairs))
        return pairs
    except Exception:
        Study.open(path).table("token_drift")
        raise


@_kept
def _token_runs(path: Path, stamp: Stamp) -> dict[str, list[int]]:
    pairs = _token_pairs(path, stamp, "arm", "seed").dropna()
    return {
        str(arm): sorted({int(seed) for seed in pairs.loc[pairs["arm"] == arm, "seed"]})
        for arm in figures.arm_order(pairs["arm"])
    }


@_kept
def _token_layers(path: Path, stamp: Stamp) -> list[int]:
    return sorted({int(place) for place in token_view.place(_token_pairs(path, stamp, "site", "layer"))})


@_kept
def _token_scale(path: Path, stamp: Stamp, measure: str) -> float:
    return token_view.scale_end(token_view.moved(_token_part(path, stamp, [measure]), measure))


@st.cache_resource(max_entries=32, show_spinner=False)
def _token_rank(
    path: Path, stamp: Stamp, arm: str, seed: int, layer: int, measure: str, statistic: str
) -> pd.DataFrame:
    column = dataset.field
    where = (column("arm") == arm) & (column("seed") == seed)
    if layer == OUTPUT:
        where &= column("site") == "output"
    else:
        site, number = site_at(layer)
        where &= (column("site") == site) & (column("layer") == number)
    columns = ["arm", "seed", "step", "example_id", "position", "token", measure]
    return token_view.rank(_token_part(path, stamp, columns, where), measure, statistic)


@st.cache_resource(max_entries=8, show_spinner=False)
def _token_example(path: Path, stamp: Stamp, example: str) -> pd.DataFrame:
    return _token_part(path, stamp, COLUMNS["token_drift"], dataset.field("example_id") == example)
