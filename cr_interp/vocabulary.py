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
    """A metric of behaviour: what it is called, and how its values are read. A metric of answers is added here and in
    ``tables/behaviour.py``, which computes it."""

    title: str
    """The title of its panel; Plotly reads the HTML."""
    axis: str
    """What its axis counts."""
    head: str = ""
    """The head of its column where a table has little room; empty: its key."""
    share: bool = True
    """Whether it is a share, between 0 and 1."""
    keyed: bool = True
    """Whether it needs to be known which answer is right."""

    @property
    def short(self) -> str:
        """The metric's name as plain text.

        >>> METRICS["acc_xc"].short
        'Acc_xc'
        """
        return re.sub(r"<sub>(.*?)</sub>", r"_\1", self.title)


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
    "both_correct": Metric("BothCorrect", "right in both views (%)", head="both"),
    "harm": Metric("Harm", "wrong with, of right without (%)"),
    "rescue": Metric("Rescue", "right with, of wrong without (%)"),
    "delta_len": Metric("Δlen", "longer with context (%)", head="Δlen", share=False, keyed=False),
}
#: What a comparison of two arms is judged by, in order. ``harm_common``: Harm on the prompts that both solve without the context.
JUDGED = ("harm", "harm_common", "acc_x", "acc_xc")
#: Of the two answers to a prompt, where no key says which is right.
AGREEMENT: dict[str, Metric] = {
    "changed": Metric("Changed", "other answer with context (%)", keyed=False),
    "agreement": Metric("Agreement", "same answer with context (%)", keyed=False),
}
#: Of the distributions: nats a token, so no shares, and no key is needed.
DIVERGENCES: dict[str, Metric] = {
    "fidelity": Metric("Fidelity", "KL(q<sub>x</sub> ‖ f), nats a token", share=False, keyed=False),
    "invariance": Metric(
        "Invariance", "KL(q<sub>x</sub> ‖ q<sub>c</sub>), nats a token", share=False, keyed=False
    ),
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


def of_answers() -> dict[str, Metric]:
    """Return the metrics that are counted on answers: those of a key, then those of agreement."""
    return {**METRICS, **AGREEMENT}


def judged_first() -> list[str]:
    """Order the metrics as a suite's tables do: what a comparison is judged by, then the others.

    >>> judged_first()
    ['acc_x', 'acc_xc', 'harm', 'both_correct', 'rescue', 'delta_len']
    """
    return sorted(METRICS, key=lambda name: name not in JUDGED)


def differing() -> list[str]:
    """Order what two arms differ by: the metrics, Harm on the prompts that both solve beside Harm, agreement.

    >>> differing()[3:6]
    ['harm', 'harm_common', 'rescue']
    """
    return [each for name in of_answers() for each in ([name, "harm_common"] if name == "harm" else [name])]


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


def at_embedding(site: Any, layer: Any) -> Any:
    """Tell whether a site is the embedding's output: what the first block reads, ``resid_pre`` of layer 0. Elementwise for
    columns. ``resid_pre`` of a later layer is no embedding, but what the block before it leaves.
    """
    return (site == "resid_pre") & (layer == 0)


def place_of(site: str, layer: int) -> int:
    """Return a site's place on a layer axis: its block's number, −1 of the embedding.

    >>> place_of("resid_pre", 0), place_of("resid_post", 0), place_of("resid_pre", 3)
    (-1, 0, 3)
    """
    return EMBEDDING if at_embedding(site, layer) else layer


def places_of(rows: "pd.DataFrame") -> "pd.Series":
    """Return :func:`place_of` of each row of a table with the columns ``site`` and ``layer``."""
    layers = rows["layer"].astype(int)
    return layers.where(~at_embedding(rows["site"], layers), EMBEDDING)


def site_at(place: int, site: str = "resid_post") -> tuple[str, int]:
    """Return the site and layer of a place: the embedding is ``resid_pre`` of layer 0, elsewhere it is ``site``.

    >>> site_at(-1), site_at(4)
    (('resid_pre', 0), ('resid_post', 4))
    """
    return ("resid_pre", 0) if place == EMBEDDING else (site, place)


def layer_name(place: int) -> str:
    """Name a place on a layer axis: −1 is the embedding.

    >>> layer_name(-1), layer_name(4)
    ('emb', '4')
    """
    return "emb" if place < 0 else str(place)


def layer_words(place: int) -> str:
    """Name a layer in a sentence: "the embedding", "layer 4"."""
    return "the embedding" if place < 0 else f"layer {place}"
