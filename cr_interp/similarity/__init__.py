"""How alike two views' states are, layer by layer: exact, debiased, and honest about n.

cka(x, y)                    debiased linear CKA of two matrices of rows
PairMoments                  the same over a stream of batches; mergeable
DriftAccumulator(width)      one layer's panel of measures with intervals over examples
"""

from cr_interp.similarity.cka import cka, weighted_cka
from cr_interp.similarity.moments import Estimate, PairMoments
from cr_interp.similarity.panel import MEASURES, DriftAccumulator

__all__ = ["MEASURES", "DriftAccumulator", "Estimate", "PairMoments", "cka", "weighted_cka"]
