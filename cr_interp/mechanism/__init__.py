"""Why an answer flips: what in a model decides that its answer is another one when the context returns.

Mental model. ``answers`` picks the flipped answers of a study's ``generations`` and where the two answers part. An analysis
(``patching``) reads a checkpoint on them; ``estimates`` turns rows of single examples into shares with intervals;
``explain`` is the pipeline behind ``cr-interp explain``, which fills a study's tables. Only aligned positions are touched:
two views of a prompt never have the same length, and these are what they share.
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(__name__, {
    "Answer": "answers",
    "chosen_answers": "answers",
    "Pair": "given",
    "patch_pairs": "patching",
    "estimates": "estimates",
    "explain": "explain",
})  # fmt: skip
