"""How every figure looks and speaks: colours and markers of the arms, words for metrics and measures, captions.

Mental model: what the figures of :mod:`cr_interp.figures` have in common, all colours among it. An arm keeps its colour and
marker in all figures, a figure carries its caption and its alternative text, and a name that comes from a table is escaped before
plotly sees it.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from html import escape, unescape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.vocabulary import METRICS, arm_order, layer_name

# -- colours and words ---------------------------------------------------------------------------------------

ARM_COLOURS = {
    "base": "#858585",
    "opd": "#D55E00",
    "nca": "#0072B2",
    "dual_opd": "#CC79A7",
    "sym_kl": "#009E73",
}
#: For arms that have no colour of their own, in the order of their names (Okabe–Ito's rest, then Tol's muted).
FALLBACK_COLOURS = ("#E69F00", "#56B4E9", "#AA4499", "#999933", "#882255", "#44AA99")
ARM_SYMBOLS = {"base": "circle", "opd": "square", "nca": "diamond", "dual_opd": "triangle-up", "sym_kl": "cross"}
FALLBACK_SYMBOLS = ("triangle-down", "pentagon", "star", "hexagon", "x", "hourglass")

#: Apart from the arms' colours on purpose: an outcome must not look like an arm.
OUTCOME_COLOURS = {"right": "#A9B4C2", "wrong": "#882255", "unparsable": "#DDCC77", "truncated": "#44AA99"}
OUTCOME_PATTERNS = {"right": "", "wrong": "", "unparsable": "/", "truncated": "x"}

#: Of two tokens, right and wrong, and of kept answers that a cut leaves: apart from the arms' colours.
RIGHT, WRONG, KEPT = "#332288", "#882255", "#7A6A2F"
#: Of the answer with the context: apart from every arm's colour.
WITH = "#D63C82"
#: Of what only the answer without the context says, where both stand side by side.
WITHOUT = "#567EB2"
#: Drift, from nothing to all: opacities of :data:`WITH`. Text stays readable on light and on dark pages.
FAINT, FULL = 0.04, 0.72
#: Of a verdict's rows, seen on light and on dark pages, as marks (3:1 and more); text keeps the page's own colour.
READING_COLOURS = {"better": "#2A8FD0", "worse": "#D55E00", "open": "#808080"}
#: Of what the data leave open.
OPEN = "#7A7A7A"
#: Of controls, in order; dashes tell them apart. Of a term with itself. Of chance.
GREYS, OWN, CHANCE_LEVEL = ("#6E6E6E", "#A0A0A0", "#C4C4C4"), ("#5A5A5A", "#A0A0A0"), "#777777"
#: Of text on cells and of marks, on light and on dark pages.
MARK_INSIDE, MARK_OUTSIDE = "#FFFFFF", "#1A1A1A"
#: From 0 to all: attention's mass, updates, log-probabilities, shares of pairs. Words can be read on the last two.
MASS_SCALE = [[0.0, "#F7F7F7"], [0.25, "#C7D9EA"], [1.0, "#08306B"]]
UPDATE_SCALE = [[0.0, "#F7F7F7"], [0.4, "#C7A7D0"], [1.0, "#40004B"]]
LOGPROB_SCALE = [[0.0, "#F7F7F7"], [0.6, "#D6E6F4"], [1.0, "#7FB2DB"]]
SHARE_SCALE = [[0.0, "#EEF2F8"], [1.0, "#86ABDD"]]
#: From less over nothing to more: Brewer's brown and teal, white between; with a step each where small differences count.
LESS_TO_MORE = [[0.0, "#8C510A"], [0.5, "#F2F2F2"], [1.0, "#01665E"]]
SMALL_LESS_TO_MORE = [LESS_TO_MORE[0], [0.25, "#D8B365"], LESS_TO_MORE[1], [0.75, "#5AB4AC"], LESS_TO_MORE[2]]

#: Markers drawn of one line; all of its points can still be pointed at and clicked.
MARKERS = 40
#: … where many arms share a panel: enough to tell the arms apart. A browser's time grows with the markers it draws.
FEW_MARKERS = 8
#: Single seeds are drawn beside so few other arms; more lines are a tangle.
FEW_ARMS = 4
#: Below this a movement is float32 noise; on a logarithmic axis it would only squeeze everything else.
NOISE = 1e-6

TRAINING = {
    "loss": ("Loss", "nats per token"),
    "grad_norm": ("Gradient norm", "L2 norm before clipping"),
    "learning_rate": ("Learning rate", "learning rate"),
    "length": ("Response length", "tokens, while training"),
    "tokens_per_second": ("Speed", "tokens per second"),
    "topk_mass": ("Probability mass inside the support", "share (%)"),
    "peak_cuda_bytes": ("Peak of a step, device", "bytes of tensors"),
    "peak_resident_bytes": ("Peak of a step, process", "resident bytes"),
    "peak_resident_bytes_so_far": ("Peak so far, process", "resident bytes"),
}
#: How the columns of measured memory begin.
PEAK = "peak_"
PERCENT = (*METRICS, "topk_mass")
#: Widths of a letter of a tick label, and what an axis title takes with its distance, in pixels: a little more than needed.
_LETTER, _TITLE = 6.8, 27
GRID = "rgba(128,128,128,0.22)"
ZERO = "rgba(128,128,128,0.65)"
#: Of intervals whose markers have the arms' colours.
WHISKER = "rgba(128,128,128,0.9)"


def arm_colour(arm: Hashable, arms: Iterable[Hashable] = ()) -> str:
    """Return the colour of an arm; ``arms`` (all arms of the study) keeps the fallback colours apart and stable."""
    return _look(arm, arms, ARM_COLOURS, FALLBACK_COLOURS)


def arm_symbol(arm: Hashable, arms: Iterable[Hashable] = ()) -> str:
    """Return the marker of an arm; see :func:`arm_colour`."""
    return _look(arm, arms, ARM_SYMBOLS, FALLBACK_SYMBOLS)


def _look(arm: Hashable, arms: Iterable[Hashable], known: dict[str, str], rest: Sequence[str]) -> str:
    if arm in known:
        return known[str(arm)]
    others = [each for each in arm_order(arms) if each not in known]
    return rest[(others.index(arm) if arm in others else 0) % len(rest)]


def translucent(colour: str, opacity: float) -> str:
    """Write a colour as ``rgba(…)``, so that the page shows through.

    >>> translucent("#D63C82", 0.28)
    'rgba(214,60,130,0.28)'
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgba({red},{green},{blue},{opacity:g})"


