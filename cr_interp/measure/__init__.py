"""A model in, rows out: what becomes the tables of a study.

Mental model. A :class:`Subject` is what a checkpoint is asked: examples, contexts, tokenizer. ``evaluate`` lets it answer in
both views (rows of ``generations``), ``drift`` captures its states in both views (rows of ``drift``, ``token_drift``,
``cka_map``), ``compare`` and ``case_study`` do both for checkpoints of your own, ``tryout`` for one prompt, at once.
Nothing here draws or prints.
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Evaluation": "settings",
        "Subject": "subject",
        "behaviour_rows": "subject",
        "DriftTables": "drift",
        "measure_drift": "drift",
        "compare_checkpoints": "compare",
        "measure_checkpoints": "compare",
        "Tryout": "tryout",
        "open_model": "tryout",
        "try_out": "tryout",
        "CaseStudy": "case_study",
        "read_case_study": "case_study",
    },
)
