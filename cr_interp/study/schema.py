"""What a study holds: its schema version and the columns that every table has at least.

Mental model: ``generations`` is what all else reads; every other table belongs to an analysis (``analyses.py``).
"""

from cr_interp.study.analyses import ANALYSES

SCHEMA_VERSION = 1

#: Columns that every table has at least; a damaged table is recognised by their absence.
COLUMNS: dict[str, tuple[str, ...]] = {
    "generations": (
        "arm", "seed", "step", "split", "example_id", "view", "control", "sample",
        "prompt", "response", "n_tokens", "outcome",
    ),
    **{table: columns for analysis in ANALYSES for table, columns in analysis.tables.items()},
}  # fmt: skip
