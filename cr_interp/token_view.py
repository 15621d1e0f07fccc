"""Which tokens drift: a response's tokens coloured by how far their states move, as text and as token × layer strips.

Mental model: a row of ``token_drift`` is a token at a site: the state that *predicts* this token, read without and with
the context. Its movement is 1 − cosine or relative L2 at a layer, or the KL divergence of the two next-token
distributions at the output (:data:`MOVES`); all three are 0 where nothing moves, so one scale of colour serves them.
Checkpoints answer differently, so :func:`align` gives the arms' responses common columns.

    moved       adds the movement of a measure to rows of token_drift
    rank        token_drift at one layer → examples, those that move most first
    align       token lists → columns
    text_html   columns → safe HTML: the text in lines, the arms stacked
    strips      columns → a figure: token × layer, a panel per arm

Tokens, prompts and responses are what a model or a file says: :func:`text_html` escapes all of it.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from cr_interp.cells import add_cells, stride
from cr_interp.figure_style import ZERO, arm_colour, empty_figure, finish, layer_name, layer_ticks, safe_text
from cr_interp.matching import agreement, opcodes

#: measure → (name, what is coloured)
MOVES = {
    "cosine": ("cosine", "1 − cosine"),
    "relative_l2": ("relative L2", "relative L2"),
    "kl": ("output KL", "KL(without ‖ with), nats"),
}
#: How an example is ordered: by its farthest token or by all of them.
STATISTICS = {"max": "farthest token", "mean": "mean of tokens"}
#: Layer of the rows of the site ``output``; they have the KL and no state.
OUTPUT = -2
#: Columns that are drawn at once; a longer response is read in windows.
WINDOW = 120
#: Where the logarithmic colour scale of the output's KL begins, in nats.
LEAST_KL = 1e-3
#: One hue from nearly nothing to this opacity: text stays readable on light and on dark pages.
HUE, FAINT, FULL = (214, 60, 130), 0.04, 0.72
#: Characters in a line of :func:`text_html`.
LINE = 92


def place(rows: pd.DataFrame) -> pd.Series:
    """Where a row of ``token_drift`` belongs: −1 the embedding, 0 … the blocks, :data:`OUTPUT` the output."""
    layers = rows["layer"].astype(int)
    layers = layers.where(rows["site"] != "resid_pre", -1)
    return layers.where(rows["site"] != "output", OUTPUT)


def moved(rows: pd.DataFrame, measure: str) -> Float[ndarray, " row"]:
    """How far each row's state moves by ``measure``; NaN where it has none. Never below 0 (float noise is cut)."""
    values = rows[measure].to_numpy(dtype=float)
    return np.maximum(1 - values if measure == "cosine" else values, 0.0)


def scale_end(values: Float[ndarray, " token"]) -> float:
    """Where the colour scale ends: the movement that 99 % of all tokens stay below, so that one outlier does not
    turn all others pale."""
    values = values[np.isfinite(values)]
    return max(float(np.quantile(values, 0.99)), 1e-6) if len(values) else 1.0


def share(drift: Float[ndarray, "*any"], measure: str, end: float) -> Float[ndarray, "*any"]:
    """Where a movement lies on the colour scale, 0 to 1: linear, but logarithmic for the output's KL, which spans
    decades; NaN stays NaN."""
    if measure == "kl":
        low, high = np.log10(LEAST_KL), np.log10(max(end, 10 * LEAST_KL))
        with np.errstate(divide="ignore"):
            return np.clip((np.log10(drift) - low) / (high - low), 0.0, 1.0)
    return np.clip(drift / end, 0.0, 1.0)


def scale_ticks(measure: str, end: float) -> dict[float, str]:
    """Ticks of the colour scale: share → the movement there."""
    if measure == "kl":
        high = max(end, 10 * LEAST_KL)
        decades = range(round(np.log10(LEAST_KL)), int(np.floor(np.log10(high))) + 1)
        ticks = {float(share(np.array([10.0**d]), measure, end)[0]): f"{10.0**d:g}" for d in decades}
        return {at: f"≤ {label}" if at == 0 else label for at, label in ticks.items()}
    return {at: f"{at * end:.2g}" for at in (0.0, 0.25, 0.5, 0.75)} | {1.0: f"≥ {end:.2g}"}


