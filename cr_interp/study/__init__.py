"""A study on disk: what was measured, as tables that open without torch.

Mental model. ``study.py`` is the folder and its tables, ``searching.py`` finds studies by name, ``rows.py`` picks rows of a
table, ``log.py`` follows training logs that still grow, ``questions.py`` says what a study asks, ``checkpoints.py`` which
models belong to it.

    study = open_study("organism-shift")
    study.table("drift")                                # a DataFrame
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "COLUMNS": "study",
        "SCHEMA_VERSION": "study",
        "Study": "study",
        "export": "exporting",
        "BUNDLED": "searching",
        "find_studies": "searching",
        "open_study": "searching",
        "search_paths": "searching",
        "studies_in": "searching",
        "last_step": "rows",
        "rows_of": "rows",
        "StudyLogs": "log",
        "Checkpoint": "checkpoints",
        "checkpoints": "checkpoints",
    },
)
