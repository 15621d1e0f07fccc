"""Names that many modules share, each defined once: metrics, measures, controls, outcomes, arms' order, places on a layer axis.

Mental model: a table's cells hold these names; reports, figures and pages look up here what they are called. Colours are in
``figures/style.py``; nothing here draws, and nothing here is loaded but the standard library.
"""

import re
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import pandas as pd

#: The arms of the paper's comparison, and those with a place of their own in every list; others follow by name.
PAPER_ARMS = ("base", "opd", "nca")
ARMS = (*PAPER_ARMS, "dual_opd", "sym_kl")

Outcome = Literal["right", "wrong", "unparsable", "truncated", "ungraded"]
#: Of an answer: what its prompt was read with.
VIEWS = ("no_context", "with_context")
OUTCOMES: tuple[Outcome, ...] = ("right", "wrong", "unparsable", "truncated")
#: Of an answer to an example without a key: nobody says whether it is right, so no share counts it.
UNGRADED: Outcome = "ungraded"

#: Contexts that a model is given beside the exact one.
ContextControl = Literal["exact", "paraphrase", "mismatched", "irrelevant"]
CONTROLS: tuple[ContextControl, ...] = get_args(ContextControl)
#: What stands beside them in ``drift``: the same run twice, and unrelated tokens at the same place.
REFERENCES = ("repeat", "floor")

#: Places on a layer axis that are no block: the embedding's output, and (of single tokens) the prediction.
EMBEDDING, OUTPUT = -1, -2


class Metric(NamedTuple):
    """A metric of behaviour: the title of its panel (Plotly reads the HTML) and what its axis counts."""

    title: str
    axis: str


Kind = Literal["similarity", "movement", "ratio", "composition"]


class Measure(NamedTuple):
    """A measure of states: what it is called, and how its values are read. A measure of the drift panel is added here and in
    ``similarity/panel.py``, which computes it."""

    name: str
    axis: str
    """What its axis is called when it is shown as it is …"""
    movement: str
    """… and as a movement."""
    kind: Kind = "similarity"
    """``similarity``: 1 where nothing moves, and falls; ``movement``: grows from 0; ``ratio``: 1 where nothing moves, and leaves
    it in both directions; ``composition``: says of what a similarity or a movement is made, and no value of it is less drift."""
    squared: bool = False
    """Whether 1 − value is half a squared distance, of which "times as far" takes the root."""
    method: str = ""
    """How it is computed, as it stands in a table's column ``method``; empty where the name says it."""


