"""A study's tables as a report reads them: each once, however many sections need it."""

from functools import cached_property

import pandas as pd

from cr_interp.study.rows import counted_split
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table


class Held:
    """The tables that the sections of a report share."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @cached_property
    def answers(self) -> pd.DataFrame:
        """The table of answers."""
        return self.study.table("generations")

    @cached_property
    def split(self) -> str | None:
        """The split whose answers count: the test examples, or the only ones there are."""
        return counted_split(self.answers) if len(self.answers) else None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every metric of the study, with its intervals."""
        return metric_table(self.study)
