"""A model in, rows out: what becomes the tables of a study.

Mental model. A :class:`Subject` is what a checkpoint is asked: examples, contexts, tokenizer. ``evaluate`` lets it answer in
both views (rows of ``generations``), ``drift`` captures its states in both views (rows of ``drift``, ``token_drift``,
``cka_map``), ``compare`` and ``case_study`` do both for checkpoints of your own, ``tryout`` for one prompt, at once.
Nothing here draws or prints.

    settings, drawn         how an evaluation is set, and which examples it asks
    subject, asked          what a checkpoint is asked; the same as parts that can be compared
    pairs → compare         what ``cr-interp compare`` is asked, and the study that it writes
    comparing, continued    one model of it at a time; what its folder already holds
    served, in_process_vllm answers from a server, and from vLLM in this process
    case_study              the paper's protocol for states
    evaluate, turns         answers in both views; of tasks that are played in turns
    readings                drift, tokens and maps as analyses, of one reading
    drift, tokens, maps     how far states move: by layer, by token, and layer against layer
    divergence              fidelity and invariance
    fitting                 as many examples at a time as memory holds
    tryout                  one prompt, at once
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
