"""The drift of a study beside its controls: what an estimate means is said by what stands next to it.

``relative`` is the movement under the exact context over the movement between unrelated tokens, (1 − exact)/(1 − floor)
for a similarity: 0, the context does not move the state; 1, as far as from any other token at the same place. It
takes the anisotropy of a layer out, which a raw cosine does not.
"""

from typing import Any

import pandas as pd
from rich.table import Table

from cr_interp.errors import UserError, unknown
from cr_interp.shown import PlainTable, in_markdown
from cr_interp.study.rows import last_step
from cr_interp.tables import behaviour
from cr_interp.vocabulary import EMBEDDING, MOVEMENTS, REFERENCES, by_arm, layer_name

#: Measures without a best value, of which "relative to the floor" would say nothing.
PLAIN = ("norm_ratio", "top3_share", "shift_share", "knn_chance")
CONTROLS = (*behaviour.CONTROLS, *REFERENCES)


def control_table(drift: pd.DataFrame, measure: str = "cosine") -> pd.DataFrame:
    """Mean over seeds per arm and layer: columns ``arm, layer, exact, …, repeat, floor, relative``.

    ``layer`` −1 is the embedding. Raises :class:`UserError` for a measure that the study does not have.
    """
    drift = last_step(drift)
    chosen = drift[(drift["measure"] == measure) & drift["site"].isin(["resid_pre", "resid_post"])]
    if chosen.empty:
        raise unknown("measure", measure, sorted(set(drift["measure"])))
    chosen = chosen.assign(layer=chosen["layer"].where(chosen["site"] == "resid_post", -1))
    table = chosen.pivot_table("estimate", ["arm", "layer"], "control", sort=False)
    table = table[[name for name in CONTROLS if name in table]]
    if {"exact", "floor"} <= set(table) and measure not in PLAIN:
        ideal = 0.0 if measure in MOVEMENTS else 1.0
        table["relative"] = (ideal - table["exact"]) / (ideal - table["floor"])
    table = table.reset_index()
    table.columns.name = None
    return by_arm(table, "layer")


def worst(table: pd.DataFrame, by: str = "relative") -> pd.DataFrame:
    """Of every arm the layer that moves most relative to its floor; the embedding is left out."""
    if by not in table:
        raise UserError(
            "There is no drift relative to a floor here: the measure has no best value (then ask for --layers), or the "
            "study was captured without a floor (then capture it again: cr-interp capture STUDY --again)."
        )
    blocks = table[table["layer"] >= 0].dropna(subset=[by])
    return table.loc[blocks.groupby("arm", sort=False)[by].idxmax()]


def rich_controls(table: pd.DataFrame, title: str) -> Table:
    out = PlainTable(title, padding=(0, 1), pad_edge=False)
    for column in table:
        out.add_column(str(column), justify="left" if column == "arm" else "right", overflow="fold")
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
        return "–" if pd.isna(value) else f"{value:.3f}"
    return layer_name(EMBEDDING) if value == EMBEDDING else str(value)