METRICS: dict[str, Metric] = {
    "acc_x": Metric("Acc<sub>x</sub>", "right without context (%)"),
    "acc_xc": Metric("Acc<sub>xc</sub>", "right with context (%)"),
    "both_correct": Metric("BothCorrect", "right in both views (%)"),
    "harm": Metric("Harm", "wrong with, of right without (%)"),
    "rescue": Metric("Rescue", "right with, of wrong without (%)"),
    "delta_len": Metric("Δlen", "longer with context (%)"),
}
#: What a comparison of two arms is judged by, in order. ``harm_common``: Harm on the prompts that both solve without the context.
JUDGED = ("harm", "harm_common", "acc_x", "acc_xc")
#: Of the two answers to a prompt, where no key says which is right.
AGREEMENT: dict[str, Metric] = {
    "changed": Metric("Changed", "other answer with context (%)"),
    "agreement": Metric("Agreement", "same answer with context (%)"),
}
#: Of the distributions: nats a token, so no shares, and no key is needed.
DIVERGENCES: dict[str, Metric] = {
    "fidelity": Metric("Fidelity", "KL(q<sub>x</sub> ‖ f), nats a token"),
    "invariance": Metric("Invariance", "KL(q<sub>x</sub> ‖ q<sub>c</sub>), nats a token"),
}
MEASURES: dict[str, Measure] = {
    "cosine": Measure("cosine", "cosine between the views", "1 − cosine", squared=True),
    "centred_cosine": Measure(
        "centred cosine", "cosine after removing each view's mean", "1 − centred cosine", squared=True
    ),
    "relative_l2": Measure("relative L2", "‖with − without‖ / ‖without‖", "relative L2", "movement"),
    "cka": Measure(
        "debiased CKA", "debiased linear CKA", "1 − debiased CKA", squared=True,
        method="debiased, all pairs of rows",
    ),
    "cka_examples": Measure(
        "example CKA", "debiased CKA between distinct examples", "1 − example CKA", squared=True,
        method="debiased, distinct clusters of examples, one t for the study",
    ),
    "procrustes": Measure(
        "Procrustes", "similarity after the best rotation", "1 − Procrustes similarity", squared=True
    ),
    "cosine_p5": Measure("5th percentile", "5th percentile of the cosine", "1 − 5th percentile", squared=True),
    "cosine_trimmed": Measure(
        "trimmed cosine", "cosine without its 3 largest dimensions", "1 − trimmed cosine", squared=True
    ),
    "top3_share": Measure(
        "top-3 share", "share of the cosine from 3 dimensions", "share of the cosine from 3 dimensions", "composition"
    ),
    "norm_ratio": Measure("norm ratio", "‖with‖ / ‖without‖", "|1 − ‖with‖ / ‖without‖|", "ratio"),
    "shift_share": Measure(
        "shift share", "share of the movement common to all tokens", "share common to all tokens", "composition",
        method="debiased, pairs of distinct units",
    ),
    "knn_overlap": Measure(
        "k-NN overlap", "mutual overlap of the 10 nearest neighbours", "1 − k-NN overlap",
        method="other examples only, 10 nearest by cosine",
    ),
}  # fmt: skip
#: What unrelated states would have: not a measure to choose, but drawn behind the one it belongs to.
CHANCE = {"knn_overlap": "knn_chance"}
#: Measures that a table does not hold: made from two of its rows (:func:`cr_interp.tables.controls.relative_rows`).
DERIVED: dict[str, Measure] = {
    "relative": Measure(
        "relative to the floor",
        "times as far as unrelated tokens lie apart",
        "times as far as unrelated tokens",
        "movement",
    )
}
EVERY_MEASURE = {**MEASURES, **DERIVED}
MOVEMENTS = tuple(name for name, measure in EVERY_MEASURE.items() if measure.kind == "movement")
RATIOS = tuple(name for name, measure in EVERY_MEASURE.items() if measure.kind == "ratio")
COMPOSITION = tuple(name for name, measure in EVERY_MEASURE.items() if measure.kind == "composition")
SQUARED = tuple(name for name, measure in EVERY_MEASURE.items() if measure.squared)


def measure_words(measure: str) -> Measure:
    """Look up what a measure is called; one that is not known keeps its own name."""
    return EVERY_MEASURE.get(measure, Measure(measure, measure, f"1 − {measure}"))


def arm_order(arms: Iterable[Hashable]) -> list[Any]:
    """Order the arms, each once, as everywhere: base, opd, nca, …, then others by name.

    By name, since tables come in different orders and an arm has to look the same in all figures; numbers in names count as
    numbers (``step-9`` before ``step-10``).
    """
    found = set(arms)
    others = sorted(found - set(ARMS), key=lambda arm: (_natural(str(arm)), str(arm)))
    return [arm for arm in ARMS if arm in found] + others


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def by_arm(table: "pd.DataFrame", *then: str) -> "pd.DataFrame":
    """Sort a table by its arms in that order, then by other columns; rows are numbered anew."""
    order = {arm: index for index, arm in enumerate(arm_order(table["arm"]))}
    return table.sort_values(
        ["arm", *then],
        kind="stable",
        ignore_index=True,
        key=lambda column: column.map(order) if column.name == "arm" else column,
    )


def layer_name(place: int) -> str:
    """Name a place on a layer axis: −1 is the embedding.

    >>> layer_name(-1), layer_name(4)
    ('emb', '4')
    """
    return "emb" if place < 0 else str(place)


def layer_words(place: int) -> str:
    """Name a layer in a sentence: "the embedding", "layer 4"."""
    return "the embedding" if place < 0 else f"layer {place}"
