"""Responses as HTML: lines of tokens, the arms one below the other, each token coloured by how far its state moves.

Tokens are what a model or a file says: everything is escaped, in content and in attributes.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from cr_interp.figures.style import arm_colour, shade
from cr_interp.tables.token_view import LEAST_KL, MOVES, OUTPUT, Reading, share, visible
from cr_interp.vocabulary import layer_name

#: Characters in a line of :func:`text_html`.
LINE = 92

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
.ct-text .ct-where td, .ct-text .ct-where th { font-size: 0.72rem; opacity: 0.78; border-color: transparent; padding-top: 0;
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
    """Write the responses as HTML: lines of columns, in each the arms one below the other, a token coloured by its movement.

    ``columns`` is :func:`align` of the readings' tokens; ``end`` is where the colour scale ends; ``window`` = (first, last +
    1) restricts the columns; ``arms`` are all arms of the study, for stable colours. Everything is escaped.
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
                    f'<td style="background:{shade(places[index])}" title="{escape(hint)}">'
                    f"{escape(visible(reading.tokens[index]))}</td>"
                )
            colour = arm_colour(reading.arm, arms or [each.arm for each in readings])
            rows.append(
                f'<tr><th scope="row" style="border-color:{colour}" title="{escape(reading.arm)}">'
                f"{escape(reading.arm)}</th>{''.join(cells)}</tr>"
            )
        lines.append(f"<table>{''.join(rows)}</table>")
    name = MOVES[measure][1]
    gradient = f"linear-gradient(to right, {shade(0)}, {shade(1)})"
    least = f"{LEAST_KL:g} and less (log)" if measure == "kl" else "0"
    scale = (
        f"<div class='ct-scale'><span>{escape(name)}</span><span>{least}</span><i style='background:{gradient}'></i>"
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
