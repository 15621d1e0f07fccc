"""The names of the panel's measures, and how each is computed: from the one list in ``vocabulary.py``."""

from cr_interp import vocabulary

MEASURES = (*vocabulary.MEASURES, *vocabulary.CHANCE.values())

#: How each measure is computed, as it stands in a table's column ``method``. A table without that column was made before:
#: there ``shift_share`` is not debiased, ``cka_examples`` has as many tokens of each example as the shortest response and pairs
#: examples of one cluster too, and intervals are over examples even where those have clusters.
METHODS = {
    **{name: measure.method for name, measure in vocabulary.MEASURES.items() if measure.method},
    **dict.fromkeys(vocabulary.CHANCE.values(), "exact"),
}
