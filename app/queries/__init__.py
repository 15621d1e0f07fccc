"""What pages ask: tables read once for all sessions, and what is computed from them.

Mental model: a page never opens a file. It asks the selection (``state.py``), which reads a table once for all sessions, keyed by
the file's path, time and size, and keeps what takes seconds on disk (:mod:`cr_interp.tables.stored`).

    state        the selection of a study, and the tables that go with it
    suite_state  the same for a suite
    summary      small tables and sentences made of those; pure functions
    token_table  one example's rows of a large table, without reading the rest
    shelf        all studies that are here, a row each
    live         models in memory: the only module that imports torch
"""
