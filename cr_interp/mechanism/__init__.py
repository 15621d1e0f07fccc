"""Why an answer flips: what in a model decides that its answer is another one when the context returns.

Mental model. ``answers`` picks the flipped answers of a study's ``generations`` and where the two answers part. An analysis
(``patching``, ``heads``, ``knockout``, ``lens``, …) reads a checkpoint on them; ``estimates`` turns rows of single examples into
shares with intervals; ``explain`` is the pipeline behind ``cr-interp explain``, which fills a study's tables. Only aligned
positions are touched: two views of a prompt never have the same length, and these are what they share.

    whereabouts → given                   which models belong to a study, and what an analysis is given of them and of answers
    partners                              whose state stands beside it as a control
    cells → replaced → runs → batches     what is patched, by what, as short a run as can be, and what it says of the answers
    patching                              the answer after a state of one view was put into the other
    attribution → heads                   all heads to first order, then the first of them exactly
    spans → knockout, attending           who reads what of the context
    lens; tried_lens                      what every layer would say; of one prompt that somebody tries
    intervene                             a changed model answers one prompt
    material → directions, probes         on other prompts: is the context a second dose of training; can it be read from a state
    updates                               what training changed in the weights
    alignment                             how alike two gradients are, and how alike they could be
    means                                 means over examples, with intervals over clusters
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Answer": "answers",
        "chosen_answers": "answers",
        "Pair": "given",
        "patch_pairs": "patching",
        "patch_cells": "patching",
        "Cell": "cells",
        "attribute": "attribution",
        "knock_out": "knockout",
        "attention": "knockout",
        "lens_of": "lens",
        "lens_estimates": "lens",
        "PutIn": "intervene",
        "Block": "intervene",
        "Steer": "intervene",
        "difference": "intervene",
        "estimates": "estimates",
        "explain": "explain",
    },
)
