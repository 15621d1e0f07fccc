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
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells
from cr_interp.figures.marks import add_band
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
    layer_ticks,
    safe_text,
    translucent,
)
from cr_interp.tables.drift import as_movement, resid_rows
from cr_interp.tables.interval_words import between
from cr_interp.tables.patching import CONTROLS, DIRECTIONS, READOUTS, other_answers, patching_table
from cr_interp.vocabulary import arm_order, layer_name, measure_words

#: From undone to done, white where a patch does nothing; more and less than that is shown as these ends and said in the text.
SCALE = [[0.0, "#8C510A"], [0.5, "#F2F2F2"], [1.0, "#01665E"]]
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
    """A panel per arm: recovered share by layer (across) and site (up); below it the arm's drift if that is given."""
    table = patching_table(patching, group, direction, readout)
    real = table[table["control"] == "none"]
    if real.empty:
        return empty_figure(f"No {safe_text(group)} answers were patched, or their answers do not part.")
    arms = arm_order(real["arm"])
    rows = 1 if drift is None or drift.empty else 2
    figure = make_subplots(
        rows,
        len(arms),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.08,
        horizontal_spacing=0.03,
        row_heights=[0.5, 0.5][:rows],
        subplot_titles=[f"<b>{safe_text(arm)}</b>" for arm in arms],
    )
    sites = [site for site in ORDER if site in set(real["site"])] + sorted(set(real["site"]) - set(ORDER))
    places = sorted(set(real["place"]))
    for column, arm in enumerate(arms, 1):
        _cells(figure, table[table["arm"] == arm], sites, places, arm, readout, column)
        if rows == 2 and drift is not None:
            _curve(figure, drift, arm, arms, measure, column)
    figure.update_xaxes(layer_ticks(places), range=[min(places) - 0.5, max(places) + 0.5])
    figure.update_xaxes(title="layer", row=rows)
    figure.update_yaxes(tickvals=list(range(len(sites))), ticktext=sites, row=1)
    figure.update_layout(
        coloraxis={"colorscale": SCALE, "cmin": -1, "cmax": 1, "colorbar": {"thickness": 12, "title": readout}},
        showlegend=False,
    )
    if rows == 2:
        # Said, since the browser finds no range for axes that match each other and a row of cells: it would draw −1 to 4.
        lines = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines+markers"]
        curves = [float(value) for trace in lines for value in trace.y if np.isfinite(value)]
        low, high = min([0.0, *curves]), max(curves, default=1.0) or 1.0
        figure.update_yaxes(range=[low - 0.04 * (high - low), high + 0.08 * (high - low)], row=2)
        figure.update_yaxes(title=measure_words(measure).movement, row=2, col=1)
    best = real.loc[real.groupby("arm", sort=False)["estimate"].idxmax()]
    alt = "Where the answer is decided. " + " ".join(
        f"{row.arm}: most at {row.site} of {layer_name(row.place)}, {row.estimate:.2f}."
        for row in best.itertuples()
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
    beside = ", ".join(
        f"{CONTROLS[str(name)]} at most {value:.2f}"
        for name, value in controls.groupby("control")["estimate"].max().items()
    )
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
        f"{counted_examples(real)}. Controls there: {beside or 'none'}."
    )
    best = real.loc[real.groupby("arm", sort=False)["estimate"].idxmax()]
    meta["alt"] = (
        meta.get("alt", "")
        + " Recovered share below. "
        + " ".join(
            f"{row.arm}: highest {row.estimate:.2f} at {layer_name(row.place)}." for row in best.itertuples()
        )
    )
    return figure.update_layout(meta=meta)


def _cells(
    figure: go.Figure,
    table: pd.DataFrame,
    sites: list[str],
    places: list[int],
    arm: str,
    readout: str,
    column: int,
) -> None:
    of = {(row.site, row.place, row.control): row for row in table.itertuples()}
    z = np.full((len(sites), len(places)), np.nan)
    for i, site in enumerate(sites):
        for j, place in enumerate(places):
            if (site, place, "none") in of:
                z[i, j] = of[site, place, "none"].estimate

    def hover(i: int, j: int) -> list[str]:
        row = of[sites[i], places[j], "none"]
        controls = [
            f"{says}: {of[sites[i], places[j], name].estimate:.2f}"
            for name, says in CONTROLS.items()
            if name != "none" and (sites[i], places[j], name) in of
        ]
        return [
            f"{sites[i]}, layer {layer_name(places[j])}",
            f"{row.estimate:.2f} {between(row.low, row.high)}",
            f"{int(row.n_examples)}",
            "<br>".join(controls),
        ]

    template = (
        f"<b>{safe_text(arm)}</b>, %{{customdata[0]}}<br>{readout} %{{customdata[1]}}, n = %{{customdata[2]}}"
        "<br>%{customdata[3]}"
    )
    add_cells(figure, z, places, list(range(len(sites))), hover, template, arm, row=1, col=column)


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
    highest = controls.groupby("control")["estimate"].max()
    told = {"other": f" ({others})"} if (others := other_answers(table)) else {}
    beside = ", ".join(
        f"{CONTROLS[str(name)]} at most {value:.2f}{told.get(str(name), '')}" for name, value in highest.items()
    )
    return (
        f"Patching, {direction}: {DIRECTIONS[direction]}, at the aligned positions of one site. Colour: {READOUTS[readout]}, 1 "
        f"where the patch does everything, 0 nothing; not clipped in the text, colours end at ±1. "
        f"{counted_examples(real, f'{group} examples')}. The pointer "
        f"shows 95 % intervals (bootstrap over clusters within these runs; of several seeds the outermost ends). Controls at "
        f"the same places: {beside or 'none'}."
        + (" Below: how far the states of the same arm move." if curve else "")
    )
