"""Names that many modules share, each defined once: metrics, measures, controls, outcomes, arms' order, places on a layer axis.

Mental model: a table's cells hold these names; reports, figures and pages look up here what they are called. Colours are in
``figures/style.py``; nothing here draws, and nothing here is loaded but the standard library.
"""

import re
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import pandas as pd

#: The arms with a place of their own in every list; others follow by name.
ARMS = ("base", "opd", "nca", "dual_opd", "sym_kl")

Outcome = Literal["right", "wrong", "unparsable", "truncated"]
OUTCOMES: tuple[Outcome, ...] = ("right", "wrong", "unparsable", "truncated")

#: Contexts that a model is given beside the exact one.
ContextControl = Literal["exact", "paraphrase", "mismatched", "irrelevant"]
CONTROLS: tuple[ContextControl, ...] = get_args(ContextControl)
#: What stands beside them in ``drift``: the same run twice, and unrelated tokens at the same place.
REFERENCES = ("repeat", "floor")

#: Places on a layer axis that are no block: the embedding's output, and (of single tokens) the prediction.
EMBEDDING, OUTPUT = -1, -2


class Metric(NamedTuple):
    """Of behaviour: the title of its panel (Plotly reads the HTML) and what its axis counts."""

    title: str
    axis: str


class Measure(NamedTuple):
    """Of states: its name, what its axis is called when shown as it is, and as a movement."""

    name: str
    axis: str
    movement: str


METRICS: dict[str, Metric] = {
    "acc_x": Metric("Acc<sub>x</sub>", "right without context (%)"),
    "acc_xc": Metric("Acc<sub>xc</sub>", "right with context (%)"),
    "both_correct": Metric("BothCorrect", "right in both views (%)"),
    "harm": Metric("Harm", "wrong with, of right without (%)"),
    "rescue": Metric("Rescue", "right with, of wrong without (%)"),
    "delta_len": Metric("Δlen", "longer with context (%)"),
}
MEASURES: dict[str, Measure] = {
    "cosine": Measure("cosine", "cosine between the views", "1 − cosine"),
    "centred_cosine": Measure("centred cosine", "cosine after removing each view's mean", "1 − centred cosine"),
    "relative_l2": Measure("relative L2", "‖with − without‖ / ‖without‖", "relative L2"),
    "cka": Measure("debiased CKA", "debiased linear CKA", "1 − debiased CKA"),
    "cka_examples": Measure("example CKA", "debiased CKA between distinct examples", "1 − example CKA"),
    "procrustes": Measure("Procrustes", "similarity after the best rotation", "1 − Procrustes similarity"),
    "cosine_p5": Measure("5th percentile", "5th percentile of the cosine", "1 − 5th percentile"),
    "cosine_trimmed": Measure("trimmed cosine", "cosine without its 3 largest dimensions", "1 − trimmed cosine"),
    "top3_share": Measure(
        "top-3 share",
        "share of the cosine from 3 dimensions",
        "share of the cosine from 3 dimensions",
    ),
    "norm_ratio": Measure("norm ratio", "‖with‖ / ‖without‖", "|1 − ‖with‖ / ‖without‖|"),
    "shift_share": Measure(
        "shift share", "share of the movement common to all tokens", "share common to all tokens"
    ),
    "knn_overlap": Measure("k-NN overlap", "mutual overlap of the 10 nearest neighbours", "1 − k-NN overlap"),
}
#: Measures that a table does not hold: made from two of its rows (:func:`cr_interp.tables.controls.relative_rows`).
DERIVED: dict[str, Measure] = {
    "relative": Measure(
        "relative to the floor", "times as far as unrelated tokens lie apart", "times as far as unrelated tokens"
    ),
}
EVERY_MEASURE = {**MEASURES, **DERIVED}
#: Measures that grow with drift; the others fall with it, but for the next two kinds.
MOVEMENTS = ("relative_l2", "relative")
#: Measures that are 1 where nothing moves and leave it in both directions.
RATIOS = ("norm_ratio",)
#: Measures that say of what a similarity or a movement is made: neither end of them is less drift.
COMPOSITION = ("top3_share", "shift_share")


def arm_order(arms: Iterable[Hashable]) -> list[Any]:
    """The arms once each in the order used everywhere: base, opd, nca, …, then others by name.

    By name, since tables come in different orders and an arm has to look the same in all figures; numbers in names count
    as numbers (``step-9`` before ``step-10``).
    """
    found = set(arms)
    others = sorted(found - set(ARMS), key=lambda arm: (_natural(str(arm)), str(arm)))
    return [arm for arm in ARMS if arm in found] + others


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def by_arm(table: "pd.DataFrame", *then: str) -> "pd.DataFrame":
    """A table sorted by its arms in that order, then by other columns; rows are numbered anew."""
    order = {arm: index for index, arm in enumerate(arm_order(table["arm"]))}
    return table.sort_values(
        ["arm", *then], kind="stable", ignore_index=True,
        key=lambda column: column.map(order) if column.name == "arm" else column,
    )  # fmt: skip


def layer_name(place: int) -> str:
    """How a place on a layer axis is called: −1 is the embedding.

    >>> layer_name(-1), layer_name(4)
    ('emb', '4')
    """
    return "emb" if place < 0 else str(place)


def layer_words(place: int) -> str:
    """The same in a sentence: "the embedding", "layer 4"."""
    return "the embedding" if place < 0 else f"layer {place}"
