"""Where an answer is decided: what patching recovers, layer by site, above how far the states move, on one layer axis.

Mental model: the two need not agree. The layer whose state moves most when the context returns is not by itself the one
that decides. A cell is what a patch at one site of one layer recovers, with the controls at the same place in its hover text;
the curve is the drift of the same arm.

    decided   patching and drift → the figure
    below     a figure of drift by layer → the same with the recovered share under it
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.marks import add_band, arm_panels
from cr_interp.figures.patched import add_patched, controls_words, finish_axes, highest
from cr_interp.figures.style import (
    GRID,
    MARKERS,
    ZERO,
    arm_colour,
    arm_symbol,
    counted_examples,
    empty_figure,
    finish,
    hover_columns,
    safe_text,
    translucent,
)
from cr_interp.tables.drift import as_movement, resid_rows
from cr_interp.tables.patching import DIRECTIONS, READOUTS, other_answers, patching_table
from cr_interp.vocabulary import arm_order, layer_name, measure_words

#: Up the figure, as a block computes them.
ORDER = ("attn_out", "mlp_out", "resid_post")


def decided(
    patching: pd.DataFrame,
    drift: pd.DataFrame | None = None,
    group: str = "harmed",
    direction: str = "repair",
    readout: str = "share",
    measure: str = "cosine",
) -> go.Figure:
    """Draw a panel per arm: recovered share by layer (across) and site (up); below it the arm's drift if that is given."""
    table = patching_table(patching, group, direction, readout)
    real = table[table["control"] == "none"]
    if real.empty:
        return empty_figure(f"No {safe_text(group)} answers were patched, or their answers do not part.")
    arms = arm_order(real["arm"])
    rows = 1 if drift is None or drift.empty else 2
    figure = arm_panels(arms, [0.5, 0.5][:rows])
    sites = [site for site in ORDER if site in set(real["site"])] + sorted(set(real["site"]) - set(ORDER))
    places = sorted(set(real["place"]))

    def named(i: int, j: int) -> str:
        return f"{sites[i]}, layer {layer_name(places[j])}"

    for column, arm in enumerate(arms, 1):
        mine = table[table["arm"] == arm]
        add_patched(figure, mine, "site", "place", sites, places, named, arm, readout, column=column)
        if rows == 2 and drift is not None:
            _curve(figure, drift, arm, arms, measure, column)
    finish_axes(figure, places, rows, readout)
    figure.update_yaxes(tickvals=list(range(len(sites))), ticktext=sites, row=1)
    if rows == 2:
        # Said, since the browser finds no range for axes that match each other and a row of cells: it would draw −1 to 4.
        lines = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines+markers"]
        curves = [float(value) for trace in lines for value in trace.y if np.isfinite(value)]
        low, high = min([0.0, *curves]), max(curves, default=1.0) or 1.0
        figure.update_yaxes(range=[low - 0.04 * (high - low), high + 0.08 * (high - low)], row=2)
        figure.update_yaxes(title=measure_words(measure).movement, row=2, col=1)
    alt = "Where the answer is decided. " + " ".join(
        f"{row.arm}: most at {row.site} of {layer_name(row.place)}, {row.estimate:.2f}."
        for row in highest(real).itertuples()
    )
    return finish(figure, _caption(table, group, direction, readout, rows == 2), alt, height=150 + 130 * rows)