def rank(rows: pd.DataFrame, measure: str, statistic: str = "max") -> pd.DataFrame:
    """Examples by drift, the farthest first: ``example_id, drift, tokens, position, token``.

    ``rows`` are one arm's, seed's and layer's. ``position`` and ``token`` are of the token that moves most.
    """
    rows = rows.assign(drift=moved(rows, measure)).dropna(subset="drift").reset_index(drop=True)
    grouped = rows.groupby("example_id", sort=True)["drift"]
    far = rows.loc[grouped.idxmax()].set_index("example_id")
    table = pd.DataFrame(
        {
            "drift": grouped.max() if statistic == "max" else grouped.mean(),
            "tokens": grouped.size(),
            "position": far["position"],
            "token": far["token"],
        }
    )
    return table.sort_values("drift", ascending=False, kind="stable").rename_axis("example_id").reset_index()


# -- alignment -----------------------------------------------------------------------------------------------


def align(sequences: Sequence[Sequence[str]], similar: float = 0.75) -> list[list[int | None]]:
    """Common columns for several token lists: per list, the position that stands in each column, or None for a gap.

    Each list is matched against the columns so far. What is equal shares a column; what differs is set side by side
    position by position. Lists of which less than ``similar`` is equal are aligned by position alone: chance matches
    of unrelated texts would only tear them apart.

    >>> align([["a", "b", "c"], ["a", "c"]])
    [[0, 1, 2], [0, None, 1]]
    """
    columns: list[list[int | None]] = []
    said: list[str] = []  # what stands in a column: the first list that has a token there
    for done, tokens in enumerate(sequences):
        steps = opcodes(said, tokens)
        if done and agreement(steps, len(said), len(tokens)) < similar:
            steps = [("replace", 0, len(said), 0, len(tokens))]
        merged: list[list[int | None]] = []
        words: list[str] = []
        for _, a, b, c, d in steps:
            for k in range(max(b - a, d - c)):
                old = columns[a + k] if a + k < b else [None] * done
                merged.append([*old, c + k if c + k < d else None])
                words.append(said[a + k] if a + k < b else tokens[c + k])
        columns, said = merged, words
    return [[column[index] for column in columns] for index in range(len(sequences))]


@dataclass(frozen=True)
class Reading:
    """One arm's response: its tokens and how far each moves at each place, ``drift[place, token]``."""

    arm: str
    tokens: list[str]
    places: list[int]
    drift: Float[ndarray, "place token"]
    #: measure → its values as they are in the table, at the same places and tokens; for the tooltips
    values: dict[str, Float[ndarray, "place token"]] = field(default_factory=dict)

    @staticmethod
    def of(arm: str, rows: pd.DataFrame, measure: str) -> "Reading":
        """From the rows of one arm, seed and example at all sites."""
        rows = rows.assign(place=place(rows), drift=moved(rows, measure))
        rows = rows.drop_duplicates(["place", "position"])
        positions = sorted(set(rows["position"]))
        wanted = rows[rows["place"] == OUTPUT] if measure == "kl" else rows[rows["place"] != OUTPUT]
        places = sorted(set(wanted["place"]))
        tokens = rows.drop_duplicates("position").set_index("position")["token"]

        def grid(name: str) -> ndarray:
            table = wanted.pivot(index="place", columns="position", values=name)
            return table.reindex(places, columns=positions).to_numpy(dtype=float)

        # The table holds the movement's own measure at every site; the output's KL goes along with each of them.
        values = {name: grid(name) for name in MOVES if name != "kl"} if measure != "kl" else {}
        output = (
            rows[rows["place"] == OUTPUT].set_index("position")["kl"].reindex(positions).to_numpy(dtype=float)
        )
        values["kl"] = np.tile(output, (len(places), 1))
        return Reading(arm, [str(tokens[each]) for each in positions], places, grid("drift"), values)

    def at(self, layer: int) -> Float[ndarray, " token"]:
        """The movement at a layer; NaN if the response was not read there. With the KL there is only the output."""
        if self.places == [OUTPUT]:
            return self.drift[0]
        nowhere = np.full(len(self.tokens), np.nan)
        return self.drift[self.places.index(layer)] if layer in self.places else nowhere


def farthest(readings: Sequence[Reading]) -> float:
    """The largest movement in these responses: an end of the colour scale for them alone."""
    found = [float(np.nanmax(each.drift)) for each in readings if np.isfinite(each.drift).any()]
    return max([*found, 1e-6])


