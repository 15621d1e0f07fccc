"""The drift of a study beside its controls: what an estimate means is said by what stands next to it.

``relative`` is how many times as far the exact context moves a state as lies between unrelated tokens: 0, the context does
not move it; 1, as far as any other token at the same place. It takes the anisotropy of a layer out, which a raw cosine does
not. "Times as far" is said of distances. 1 − cosine is half a *squared* distance between directions, and 1 − CKA one between
Gram matrices, so of these the root is taken, √((1 − exact)/(1 − floor)). ``relative_l2`` is the same by relative L2, at the
same layer: it counts the length of a movement too, not its direction alone.
"""

from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from cr_interp import vocabulary
from cr_interp.errors import UserError, unknown
from cr_interp.system.percent import number
from cr_interp.system.shown import PlainTable
from cr_interp.system.visible import in_markdown
from cr_interp.tables.drift import placed
from cr_interp.vocabulary import EMBEDDING, MOVEMENTS, REFERENCES, by_arm, layer_name

#: Measures without a best value, of which "relative to the floor" would say nothing.
PLAIN = (*vocabulary.RATIOS, *vocabulary.COMPOSITION, *vocabulary.CHANCE.values())
CONTROLS = (*vocabulary.CONTROLS, *REFERENCES)
#: So short that all columns fit a terminal of 80.
_HEADS = {
    "paraphrase": "para.",
    "mismatched": "mism.",
    "irrelevant": "irr.",
    "relative": "rel.",
    "relative_l2": "rel. L2",
}


def control_table(drift: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """Average over seeds, per arm and layer: columns ``arm, layer, exact, …, repeat, floor, relative, relative_l2``.

    ``layer`` −1 is the embedding. ``relative`` stands where the measure has a best value and there is a floor,
    ``relative_l2`` where relative L2 was measured too. Raises :class:`UserError` for a measure that the study does not have.
    """
    rows = placed(drift)
    table = _wide(rows, measure)
    if table.empty:
        raise unknown("measure", measure, sorted(set(rows["measure"])))
    if {"exact", "floor"} <= set(table) and measure not in PLAIN:
        table["relative"] = times_as_far(table["exact"], table["floor"], measure)
        l2 = _wide(rows, "relative_l2")
        if measure != "relative_l2" and {"exact", "floor"} <= set(l2):
            table["relative_l2"] = times_as_far(l2["exact"], l2["floor"], "relative_l2")
    table = table.rename_axis(columns=None).reset_index()
    return by_arm(table, "layer")


def times_as_far(one: pd.Series, other: pd.Series, measure: str) -> pd.Series:
    """Divide distances from identical: ``one``'s by ``other``'s, "how many times as far"; NaN where ``other`` is at 0."""
    ideal = 0.0 if measure in MOVEMENTS else 1.0
    ratio = (ideal - one).abs() / (ideal - other).abs().replace(0.0, np.nan)
    return np.sqrt(ratio) if measure in vocabulary.SQUARED else ratio


def relative_rows(drift: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """Make rows of the derived measure ``relative``: every control of ``measure`` as a multiple of the floor at the same
    place.

    Of the same arm, seed, step, site and layer. The interval is that of the control's own estimate, with the floor as it was
    estimated; the floor itself is 1. Empty where there is no floor.
    """
    rows = drift[drift["measure"] == measure]
    keys = ["arm", "seed", "step", "site", "layer"]
    floor = rows.loc[rows["control"] == "floor", [*keys, "estimate"]].rename(columns={"estimate": "floor"})
    rows = rows.merge(floor, on=keys)
    ends = {name: times_as_far(rows[name], rows["floor"], measure) for name in ("estimate", "low", "high")}
    if measure not in MOVEMENTS:  # the more similar, the nearer
        ends["low"], ends["high"] = ends["high"], ends["low"]
    is_floor = rows["control"] == "floor"
    for name in ("low", "high"):
        ends[name] = ends[name].mask(is_floor)
    return rows.assign(measure="relative", **ends).drop(columns="floor")


def _wide(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return a row per arm and layer, a column per control; empty if the measure is not there."""
    chosen = rows[rows["measure"] == measure].drop(columns="layer").rename(columns={"place": "layer"})
    table = chosen.pivot_table("estimate", ["arm", "layer"], "control", sort=False)
    return table[[name for name in CONTROLS if name in table]]


def worst(table: pd.DataFrame, by: str = "relative") -> pd.DataFrame:
    """Pick of every arm the layer that moves most relative to its floor; the embedding is left out."""
    if by not in table:
        raise UserError(
            "There is no drift relative to a floor here: the measure has no best value (then take every layer), or the "
            "study was captured without a floor (then capture it again: cr-interp capture STUDY --again)."
        )
    blocks = table[table["layer"] >= 0].dropna(subset=[by])
    return table.loc[blocks.groupby("arm", sort=False)[by].idxmax()]


def rich_controls(table: pd.DataFrame, title: str) -> Table:
    out = PlainTable(title, padding=(0, 1), pad_edge=False)
    for column in table:
        head = _HEADS.get(str(column), str(column))
        out.add_column(head, justify="left" if column == "arm" else "right", overflow="fold")
    for row in table.itertuples(index=False):
        out.add_row(*map(_cell, row))
    return out


def markdown_controls(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table) + " |", "|---|" + "---:|" * (len(table.columns) - 1)]
    lines += [
        "| " + " | ".join(in_markdown(_cell(value)) for value in row) + " |"
        for row in table.itertuples(index=False)
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return layer_name(EMBEDDING) if value == EMBEDDING else str(value)