def below(
    figure: go.Figure,
    patching: pd.DataFrame,
    arms: list[str] | None = None,
    site: str = "resid_post",
    group: str = "harmed",
    readout: str = "share",
) -> go.Figure:
    """Put under a figure of drift by layer what patching one site repairs, on the same layer axis: what moves, and what matters.

    ``figure`` is :func:`cr_interp.figures.drift.drift_by_layer`'s and is changed; it stays as it is where nothing was patched.
    ``arms``: all arms of the study, for stable colours.
    """
    table = patching_table(patching, group, "repair", readout)
    real = table[(table["control"] == "none") & (table["site"] == site)]
    shown = {trace.name for trace in figure.data}
    real = real[[safe_text(arm) in shown for arm in real["arm"]]]
    if real.empty or not figure.data:
        return figure
    arms = arms or arm_order(table["arm"])
    figure.add_scatter(
        x=[min(real["place"]), max(real["place"])],
        y=[0, 0],
        mode="lines",
        line={"color": ZERO, "width": 1},
        yaxis="y2",
        hoverinfo="skip",
        showlegend=False,
    )
    for arm in arm_order(real["arm"]):
        mine, colour = real[real["arm"] == arm], arm_colour(arm, arms)
        band = mine.dropna(subset=["low", "high"])
        where = {"yaxis": "y2", "legendgroup": str(arm)}
        add_band(figure, band["place"], band["low"], band["high"], translucent(colour, 0.16), **where)
        named = mine.assign(layer=[layer_name(place) for place in mine["place"]])
        figure.add_scatter(
            x=mine["place"],
            y=mine["estimate"],
            mode="lines+markers",
            yaxis="y2",
            name=safe_text(arm),
            showlegend=False,
            legendgroup=str(arm),
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 7, "symbol": arm_symbol(arm, arms), "maxdisplayed": MARKERS},
            customdata=hover_columns(named, "layer", "low", "high", "n_examples"),
            hovertemplate=f"<b>{safe_text(arm)}</b>, {site} of layer %{{customdata[0]}} put in: %{{y:.2f}} "
            "[%{customdata[1]:.2f}, %{customdata[2]:.2f}], n = %{customdata[3]}<extra></extra>",
        )
    controls = table[(table["control"] != "none") & (table["site"] == site) & table["arm"].isin(real["arm"])]
    top = figure.layout.height or 410
    height = top + 190
    gap = 26 / height
    share = 165 / height
    figure.update_layout(
        height=height,
        yaxis2={
            "domain": [0, share],
            "anchor": "x",
            "title": "recovered share",
            "gridcolor": GRID,
            "zeroline": False,
            "automargin": False,
            "title_standoff": 8,
        },
        yaxis={"domain": [share + gap, 1]},
        xaxis={"anchor": "y2"},
    )
    meta = dict(figure.layout.meta or {})
    meta["caption"] = meta.get("caption", "") + (
        f" Below: {READOUTS[readout]}, of {group} answers, when the {site} of one layer without the context is put into the run "
        f"with it; 1 repairs all, 0 nothing; not clipped. Band: outermost ends of the seeds' within intervals. "
        f"{counted_examples(real)}. Controls there: {controls_words(controls)}."
    )
    meta["alt"] = (
        meta.get("alt", "")
        + " Recovered share below. "
        + " ".join(
            f"{row.arm}: highest {row.estimate:.2f} at {layer_name(row.place)}."
            for row in highest(real).itertuples()
        )
    )
    return figure.update_layout(meta=meta)


def _curve(figure: go.Figure, drift: pd.DataFrame, arm: str, arms: list[str], measure: str, column: int) -> None:
    rows = as_movement(resid_rows(drift[drift["arm"] == arm], measure, "exact"), measure)
    curve = rows.groupby("place")["estimate"].mean()
    colour = arm_colour(arm, arms)
    figure.add_scatter(
        x=curve.index,
        y=curve.to_numpy(),
        mode="lines+markers",
        name=safe_text(arm),
        row=2,
        col=column,
        line={"color": colour},
        marker={"symbol": arm_symbol(arm, arms), "color": colour},
    )


def _caption(table: pd.DataFrame, group: str, direction: str, readout: str, curve: bool) -> str:
    real, controls = table[table["control"] == "none"], table[table["control"] != "none"]
    told = {"other": f" ({others})"} if (others := other_answers(table)) else {}
    return (
        f"Patching, {direction}: {DIRECTIONS[direction]}, at the aligned positions of one site. Colour: {READOUTS[readout]}, 1 "
        f"where the patch does everything, 0 nothing; not clipped in the text, colours end at ±1. "
        f"{counted_examples(real, f'{group} examples')}. The pointer "
        f"shows 95 % intervals (bootstrap over clusters within these runs; of several seeds the outermost ends). Controls at "
        f"the same places: {controls_words(controls, told)}."
        + (" Below: how far the states of the same arm move." if curve else "")
    )
