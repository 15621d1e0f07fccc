"""Drift, tokens and maps as analyses: three tables of one reading of a checkpoint's responses in every view.

Mental model: :class:`Readings` is what the three must be given. The states are too many to keep, so ``drift.py`` measures
all three in one pass, when the first of them is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from cr_interp.measure.drift import DriftTables, Progress, measure_drift
from cr_interp.measure.subject import Subject
from cr_interp.models.loading import Loaded


@dataclass
class Readings:
    """A checkpoint and the responses that it reads in every view; see :func:`~cr_interp.measure.drift.measure_drift`."""

    loaded: Loaded
    subject: Subject
    responses: Mapping[str, Sequence[int]]
    reference: Loaded | None = None
    sites_per_pass: int | None = None
    save_states: Path | None = None
    progress: Progress = lambda done, total: None
    backend: str = "hooks"
    turns: Mapping[str, Sequence[tuple[str, int]]] | None = None
    example_tokens: int | None = None

    @cached_property
    def tables(self) -> DriftTables:
        return measure_drift(
            self.loaded,
            self.subject,
            self.responses,
            self.reference,
            self.sites_per_pass,
            self.save_states,
            self.progress,
            self.backend,
            self.turns,
            self.example_tokens,
        )


def token_rows(given: Readings) -> dict[str, pd.DataFrame]:
    return {"token_drift": given.tables.token_drift}


def map_rows(given: Readings) -> dict[str, pd.DataFrame]:
    return {"cka_map": given.tables.cka_map}


def drift_rows(given: Readings) -> dict[str, pd.DataFrame]:
    """Return ``drift`` without attention sinks, and ``drift_with_sinks``, the same rows with them, if there were any."""
    return {"drift_with_sinks": given.tables.drift_with_sinks, "drift": given.tables.drift}