# -- HTML ----------------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """A token as it can be seen: white space and control characters get a sign, so that none is invisible or turns
    the direction of what follows.

    >>> visible(" a\\n")
    '·a⏎'
    """
    if not text:
        return "∅"
    signs = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}
    return "".join(
        signs.get(each)
        or (f"‹{ord(each):04X}›" if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") else each)
        for each in text
    )


def safe_html(text: object) -> str:
    """Text for HTML, in content and in quoted attributes."""
    return escape(str(text), quote=True)


def shade(at: float) -> str:
    """The colour at a place of the scale, 0 to 1."""
    red, green, blue = HUE
    return f"rgba({red},{green},{blue},{FAINT + (FULL - FAINT) * at:.3f})"


STYLE = """<style>
.ct-text { overflow: auto; max-height: 30rem; padding: 0.2rem 0; line-height: 1.5; }
.ct-text table { border-collapse: separate; border-spacing: 1px 2px; margin: 0 0 0.9rem 0; border: 0; }
.ct-text th, .ct-text td { border: 0; padding: 0.05rem 0.2rem; font-size: 0.9rem; white-space: pre; text-align: left; }
.ct-text th { position: sticky; left: 0; padding-right: 0.6rem; font-weight: 600; min-width: 4.5rem; max-width: 9rem;
  overflow: hidden; text-overflow: ellipsis; border-left: 4px solid; }
