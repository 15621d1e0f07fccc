"""One answer through the lens, token by token: what every layer would say at every aligned position, in both views.

Mental model: across are the tokens of the answer without the context, up are the layers. Colour is how likely the layer finds
that token; the word in a cell is the layer's own favourite. A frame marks the place where the two answers part.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.cells import MARK_OUTSIDE, add_cells, mark_cell
from cr_interp.figures.style import LOGPROB_SCALE, empty_figure, finish, layer_ticks, safe_text
from cr_interp.figures.why import VIEWS
from cr_interp.vocabulary import layer_name, places_of

#: Nats. What is less likely than e⁻⁸ looks like e⁻⁸.
LOWEST = -8.0
#: So many tokens can be read beside each other; of a longer answer those around the place where it parts.
TOKENS = 16


def lens_tokens(lens_examples: pd.DataFrame, arm: str, seed: int, example_id: str) -> go.Figure:
    """Draw a panel per view of one example of one checkpoint."""
    rows = lens_examples[
        (lens_examples["arm"] == arm)
        & (lens_examples["seed"] == seed)
        & (lens_examples["control"] == "none")
        & (lens_examples["example_id"].astype(str) == str(example_id))
    ]
    if rows.empty:
        return empty_figure(
            f"{safe_text(arm)} seed {seed}: no example {safe_text(str(example_id))} was looked at through the lens."
        )
    rows = rows[rows["step"] == rows["step"].max()]
    rows = rows.assign(place=places_of(rows))
    shown = _shown(rows)
    rows = rows[rows["position"].isin(shown)]
    places = sorted(set(rows["place"]))
    parts = sorted(set(rows.loc[rows["parts"], "position"]))
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[f"<b>{says}</b>" for says in VIEWS.values()],
    )
    words = rows.drop_duplicates("position").set_index("position")["token"]
    for column, view in enumerate(VIEWS, 1):
        _cells(figure, rows[rows["view"] == view], places, shown, view, column)
        for position in parts:
            mark_cell(figure, shown.index(position), places[-1], row=1, col=column)
    figure.update_xaxes(
        tickvals=list(range(len(shown))),
        ticktext=[safe_text(_word(words[position])) for position in shown],
        title="token of the answer without the context",
    )
    ticks = layer_ticks(places)
    figure.update_yaxes(ticks, col=1, title="layer")
    figure.update_layout(
        coloraxis={
            "colorscale": LOGPROB_SCALE,
            "cmin": LOWEST,
            "cmax": 0,
            "colorbar": {"thickness": 12, "title": "log p"},
        },
        showlegend=False,
    )
    group = str(rows["group"].iloc[0])
    text = (
        f"Lens of one {group} example ({example_id}) of {arm}, seed {seed}: the final norm and head behind every layer, at every "
        f"aligned position. Colour: log-probability of the token of the answer without the context (nats, below {LOWEST:g} as "
        f"{LOWEST:g}); in the cell the layer's most likely token. "
        + ("A frame marks where the answers part. " if parts else "")
        + "n = 1 example, so there is no interval; another example's state at the same places is the control, in the means over "
        "examples."
    )
    last = rows[rows["place"] == places[-1]]
    alt = "One answer through the lens. " + " ".join(
        f"{says}, last layer: {' '.join(_word(top) for top in last[last['view'] == view].sort_values('position')['top'])}."
        for view, says in VIEWS.items()
    )
    return finish(figure, text, alt, height=150 + 24 * len(places))


def _shown(rows: pd.DataFrame) -> list[int]:
    """Choose at most :data:`TOKENS` positions in a row, those around the place where the answers part."""
    every = sorted({int(position) for position in rows["position"]})
    place = next((int(position) for position in rows.loc[rows["parts"], "position"]), 0)
    first = max(0, min(every.index(place) - TOKENS // 2 if place in every else 0, len(every) - TOKENS))
    return every[first : first + TOKENS]


def _cells(
    figure: go.Figure, rows: pd.DataFrame, places: list[int], shown: list[int], view: str, column: int
) -> None:
    at: dict[tuple[int, int], Any] = {(row.place, row.position): row for row in rows.itertuples()}
    z = np.full((len(places), len(shown)), np.nan)
    for (place, position), row in at.items():
        z[places.index(place), shown.index(position)] = row.logprob

    def hover(i: int, j: int) -> list[str]:
        row = at[places[i], shown[j]]
        return [
            f"layer {layer_name(places[i])}, position {shown[j]}",
            safe_text(_word(row.token)),
            f"{row.logprob:.2f}",
            f"{int(row.rank)}",
            safe_text(_word(row.top)),
            f"{row.kl:.2f}",
        ]

    def text(i: int, j: int) -> str:
        return safe_text(_word(at[places[i], shown[j]].top)[:8])

    template = (
        "%{customdata[0]}<br>%{customdata[1]}: log p %{customdata[2]}, rank %{customdata[3]}<br>most likely: %{customdata[4]}"
        "<br>KL of the views %{customdata[5]}"
    )
    add_cells(figure, z, list(range(len(shown))), places, hover, template, view, text=text, row=1, col=column)
    figure.update_traces(textfont={"size": 10, "color": MARK_OUTSIDE}, selector={"mode": "markers+text"})


def _word(token: object) -> str:
    """Spell a token so that it can be seen: spaces and ends of lines as signs."""
    return str(token).replace("\n", "⏎").replace(" ", "·") or "∅"
