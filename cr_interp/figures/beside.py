"""A value layer by layer beside its controls, a panel per arm: what directions, probes and flips by drift have in common.

Mental model: an effect is a coloured line with its interval as a band, a control a grey one. Who draws them says only what the
columns mean; :func:`panels` does the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.marks import add_band
from cr_interp.figures.style import (
    GREYS,
    MARKERS,
    ZERO,
    arm_colour,
    arm_symbol,
    bold,
    counted_examples,
    finish,
    hover_columns,
    layer_ticks,
    place_legend,
    safe_text,
    translucent,
)
from cr_interp.vocabulary import arm_order, layer_name

DASHES = ("dot", "dash", "dashdot")
WITHIN = "95 % intervals within these runs (over clusters; of several seeds the outermost ends)"


def panels(
    rows: Mapping[str, pd.DataFrame],
    controls: Mapping[str, str],
    text: str,
    alt: str,
    line: float | None = None,
    at_most: Mapping[str, tuple[float, float]] = {},
) -> go.Figure:
    """Lay out panels: a row for each thing drawn, a column for each arm.

    ``rows``: axis title → table with ``arm, place, control, estimate, low, high, n_examples``; ``controls``: control → its
    name in the legend, ``none`` (the effect) first; ``line``: a level that is marked; ``at_most``: axis title → its range.
    """
    arms = arm_order(pd.concat(list(rows.values()))["arm"])
    figure = make_subplots(
        len(rows),
        len(arms),
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.08,
        column_titles=bold(arms),
    )
    places = sorted(set(pd.concat(list(rows.values()))["place"].astype(int)))
    for row, (title, table) in enumerate(rows.items(), 1):
        for column, arm in enumerate(arms, 1):
            for number, (control, says) in enumerate(controls.items()):
                mine = table[(table["arm"] == arm) & (table["control"] == control)].sort_values("place")
                if mine.empty:
                    continue
                look = (
                    (arm_colour(arm, arms), arm_symbol(arm, arms), "solid")
                    if not number
                    else (GREYS[(number - 1) % 3], "circle-open", DASHES[(number - 1) % 3])
                )
                first = row == 1 and (column == 1 or not number)
                _line(
                    figure, mine, look, safe_text(arm) if not number else says, first, says, row=row, col=column
                )
        figure.update_yaxes(title=title, row=row, col=1)
        if title in at_most:
            figure.update_yaxes(range=list(at_most[title]), row=row)
    if line is not None:
        figure.add_hline(y=line, line={"color": ZERO, "width": 1})
    figure.update_xaxes(layer_ticks(places), range=[min(places) - 0.5, max(places) + 0.5])
    figure.update_xaxes(title="layer", row=len(rows))
    place_legend(figure)
    return finish(figure, text, alt, 130 + 190 * len(rows), 84)


def _line(
    figure: go.Figure,
    of: pd.DataFrame,
    look: tuple[str, str, str],
    name: str,
    legend: bool,
    says: str,
    **where: Any,
) -> None:
    colour, symbol, dash = look
    band = of.dropna(subset=["low", "high"])
    if len(band):
        fill = translucent(colour, 0.14)
        add_band(figure, band["place"], band["low"], band["high"], fill, legendgroup=name, **where)
    shown = of.assign(said=[layer_name(int(place)) for place in of["place"]])
    figure.add_scatter(
        x=of["place"],
        y=of["estimate"],
        mode="lines+markers",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": colour, "width": 2, "dash": dash},
        marker={"color": colour, "size": 6, "symbol": symbol, "maxdisplayed": MARKERS},
        customdata=hover_columns(shown, "said", "low", "high", "n_examples"),
        hovertemplate=f"<b>{name}</b>, {says}, layer %{{customdata[0]}}: %{{y:.2f}} [%{{customdata[1]:.2f}}, "
        "%{customdata[2]:.2f}], n = %{customdata[3]}<extra></extra>",
        **where,
    )


def counted(table: pd.DataFrame, what: str = "examples") -> str:
    """Count how many examples and seeds a caption speaks of."""
    real = table[table["control"] == "none"]
    return counted_examples(real, what)


def ends_words(table: pd.DataFrame, arms: Sequence[str]) -> str:
    """Say each arm's largest value, for a screen reader."""
    real = table[(table["control"] == "none") & table["estimate"].notna()]
    best = real.loc[real.groupby("arm", sort=False)["estimate"].idxmax()]
    return " ".join(
        f"{row.arm}: most at {layer_name(int(row.place))}, {row.estimate:.2f}."
        for row in best.itertuples()
        if row.arm in arms
    )