.ct-text td { font-family: "Source Code Pro", ui-monospace, monospace; border-radius: 3px; unicode-bidi: isolate;
  max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.ct-text td.ct-gap { opacity: 0.35; text-align: center; }
.ct-text .ct-where td { max-width: 0; overflow: visible; }
.ct-text .ct-where td, .ct-text .ct-where th { font-size: 0.68rem; opacity: 0.6; border-color: transparent; padding-top: 0;
  padding-bottom: 0; font-family: inherit; }
.ct-scale { display: flex; align-items: center; gap: 0.5rem; font-size: 0.85rem; margin: 0.1rem 0 0.6rem 0; }
.ct-scale i { display: inline-block; width: 9rem; height: 0.8rem; border-radius: 3px; }
</style>"""


def text_html(
    readings: Sequence[Reading],
    columns: Sequence[Sequence[int | None]],
    layer: int,
    measure: str,
    end: float,
    window: tuple[int, int] | None = None,
    arms: Sequence[str] | None = None,
) -> str:
    """The responses as HTML: lines of columns, in each the arms one below the other, a token coloured by its movement.

    ``columns`` is :func:`align` of the readings' tokens; ``end`` is where the colour scale ends; ``window`` = (first,
    last + 1) restricts the columns; ``arms`` are all arms of the study, for stable colours. Everything is escaped.
    """
    start, stop = window or (0, len(columns[0]) if columns else 0)
    at = [np.nan_to_num(share(reading.at(layer), measure, end)) for reading in readings]
    where = "output" if measure == "kl" else layer_name(layer)
    lines = []
    for first, last in _lines(readings, columns, start, stop):
        rows = [f"<tr class='ct-where'><th scope='row'>token</th>{_numbers(first, last)}</tr>"]
        for reading, mine, places in zip(readings, columns, at, strict=True):
            cells = []
            for column in range(first, last):
                index = mine[column]
                if index is None:
                    cells.append("<td class='ct-gap'>–</td>")
                    continue
                hint = _hint(reading, index, layer, where)
                cells.append(
                    f'<td style="background:{shade(places[index])}" title="{safe_html(hint)}">'
                    f"{safe_html(visible(reading.tokens[index]))}</td>"
                )
            colour = arm_colour(reading.arm, arms or [each.arm for each in readings])
            rows.append(
                f'<tr><th scope="row" style="border-color:{colour}" title="{safe_html(reading.arm)}">'
                f"{safe_html(reading.arm)}</th>{''.join(cells)}</tr>"
            )
        lines.append(f"<table>{''.join(rows)}</table>")
    name = MOVES[measure][1]
    gradient = f"linear-gradient(to right, {shade(0)}, {shade(1)})"
    least = f"{LEAST_KL:g} and less (log)" if measure == "kl" else "0"
    scale = (
        f"<div class='ct-scale'><span>{safe_html(name)}</span><span>{least}</span><i style='background:{gradient}'></i>"
        f"<span>{end:.3g} and more</span></div>"
    )
    return f"{STYLE}{scale}<div class='ct-text' role='group' aria-label='tokens'>{''.join(lines)}</div>"


def _lines(
    readings: Sequence[Reading], columns: Sequence[Sequence[int | None]], start: int, stop: int
) -> list[tuple[int, int]]:
    """Cut columns into lines of at most :data:`LINE` characters (a column takes its widest token and a gap)."""
    cut, first, used = [], start, 0
    for column in range(start, stop):
        at = [(reading, mine[column]) for reading, mine in zip(readings, columns, strict=True)]
        width = 1 + max(len(visible(each.tokens[index])) if index is not None else 1 for each, index in at)
        if column > first and used + width > LINE:
            cut.append((first, column))
            first, used = column, 0
        used += width
    return [*cut, (first, stop)] if stop > start else []


def _numbers(first: int, last: int) -> str:
    return "".join(
        f"<td>{column if column == first or column % 5 == 0 else ''}</td>" for column in range(first, last)
    )


def _hint(reading: Reading, index: int, layer: int, where: str) -> str:
    row = 0 if reading.places == [OUTPUT] else reading.places.index(layer) if layer in reading.places else None
    parts = [f"{reading.arm}, token {index}: {reading.tokens[index]!r}"]
    if row is not None:
        found = {name: grid[row, index] for name, grid in reading.values.items() if np.isfinite(grid[row, index])}
        at = [f"{MOVES[name][0]} {value:.4g}" for name, value in found.items() if name != "kl"]
        if at:
            parts.append(f"layer {where}: " + ", ".join(at))
        if "kl" in found:
            parts.append(f"output KL {found['kl']:.3g} nats")
    return "\n".join(parts)


# -- figure --------------------------------------------------------------------------------------------------


def strips(
    readings: Sequence[Reading],
    columns: Sequence[Sequence[int | None]],
    measure: str,
    end: float,
    layer: int | None = None,
    window: tuple[int, int] | None = None,
    whose: str = "99 % of all tokens of the study lie",
) -> go.Figure:
    """Token × layer, a panel per arm over common columns; a cell can be clicked (its y is the layer).

    The arguments are those of :func:`text_html`; ``layer`` gets a line; ``whose`` says in the
    caption where the scale ends. With the output's KL there is one row an arm.
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
        "thickness": 12, "len": min(1.0, 240 / figure.layout.height), "y": 1, "yanchor": "top", "outlinewidth": 0,
        "title": {"text": axis.split(",")[0]}, "tickvals": list(ticks), "ticktext": list(ticks.values()),
    }  # fmt: skip
    scale = [[0.0, shade(0)], [1.0, shade(1)]]
    figure.update_layout(coloraxis={"colorscale": scale, "cmin": 0, "cmax": 1, "colorbar": bar})
    part = f" Columns {start} to {stop - 1} of {len(columns[0])}." if (stop - start) < len(columns[0]) else ""
    what = "next-token distributions" if measure == "kl" else "states that predict the tokens"
    text = (
        f"Movement of the {what} when the exact context returns ({axis}), a single response per arm: no mean and no "
        f"interval. The colour scale {'is logarithmic and ' if measure == 'kl' else ''}ends where {whose} ({end:.3g}). n = "
        f"{_counts(readings)}. Arms are aligned where their responses agree; a gap is an empty column.{part}"
    )
    alt = f"Token by layer {name}. " + " ".join(_farthest(reading, axis) for reading in readings)
    figure = finish(figure, text, alt, height=figure.layout.height, top=30)
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
    """A panel per arm, layers up, each with its own tokens below (numbers if there are many)."""
    few = len(shown) <= 40
    deepest = max(len(reading.places) for reading in readings)
    tall = min(max(7 * deepest, 84), 210 if len(readings) <= 4 else 120)
    between = 66 if few else 40
    height = 70 + len(readings) * (tall + between)
    figure = make_subplots(
        len(readings), 1, shared_xaxes=False, vertical_spacing=min(between / (height - 60), 1 / len(readings)),
        subplot_titles=[f"<b>{safe_text(reading.arm)}</b>" for reading in readings],
    )  # fmt: skip
    step = stride(deepest, len(shown), len(readings))
    for row, (reading, mine) in enumerate(zip(readings, columns, strict=True), start=1):
        picked = [mine[column] for column in shown]
        drift = _picked(reading.drift, picked)

        def values(
            i: int, j: int, drift: ndarray = drift, picked: list[Any] = picked, of: Reading = reading
        ) -> list[str]:
            return [
                safe_text(visible(of.tokens[picked[j]])), str(picked[j]), _called(of.places[i]), f"{drift[i, j]:.4g}"
            ]  # fmt: skip

        template = (
            f"<b>{safe_text(reading.arm)}</b>, token %{{customdata[1]}}: %{{customdata[0]}}<br>%{{customdata[2]}}: "
            f"{MOVES[measure][1]} %{{customdata[3]}}"
        )
        z = share(drift, measure, end)
        add_cells(figure, z, shown, reading.places, values, template, reading.arm, step, row=row, col=1)
        if layer in reading.places:
            for edge in (-0.5, 0.5) if deepest <= 40 else (0.0,):
                figure.add_shape(
                    type="line", x0=shown[0] - 0.5, x1=shown[-1] + 0.5, y0=layer + edge, y1=layer + edge,
                    line={"color": ZERO, "width": 1}, row=row, col=1,
                )  # fmt: skip
        ticks = [str(column) if column % 10 == 0 and row == len(readings) else "" for column in shown]
        if few:
            ticks = ["" if i is None else safe_text(_short(visible(reading.tokens[i]))) for i in picked]
        figure.update_xaxes(
            tickvals=shown, ticktext=ticks, range=[shown[0] - 0.5, shown[-1] + 0.5], ticks="",
            tickangle=0 if len(shown) <= 10 or not few else -50, row=row, col=1,
            title="token" if row == len(readings) else None,
        )  # fmt: skip
        figure.update_yaxes(
            range=[reading.places[0] - 0.5, reading.places[-1] + 0.5], title="layer", row=row, col=1,
            **layer_ticks(reading.places, 6),
        )  # fmt: skip
    return figure.update_layout(height=height)