def shade(at: float) -> str:
    """Return the colour of drift at a place of its scale, 0 to 1."""
    return translucent(WITH, round(FAINT + (FULL - FAINT) * at, 3))


def caption(figure: go.Figure) -> str:
    """Read what the figure shows: n, seeds, estimator, interval. Plain text."""
    return (figure.layout.meta or {}).get("caption", "")


def alt_text(figure: go.Figure) -> str:
    """Describe the figure for screen readers, with its main numbers."""
    return (figure.layout.meta or {}).get("alt", "")


def on_paper(figure: go.Figure) -> go.Figure:
    """Copy the figure onto white, with a plain template: for a notebook, a README or a paper."""
    figure = go.Figure(figure)
    return figure.update_layout(template="plotly_white", paper_bgcolor="white", plot_bgcolor="white")


def to_page(*figures: go.Figure, title: str = "cr_interp") -> str:
    """Write figures as one HTML file that works offline, each with its caption below."""
    drawn = []
    for number, figure in enumerate(figures):
        div = figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False})
        drawn.append(
            f'<figure style="margin: 0 0 2rem"><div role="img" aria-label="{escape(alt_text(figure))}">{div}</div>\n'
            f"<figcaption>{escape(caption(figure))}</figcaption></figure>\n"
        )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>\n'
        f'<body style="font-family: sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem">\n'
        f"{''.join(drawn)}</body></html>\n"
    )


def log_ticks(figure: go.Figure) -> dict[str, Any]:
    """Place ticks at 1, 2 and 5 of each decade, written out: 0.02 is read faster than 2 · 10⁻²."""
    drawn = np.concatenate([np.asarray(trace.y, dtype=float) for trace in figure.data] or [np.array([])])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if not len(drawn):
        return {}
    low, high = int(np.floor(np.log10(drawn.min()))), int(np.ceil(np.log10(drawn.max())))
    heads = (1, 2, 5) if high - low <= 4 else (1,)
    ticks = [head * 10.0**decade for decade in range(low, high + 1) for head in heads]
    return {"tickvals": ticks, "ticktext": [f"{tick:.7f}".rstrip("0").rstrip(".") for tick in ticks]}


def finish(figure: go.Figure, text: str, alt: str, height: int, top: int = 64) -> go.Figure:
    """Set what all figures share. Axes and titles are set one by one: ``update_…`` takes twice as long for the same."""
    figure.update_layout(
        height=height,
        margin={"t": top, "r": 20, **_room(figure)},
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        meta={"caption": text, "alt": alt},
        hoverlabel={"namelength": -1},
    )
    for axis in figure.select_xaxes():
        axis.gridcolor, axis.showgrid, axis.automargin, axis.title.standoff = GRID, True, False, 8
    for axis in figure.select_yaxes():
        axis.gridcolor, axis.automargin, axis.title.standoff = GRID, False, 8
    for note in figure.select_annotations():
        note.font.size = 13.5
    return figure


def _room(figure: go.Figure) -> dict[str, int]:
    """Return margins at the left and below that hold the outermost axes' labels and titles, in pixels.

    Plotly would find them itself (``automargin``), by drawing every figure twice.
    """
    left: list[float] = [12]
    below: list[float] = [12]
    for axis in figure.select_yaxes():
        if _starts_at_edge(figure.layout, axis.anchor or "x"):
            labels = 0 if axis.showticklabels is False else 10 + _LETTER * _longest_label(axis)
            left.append(12 + labels + (axis.ticklabelstandoff or 0) + (_TITLE if axis.title.text else 0))
    for axis in figure.select_xaxes():
        if _starts_at_edge(figure.layout, axis.anchor or "y"):
            below.append(8 + (0 if axis.showticklabels is False else 20) + (_TITLE if axis.title.text else 0))
    return {"l": round(max(left)), "b": round(max(below))}


