"""How alike two views' states are, layer by layer: exact, debiased, and honest about n.

Mental model: x and y are states of the same tokens in two views, a row a token. A measure says how alike the two are.

    cka(x, y, groups=None)       debiased linear CKA of two matrices of rows; with groups, between examples only
    PairMoments                  CKA, cosine, Procrustes, … over a stream of batches; mergeable
    cka_map(layers_x, layers_y)  layer × layer CKA; with groups, between examples only; CkaMapAccumulator for a stream
    tokens_each(lengths)         how many tokens of each example a study compares: one number for all arms, seeds and layers
    knn_overlap(x, y)            do rows keep their neighbours? with its chance level
    panel(x, y, example)         every measure of every layer, with intervals over examples, beside its floor
    DriftAccumulator(width)      the same for one layer, over a stream

    cka, moments, close, weighted        CKA: of matrices, of streams, where 1 − CKA needs its digits, of weighted examples
    groups, permutation                  between examples only; more than chance?
    knn, shift, sinks, duplicates        neighbours, the common shift, attention sinks, rows that are there more than once
    measures, layers → panel             the panel's measures, all layers, one of them; ``units`` are what its intervals draw
    maps → batched                       layer against layer; ``samples`` and ``reservoir`` are bounded samples of a stream
    arrays                               NumPy arrays where tensors are taken
"""

from cr_interp.similarity.cka import cka, weighted_cka
from cr_interp.similarity.groups import group_cka, tokens_each
from cr_interp.similarity.knn import knn_overlap
from cr_interp.similarity.layers import panel, unrelated
from cr_interp.similarity.maps import CkaMapAccumulator, cka_map
from cr_interp.similarity.measures import MEASURES, METHODS
from cr_interp.similarity.moments import Estimate, PairMoments
from cr_interp.similarity.panel import DriftAccumulator
from cr_interp.similarity.sinks import not_sinks
from cr_interp.similarity.weighted import weighted_example_cka

__all__ = [
    "MEASURES",
    "METHODS",
    "CkaMapAccumulator",
    "DriftAccumulator",
    "Estimate",
    "PairMoments",
    "cka",
    "cka_map",
    "group_cka",
    "knn_overlap",
    "not_sinks",
    "panel",
    "tokens_each",
    "unrelated",
    "weighted_cka",
    "weighted_example_cka",
]
