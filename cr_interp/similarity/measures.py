"""The names of the panel's measures, in their order, and how each is computed (``panel.py`` says what they are)."""

MEASURES = (
    "cosine", "cosine_p5", "cosine_trimmed", "top3_share", "centred_cosine", "relative_l2", "norm_ratio",
    "shift_share", "cka", "cka_examples", "knn_overlap", "knn_chance", "procrustes",
)  # fmt: skip

#: How each measure is computed, as it stands in a table's column ``method``. A table without that column was made before:
#: there ``shift_share`` is not debiased, ``cka_examples`` has as many tokens of each example as the shortest response and pairs
#: examples of one cluster too, and intervals are over examples even where those have clusters.
METHODS = {
    "shift_share": "debiased, pairs of distinct units",
    "cka": "debiased, all pairs of rows",
    "cka_examples": "debiased, distinct clusters of examples, one t for the study",
    "knn_overlap": "other examples only, 10 nearest by cosine",
    "knn_chance": "exact",
}
