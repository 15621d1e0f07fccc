"""A study on disk: what was measured, as tables that open without torch.

Mental model. A study is a folder with a manifest, tables and runs. A table is all that crosses from measuring to looking.

    study = open_study("organism-shift")
    study.table("drift")                                # a DataFrame

    study, places     the folder and its tables; what its files are called
    schema, analyses  what a study holds: sections and columns; the one list of what is computed for it
    reading, locking  a table looked at once; one writer at a time
    searching         studies by name
    exporting         a copy without checkpoints
    rows, questions   rows of a table; what a study asks
    log               training logs that still grow
    checkpoints       which models belong to it
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