def _starts_at_edge(layout: go.Layout, anchor: str) -> bool:
    """Tell whether the axis that another one stands at (``x2``, ``y``, …) begins at the figure's left or lower edge."""
    across = layout[f"{anchor[0]}axis{anchor[1:]}"] if anchor[0] in "xy" else None
    return across is None or across.domain is None or across.domain[0] < 1e-6


def _longest_label(axis: Any) -> int:
    """Count the letters of the longest label; of numbers that Plotly chooses, as many as they can be expected to have."""
    lines = [re.sub(r"<[^>]*>", "", line) for text in axis.ticktext or () for line in str(text).split("<br>")]
    return max((len(unescape(line)) for line in lines), default=5)


def place_legend(figure: go.Figure) -> None:
    """Place the legend above the panels, measured from the figure's top edge, so that its distance does not grow with height."""
    figure.update_layout(
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "title": "",
            "traceorder": "normal",
        }
    )


def empty_figure(message: str) -> go.Figure:
    figure = go.Figure()
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, "", message, height=160)


def safe_text(name: Hashable) -> str:
    """Escape a name for plotly, so that it is shown as it is."""
    return escape(str(name), quote=False)


def bold(names: Iterable[Hashable]) -> list[str]:
    """Write names as the titles of panels."""
    return [f"<b>{safe_text(name)}</b>" for name in names]


def strands(lines: Iterable[tuple[Iterable[Any], Iterable[Any]]]) -> dict[str, list[Any]]:
    """Join several lines of one look into one trace, with gaps between them: what a browser takes grows with the traces.

    >>> strands([([0, 1], [5, 6]), ([0, 1], [7, 8])])
    {'x': [0, 1, None, 0, 1], 'y': [5, 6, None, 7, 8]}
    """
    parts = [([*x, None], [*y, None]) for x, y in lines]
    return {
        "x": [value for x, _ in parts for value in x][:-1],
        "y": [value for _, y in parts for value in y][:-1],
    }


def whiskers(
    rows: pd.DataFrame, estimate: str = "estimate", low: str = "low", high: str = "high", **look: Any
) -> dict[str, Any]:
    """Make the error bars of ``error_x`` or ``error_y`` from an interval's ends; no bar where there is no interval."""
    above, below = rows[high] - rows[estimate], rows[estimate] - rows[low]
    return {"type": "data", "symmetric": False, "array": above.fillna(0), "arrayminus": below.fillna(0), **look}


def named_rows(names: Sequence[str]) -> dict[str, Any]:
    """Make the vertical axis of a figure with a row for each name, the first on top."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [safe_text(name) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "ticklabelstandoff": 6,
    }


def hover_columns(rows: pd.DataFrame, *names: str) -> np.ndarray:
    """Return columns for the hover text as one object array; missing ones are empty."""
    missing = pd.Series([None] * len(rows), index=rows.index)
    return np.stack([rows.get(name, missing).to_numpy(dtype=object) for name in names], axis=1)


def layer_ticks(places: Iterable[int], at_most: int = 16) -> dict[str, Any]:
    """Return ticks of a layer axis: at most ``at_most`` round numbers, and the embedding, whose name needs layer 0's room on
    a dense axis.
    """
    found = sorted(set(places))
    stride = next(step for step in (1, 2, 4, 5, 8, 10, 20, 40, 10**6) if (max(found) + 1) / step <= at_most)
    first = 1 if stride >= 2 and found[0] < 0 else 0
    ticks = [place for place in found if place < 0 or (place >= first and place % stride == 0)]
    return {"tickvals": ticks, "ticktext": [layer_name(tick) for tick in ticks]}


def whole_range(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return "?"
    low, high = int(values.min()), int(values.max())
    # No line ends at these spaces: a number is read as one, whatever the window's width.
    text = f"{low:,}" if low == high else f"{low:,}–{high:,}"
    return text.replace(",", "\u202f")


def counted_examples(real: pd.DataFrame, what: str = "examples", each: str = "an arm") -> str:
    """Say ``n = 20–64 harmed examples an arm and seed, 3 seeds``, from rows over seeds with ``n_examples`` and ``n_most``."""
    several = bool((real["seeds"] > 1).any())
    of = f"{each} and seed" if each and several else "a seed" if several else each
    n = whole_range(pd.concat([real["n_examples"], real["n_most"]]))
    return f"n = {n} {what}{f' {of}' if of else ''}, {whole_range(real['seeds'])} seed{'s' * several}"


def listed_seeds(seeds: pd.Series) -> str:
    """Say ``3 seeds (0, 1, 2)``; empty if no row has a seed."""
    found = sorted({int(seed) for seed in seeds.dropna()})
    if not found:
        return ""
    shown = ", ".join(map(str, found)) if len(found) <= 8 else f"{found[0]} … {found[-1]}"
    return f"{len(found)} {'seed' if len(found) == 1 else 'seeds'} ({shown})"