def _output_rows(
    readings: Sequence[Reading], columns: Sequence[Sequence[int | None]], shown: list[int], end: float
) -> go.Figure:
    """One panel, an arm a row from the top: the output has no layers."""
    figure = go.Figure()
    rows = list(range(len(readings)))
    drift = np.concatenate(
        [_picked(reading.drift, [mine[column] for column in shown])
         for reading, mine in zip(readings, columns, strict=True)]
    )  # fmt: skip

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
        tickvals=rows, ticktext=[f"<b>{safe_text(reading.arm)}</b>" for reading in readings], ticks="",
        range=[len(rows) - 0.5, -0.5],
    )  # fmt: skip
    ticks = [column for column in shown if column % (1 if len(shown) <= 24 else 10) == 0]
    figure.update_xaxes(title="token (column)", tickvals=ticks, ticks="", range=[shown[0] - 0.5, shown[-1] + 0.5])
    return figure.update_layout(height=max(190, 90 + 34 * len(rows)))


def _picked(drift: Float[ndarray, "place token"], picked: Sequence[int | None]) -> Float[ndarray, "place column"]:
    """The tokens that stand in some columns; NaN for a gap."""
    beyond = np.full((len(drift), 1), np.nan)
    return np.concatenate([drift, beyond], axis=1)[:, [-1 if index is None else index for index in picked]]


def _called(where: int) -> str:
    return "embedding" if where < 0 else f"layer {where}"


def _short(token: str) -> str:
    return token if len(token) <= 10 else token[:9] + "…"


def _counts(readings: Sequence[Reading]) -> str:
    """``8 tokens an arm``, or how many each arm has."""
    lengths = {len(reading.tokens) for reading in readings}
    if len(lengths) == 1:
        return f"{lengths.pop()} tokens an arm"
    return ", ".join(f"{len(reading.tokens)} ({reading.arm})" for reading in readings) + " tokens"


def _farthest(reading: Reading, axis: str) -> str:
    if not np.isfinite(reading.drift).any():
        return f"{reading.arm}: nothing was measured."
    i, j = np.unravel_index(int(np.nanargmax(reading.drift)), reading.drift.shape)
    where = "the output" if reading.places[i] == OUTPUT else _called(reading.places[i])
    return f"{reading.arm}: farthest is token {j}, {visible(reading.tokens[j])}, at {where}, {axis} {reading.drift[i, j]:.3g}."
