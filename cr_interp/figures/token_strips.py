"""Token × layer strips: where in a response, and at which layer, the state moves; a panel per arm over common columns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells, stride
from cr_interp.figures.style import ZERO, empty_figure, finish, layer_ticks, safe_text, shade
from cr_interp.tables.token_view import MOVES, OUTPUT, Reading, scale_ticks, share, visible
from cr_interp.vocabulary import layer_words

#: Of the tokens' labels: the width of a letter and the height of a line in pixels, lines and letters at most, and how much
#: room a panel has in the narrowest window in which it does not scroll.
LETTER, LINE, LINES, LONGEST, ROOM = 7.0, 15, 3, 14, 620


def strips(
    readings: Sequence[Reading],
    columns: Sequence[Sequence[int | None]],
    measure: str,
    end: float,
    layer: int | None = None,
    window: tuple[int, int] | None = None,
    whose: str = "99 % of all tokens of the study lie",
    context: str = "the exact context",
) -> go.Figure:
    """Draw token × layer, a panel per arm over common columns; a cell can be clicked (its y is the layer).

    The arguments are those of :func:`cr_interp.figures.token_html.text_html`; ``layer`` gets a line; ``whose`` says in the
    caption where the scale ends, ``context`` which context returns. With the output's KL there is one row an arm.
    """
    start, stop = window or (0, len(columns[0]) if columns else 0)
    if not readings or stop <= start:
        return empty_figure("No tokens to show.")
    name, axis = MOVES[measure]
    shown = list(range(start, stop))
    if measure == "kl":
        figure = _output_rows(readings, columns, shown, end)
    else:
        figure = _layer_panels(readings, columns, shown, end, measure, layer)
    ticks = scale_ticks(measure, end)
    bar = {
        "thickness": 12,
        "len": min(1.0, 240 / figure.layout.height),
        "y": 1,
        "yanchor": "top",
        "outlinewidth": 0,
        "title": {"text": axis.split(",")[0]},
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }
    scale = [[0.0, shade(0)], [1.0, shade(1)]]
    figure.update_layout(coloraxis={"colorscale": scale, "cmin": 0, "cmax": 1, "colorbar": bar})
    part = f" Columns {start} to {stop - 1} of {len(columns[0])}." if (stop - start) < len(columns[0]) else ""
    what = "next-token distributions" if measure == "kl" else "states that predict the tokens"
    text = (
        f"Movement of the {what} when {context} returns ({axis}), a single response per arm: no mean and no "
        f"interval. The colour scale {'is logarithmic and ' if measure == 'kl' else ''}ends where {whose} ({end:.3g}). n = "
        f"{_counts(readings)}. Arms are aligned where their responses agree; a gap is an empty column.{part}"
    )
    alt = f"Token by layer {name}. " + " ".join(_farthest(reading, axis) for reading in readings)
    figure = finish(figure, text, alt, height=figure.layout.height, top=30)
    lines = max(
        (str(label).count("<br>") for axis in figure.select_xaxes() for label in axis.ticktext or ()), default=0
    )
    figure.update_layout(margin_b=figure.layout.margin.b + LINE * lines)
    figure.update_xaxes(showgrid=False, zeroline=False)
    return figure.update_yaxes(showgrid=False, zeroline=False)


def _layer_panels(
    readings: Sequence[Reading],
    columns: Sequence[Sequence[int | None]],
    shown: list[int],
    end: float,
    measure: str,
    layer: int | None,
) -> go.Figure:
    """Draw a panel per arm, layers up, each with its own tokens below (numbers if there are many)."""
    few = len(shown) <= 40
    deepest = max(len(reading.places) for reading in readings)
    tall = min(max(7 * deepest, 84), 210 if len(readings) <= 4 else 120)
    between = 66 if few else 40
    height = 70 + len(readings) * (tall + between)
    figure = make_subplots(
        len(readings),
        1,
        shared_xaxes=False,
        vertical_spacing=min(between / (height - 60), 1 / len(readings)),
        subplot_titles=[f"<b>{safe_text(reading.arm)}</b>" for reading in readings],
    )
    step = stride(deepest, len(shown), len(readings))
    for row, (reading, mine) in enumerate(zip(readings, columns, strict=True), start=1):
        picked = [mine[column] for column in shown]
        drift = _picked(reading.drift, picked)

        def values(
            i: int, j: int, drift: ndarray = drift, picked: list[Any] = picked, of: Reading = reading
        ) -> list[str]:
            return [
                safe_text(visible(of.tokens[picked[j]])),
                str(picked[j]),
                layer_words(of.places[i]),
                f"{drift[i, j]:.4g}",
            ]

        template = (
            f"<b>{safe_text(reading.arm)}</b>, token %{{customdata[1]}}: %{{customdata[0]}}<br>%{{customdata[2]}}: "
            f"{MOVES[measure][1]} %{{customdata[3]}}"
        )
        z = share(drift, measure, end)
        add_cells(figure, z, shown, reading.places, values, template, reading.arm, step, row=row, col=1)
        if layer in reading.places:
            for edge in (-0.5, 0.5) if deepest <= 40 else (0.0,):
                figure.add_shape(
                    type="line",
                    x0=shown[0] - 0.5,
                    x1=shown[-1] + 0.5,
                    y0=layer + edge,
                    y1=layer + edge,
                    line={"color": ZERO, "width": 1},
                    row=row,
                    col=1,
                )
        ticks = [str(column) if column % 10 == 0 and row == len(readings) else "" for column in shown]
        if few:
            ticks = level(["" if i is None else visible(reading.tokens[i]) for i in picked])
        figure.update_xaxes(
            tickvals=shown,
            ticktext=ticks,
            range=[shown[0] - 0.5, shown[-1] + 0.5],
            ticks="",
            tickangle=0,
            row=row,
            col=1,
            title="token" if row == len(readings) else None,
        )
        figure.update_yaxes(
            range=[reading.places[0] - 0.5, reading.places[-1] + 0.5],
            title="layer",
            row=row,
            col=1,
            **layer_ticks(reading.places, 6),
        )
    return figure.update_layout(height=height)


def _output_rows(
    readings: Sequence[Reading], columns: Sequence[Sequence[int | None]], shown: list[int], end: float
) -> go.Figure:
    """Draw one panel, an arm a row from the top: the output has no layers."""
    figure = go.Figure()
    rows = list(range(len(readings)))
    drift = np.concatenate(
        [
            _picked(reading.drift, [mine[column] for column in shown])
            for reading, mine in zip(readings, columns, strict=True)
        ]
    )

    def values(i: int, j: int) -> list[str]:
        index = columns[i][shown[j]] or 0
        token = safe_text(visible(readings[i].tokens[index]))
        return [safe_text(readings[i].arm), str(index), token, f"{drift[i, j]:.3g}"]

    template = (
        "<b>%{customdata[0]}</b>, token %{customdata[1]}: %{customdata[2]}<br>output KL %{customdata[3]} nats"
    )
    step = stride(len(rows), len(shown), 1)
    add_cells(figure, share(drift, "kl", end), shown, rows, values, template, "output", step)
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[f"<b>{safe_text(reading.arm)}</b>" for reading in readings],
        ticks="",
        range=[len(rows) - 0.5, -0.5],
    )
    ticks = [column for column in shown if column % (1 if len(shown) <= 24 else 10) == 0]
    figure.update_xaxes(title="token (column)", tickvals=ticks, ticks="", range=[shown[0] - 0.5, shown[-1] + 0.5])
    return figure.update_layout(height=max(190, 90 + 34 * len(rows)))


def _picked(drift: Float[ndarray, "place token"], picked: Sequence[int | None]) -> Float[ndarray, "place column"]:
    """Return the tokens that stand in some columns; NaN for a gap."""
    beyond = np.full((len(drift), 1), np.nan)
    return np.concatenate([drift, beyond], axis=1)[:, [-1 if index is None else index for index in picked]]


def level(tokens: Sequence[str], width: int = ROOM) -> list[str]:
    """Lay labels level so that they do not meet: on as many lines as it takes (three at most); longer ones are cut.

    ``width`` is what all columns have together, in pixels. A line break lowers a label; neighbours have different lines.

    >>> level(["abcdefgh", "b"], width=80)
    ['abcdefgh', '<br>b']
    """
    if not tokens:
        return []
    column = width / len(tokens)
    longest = max(len(token) for token in tokens)
    lines = min(LINES, max(1, math.ceil(LETTER * (min(longest, LONGEST) + 1) / column)))
    fits = max(1, min(LONGEST, int(lines * column / LETTER) - 1))
    cut = [token if len(token) <= fits else token[: max(fits - 1, 1)] + "…" for token in tokens]
    return ["<br>" * (place % lines) + safe_text(token) for place, token in enumerate(cut)]


def _counts(readings: Sequence[Reading]) -> str:
    """Say ``8 tokens an arm``, or how many each arm has."""
    lengths = {len(reading.tokens) for reading in readings}
    if len(lengths) == 1:
        return f"{lengths.pop()} tokens an arm"
    return ", ".join(f"{len(reading.tokens)} ({reading.arm})" for reading in readings) + " tokens"


def _farthest(reading: Reading, axis: str) -> str:
    if not np.isfinite(reading.drift).any():
        return f"{reading.arm}: nothing was measured."
    i, j = np.unravel_index(int(np.nanargmax(reading.drift)), reading.drift.shape)
    where = "the output" if reading.places[i] == OUTPUT else layer_words(reading.places[i])
    return f"{reading.arm}: farthest is token {j}, {visible(reading.tokens[j])}, at {where}, {axis} {reading.drift[i, j]:.3g}."
