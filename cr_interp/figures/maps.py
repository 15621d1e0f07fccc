"""The figures of layer × layer maps: debiased CKA between every layer of one side and every layer of another.

Mental model: a map has two sides, ``layer_x`` (drawn across) and ``layer_y`` (drawn up), and :data:`KINDS` says what
each side is. A map is a panel per arm, all panels of a figure share one colour scale that does not depend on the data,
and a difference of maps is paired by seed. The table is the study's ``cka_map``; layer −1 is the embedding.

    map_table       cka_map → the mean over seeds of every arm and pair of layers
    map_difference  cka_map → the same of an arm minus a baseline
    map_panels      map_table → the maps side by side
    difference_panels  map_difference → their differences, on a diverging scale
    profile_curves  map_table → one row and one column of the map as curves, an arm a colour
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells, mark_cell, stride
from cr_interp.figures.drift import mark_layers
from cr_interp.figures.marks import add_band
from cr_interp.figures.style import (
    MARKERS,
    SMALL_LESS_TO_MORE,
    arm_colour,
    arm_symbol,
    empty_figure,
    finish,
    hover_columns,
    layer_ticks,
    listed_seeds,
    log_ticks,
    place_legend,
    safe_text,
    translucent,
    whole_range,
)
from cr_interp.study.rows import last_step
from cr_interp.tables.pairing import PAIRED, beside
from cr_interp.vocabulary import arm_order, by_arm, layer_name, layer_words


@dataclass(frozen=True)
class Kind:
    """A kind of map, by what it compares: its name, the axes' titles, and a sentence."""

    name: str
    x: str
    y: str
    says: str


#: The column ``map`` of the table → what it is; a kind that is not here is shown under its own name.
KINDS = {
    "views": Kind(
        "without × with context", "layer, without context", "layer, with context",
        "each layer without the context (across) against each layer with it (up), of one checkpoint",
    ),
    "no_context": Kind(
        "within, without context", "layer", "layer", "the layers of one checkpoint without the context, among themselves",
    ),
    "with_context": Kind(
        "within, with context", "layer", "layer", "the layers of one checkpoint with the context, among themselves",
    ),
    "base": Kind(
        "base × checkpoint", "layer of base", "layer of the arm",
        "each layer of the base model (across) against each layer of the arm (up), both without the context",
    ),
}  # fmt: skip

#: How a value is coloured: as it is, or its distance from 1 on a logarithmic scale.
SCALES = {"value": "CKA, 0 to 1", "distance": "1 − CKA, log"}
#: Smallest distance that the logarithmic scale tells apart: a thousandth of a percent is float noise.
CLOSEST = 1e-4
#: Panels in a row; fewer leave room, so that a panel has the same shape in every figure.
ACROSS = 3
#: Readable for the colour-blind and in grey; bright is similar.
SIMILAR = "Cividis"


def kind_of(name: str) -> Kind:
    """Look up a kind of map, known or not."""
    return KINDS.get(name, Kind(name, "layer_x", "layer_y", f"the map {name!r}"))


def map_kinds(maps: pd.DataFrame) -> list[str]:
    """Return the kinds that a table has, those across the two views first."""
    found = {str(kind) for kind in maps["map"].dropna().unique()}
    return [name for name in KINDS if name in found] + sorted(found - set(KINDS))


def map_table(maps: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return one kind of map over seeds: what :func:`map_panels` draws.

    Columns ``arm, layer_x, layer_y, cka, low, high, seeds, n_tokens``: the mean over seeds, the lowest and the highest seed's
    value, how many seeds have one, and the smallest seed's number of tokens. The last step of a run counts.
    """
    rows = last_step(maps[maps["map"] == kind])
    table = rows.groupby(["arm", "layer_x", "layer_y"], sort=False, as_index=False).agg(
        cka=("cka", "mean"),
        low=("cka", "min"),
        high=("cka", "max"),
        seeds=("cka", "count"),
        n_tokens=("n_tokens", "min"),
    )
    return by_arm(table, "layer_x", "layer_y")


def map_difference(maps: pd.DataFrame, kind: str, baseline: str) -> pd.DataFrame:
    """Return every other arm's map minus the baseline's, paired by seed as :func:`cr_interp.tables.pairing.beside` pairs them.

    Columns ``arm, layer_x, layer_y, difference, low, high, closer, closer_low, closer_high, seeds, n_tokens``. ``difference,
    low, high`` are the mean, lowest and highest of the seeds' differences. ``closer…`` are the same of log₁₀ of a ratio of 1
    − CKA, the baseline's over the arm's (neither counts as less than :data:`CLOSEST`). ``seeds`` is the number of
    differences, ``n_tokens`` the smallest number of tokens behind one.
    """
    rows = last_step(maps[maps["map"] == kind])
    reference, others = rows[rows["arm"] == baseline], rows[rows["arm"] != baseline]
    parts = [
        beside(mine, reference, ("layer_x", "layer_y"), "cka") for _, mine in others.groupby("arm", sort=False)
    ]
    both = pd.concat(parts) if parts else beside(others, reference, ("layer_x", "layer_y"), "cka")
    own, other = both["cka"].astype(float), both["cka_other"].astype(float)
    both = both.assign(difference=own - other, closer=_distance(other) - _distance(own))
    table = both.groupby(["arm", "layer_x", "layer_y"], sort=False, as_index=False).agg(
        difference=("difference", "mean"),
        low=("difference", "min"),
        high=("difference", "max"),
        closer=("closer", "mean"),
        closer_low=("closer", "min"),
        closer_high=("closer", "max"),
        seeds=("difference", "count"),
        n_tokens=("n_tokens", "min"),
    )
    return by_arm(table, "layer_x", "layer_y")


def map_panels(
    table: pd.DataFrame,
    kind: str,
    scale: str = "value",
    cell: tuple[int, int] | None = None,
    seeds: pd.Series | None = None,
) -> go.Figure:
    """Draw the maps side by side on one colour scale, the same for all studies: a panel per arm.

    ``table`` is :func:`map_table`. ``scale`` is a key of :data:`SCALES`; ``cell`` = (layer_x, layer_y) gets a frame.
    ``seeds`` are those behind the means, for the caption. Every cell can be clicked; see :mod:`cr_interp.figures.cells`.
    """
    if table.empty:
        return empty_figure(f"These arms have no map “{safe_text(kind_of(kind).name)}”.")
    far = scale == "distance"
    figure = _panels(table, kind, "cka", "CKA", ".4f", str, cell, _distance if far else None)
    if far:
        ticks = list(range(int(np.log10(CLOSEST)), 1))
        bar = {"tickvals": ticks, "ticktext": [f"{10.0**tick:g}" for tick in ticks], "title": {"text": "1 − CKA"}}
        figure.update_layout(
            coloraxis={"colorscale": f"{SIMILAR}_r", "cmin": ticks[0], "cmax": 0, "colorbar": bar}
        )
    else:
        bar = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "title": {"text": "CKA"}}
        figure.update_layout(coloraxis={"colorscale": SIMILAR, "cmin": 0, "cmax": 1, "colorbar": bar})
    several = table["seeds"].max() > 1
    text = (
        f"Debiased linear CKA of {kind_of(kind).says}. Colour: "
        + ("1 − CKA on a logarithmic scale, " if far else "from 0 to 1, ")
        + "the same in all panels and all studies"
        + (f"; smaller than {CLOSEST:g} is drawn as {CLOSEST:g}" if far else "")
        + ("; below 0 is drawn as 0" if not far and (table["cka"] < 0).any() else "")
        + ". "
        + (f"Mean over {_seeds(seeds, table)}; the pointer shows their range. " if several else "One seed. ")
        + f"n = {whole_range(table['n_tokens'])} tokens per seed, counted as independent; no interval is estimated."
        + (" Empty: undefined." if table["cka"].isna().any() else "")
    )
    alt = f"Layer by layer CKA, {kind_of(kind).name}. " + " ".join(_described(table, "cka", ".3f"))
    return _finish(figure, text, alt, kind)


def difference_panels(
    table: pd.DataFrame,
    kind: str,
    baseline: str,
    scale: str = "value",
    cell: tuple[int, int] | None = None,
    seeds: pd.Series | None = None,
) -> go.Figure:
    """Draw differences of maps side by side, diverging from 0, on one scale: a panel per arm that is not the baseline.

    ``table`` is :func:`map_difference`; the other arguments are those of :func:`map_panels`. On the scale ``distance`` the
    ratio of the two distances is drawn, since among maps near 1 a difference shows nothing.
    """
    if table.empty:
        return empty_figure(
            f"No map “{safe_text(kind_of(kind).name)}” to compare with {safe_text(baseline)}: choose another baseline."
        )

    far = scale == "distance"
    value = "closer" if far else "difference"
    figure = _panels(table, kind, value, *(("ratio of 1 − CKA (log₁₀)", "+.3f") if far else ("difference", "+.4f")),
                     lambda arm: f"{arm} − {baseline}", cell)  # fmt: skip
    if far:
        end, title = 1.0, "1 − CKA"
        ticks = {-1.0: "10 ×", -0.5: "3.2 ×", 0.0: "equal", 0.5: "÷ 3.2", 1.0: "÷ 10"}
    else:
        most = float(np.nanmax(np.abs(table["difference"]))) if table["difference"].notna().any() else 0.0
        end, title = _round_up(most), "difference"
        ticks = {tick: f"{tick:+g}".replace("-", "−") if tick else "0" for tick in end * np.linspace(-1, 1, 5)}
    bar = {"title": {"text": title}, "tickvals": list(ticks), "ticktext": list(ticks.values())}
    figure.update_layout(coloraxis={"colorscale": SMALL_LESS_TO_MORE, "cmin": -end, "cmax": end, "colorbar": bar})
    several = table["seeds"].max() > 1
    text = (
        (
            f"1 − CKA of each arm over that of {baseline}, on a logarithmic scale from ten times to a tenth: "
            if far
            else f"CKA of each arm minus that of {baseline}: "
        )
        + f"{kind_of(kind).says}. Teal: more similar than in {baseline}; brown: less; all panels share the scale"
        + (". " if far else ", whose ends are set by the largest difference. ")
        + (f"Mean over {_seeds(seeds, table)}, {PAIRED}; " if several else "One seed; ")
        + ("the pointer shows their range, which is not a confidence interval. " if several else "no interval. ")
        + f"n = {whole_range(table['n_tokens'])} tokens per seed."
    )
    alt = f"Differences of layer by layer CKA from {baseline}, {kind_of(kind).name}. " + " ".join(
        _described(table, "difference", "+.3f")
    )
    return _finish(figure, text, alt, kind)


def profile_curves(
    table: pd.DataFrame, kind: str, cell: tuple[int, int], scale: str = "value", arms: Sequence[str] | None = None
) -> go.Figure:
    """Draw the two layers of a cell as curves: each against all layers of the other side, an arm a colour.

    ``table`` is :func:`map_table`. Left: the layer ``cell[0]`` of the side that the map draws across; right: the layer
    ``cell[1]`` of the side it draws up. The dotted line marks the cell itself. ``arms``: all arms, for stable colours.
    """
    if table.empty:
        return empty_figure("No map to take these layers from.")
    names, words, far = arm_order(table["arm"]), kind_of(kind), scale == "distance"
    arms = arm_order(arms or names)
    if far:
        ends = {"cka": "cka", "low": "high", "high": "low"}
        table = table.assign(**{name: (1 - table[other]).clip(lower=CLOSEST) for name, other in ends.items()})
    sides = (("layer_x", "layer_y", cell[0], cell[1]), ("layer_y", "layer_x", cell[1], cell[0]))
    ways = {"layer_x": words.x, "layer_y": words.y}
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        subplot_titles=[f"{layer_words(fixed)}, {_side(ways[side])}" for side, _, fixed, _ in sides],
    )
    for column, (side, along, fixed, other) in enumerate(sides, start=1):
        for arm in names:
            mine = table[(table["arm"] == arm) & (table[side] == fixed)].sort_values(along)
            colour = arm_colour(arm, arms)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": 1, "col": column}
            if (mine["seeds"] > 1).any():
                add_band(figure, mine[along], mine["low"], mine["high"], translucent(colour, 0.16), **where)
            figure.add_scatter(
                x=mine[along],
                y=mine["cka"],
                mode="lines+markers",
                name=safe_text(arm),
                showlegend=column == 1,
                line={"color": colour, "width": 2.2},
                marker={"color": colour, "size": 6, "symbol": arm_symbol(arm, arms), "maxdisplayed": MARKERS},
                customdata=hover_columns(
                    mine.assign(name=[layer_name(place) for place in mine[along]]), "name", "low", "high"
                ),
                hovertemplate=f"<b>{safe_text(arm)}</b>, layer %{{customdata[0]}}: %{{y:.4f}} "
                "(seeds %{customdata[1]:.4f} to %{customdata[2]:.4f})<extra></extra>",
                **where,
            )
        places = sorted(set(table[along]))
        room = 0.03 * len(places) + 0.1
        figure.update_xaxes(
            title=ways[along], tickangle=0, zeroline=False, range=[places[0] - room, places[-1] + room],
            **layer_ticks(places, 10), row=1, col=column,
        )  # fmt: skip
        mark_layers(figure, [other], row=1, col=column)
    figure.update_yaxes(zeroline=False, title="1 − CKA (log scale)" if far else "debiased CKA", row=1, col=1)
    shown = table[(table["layer_x"] == cell[0]) | (table["layer_y"] == cell[1])]
    ends = shown[["low", "high"]].to_numpy(dtype=float)
    if far:
        figure.update_yaxes(type="log", zeroline=False, **log_ticks(figure))
        ends = np.log10(ends)
    if np.isfinite(ends).any():  # room above for the names of the marks
        low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
        room = max(high - low, 0.02)
        figure.update_yaxes(range=[low - 0.06 * room, high + 0.16 * room])
    place_legend(figure)
    text = (
        f"The chosen cell's row and column of the map: {words.says}"
        f"{', as 1 − CKA, no less than ' + format(CLOSEST, 'g') if far else ''}. "
        + (
            "Line: mean over seeds; band: from the lowest to the highest seed. "
            if (shown["seeds"] > 1).any()
            else "One seed. "
        )
        + f"n = {whole_range(table['n_tokens'])} tokens per seed; no interval is estimated."
    )
    here = table[(table["layer_x"] == cell[0]) & (table["layer_y"] == cell[1])]
    alt = f"CKA of {layer_words(cell[0])} and {layer_words(cell[1])} with all layers. In the cell: " + " ".join(
        f"{row.arm} {'1 − ' * far}{row.cka:.3g}." for row in here.itertuples()
    )
    return finish(figure, text, alt, height=330)


# -- helpers -------------------------------------------------------------------------------------------------


def _distance(z: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """Compute log₁₀(1 − z), no less than that of :data:`CLOSEST`."""
    return np.log10(np.clip(1 - z, CLOSEST, None))


def _panels(
    table: pd.DataFrame,
    kind: str,
    value: str,
    called: str,
    digits: str,
    title: Callable[[str], str],
    cell: tuple[int, int] | None,
    colour: Callable[[ndarray], ndarray] | None = None,
) -> go.Figure:
    """Draw a panel of cells per arm, :data:`ACROSS` in a row; ``called`` is what the pointer calls the value."""
    names, words = arm_order(table["arm"]), kind_of(kind)
    across, up = sorted(set(table["layer_x"])), sorted(set(table["layer_y"]))
    columns = ACROSS
    rows = -(-len(names) // columns)
    used: list[list[dict[str, Any] | None]] = [
        [{} if row * columns + col < len(names) else None for col in range(columns)] for row in range(rows)
    ]
    figure = make_subplots(
        rows,
        columns,
        horizontal_spacing=0.03,
        vertical_spacing=0.22 / rows if rows > 1 else 0,
        specs=used,
        subplot_titles=[f"<b>{safe_text(title(arm))}</b>" for arm in names],
    )
    step = stride(len(up), len(across), len(names))
    ends = (f"{value}_low", f"{value}_high") if f"{value}_low" in table else ("low", "high")
    place = "%{customdata[0]} × %{customdata[1]}"
    if words.x != words.y:
        place = f"{_side(words.x)}: %{{customdata[0]}}<br>{_side(words.y)}: %{{customdata[1]}}"
    for index, arm in enumerate(names):
        where: dict[str, Any] = {"row": index // columns + 1, "col": index % columns + 1}
        mine = table[table["arm"] == arm]
        grids = {
            name: mine.pivot(index="layer_y", columns="layer_x", values=name)
            .reindex(up, columns=across)
            .to_numpy(float)
            for name in (value, *ends)
        }

        def values(i: int, j: int, grids: dict[str, ndarray] = grids) -> list[str]:
            return [
                layer_words(across[j]),
                layer_words(up[i]),
                *(f"{grid[i, j]:{digits}}" for grid in grids.values()),
            ]

        spread = "<br>seeds %{customdata[3]} to %{customdata[4]}" if (mine["seeds"] > 1).any() else ""
        template = f"<b>{safe_text(title(arm))}</b><br>{place}<br>{called} %{{customdata[2]}}{spread}"
        z = grids[value] if colour is None else colour(grids[value])
        add_cells(figure, z, across, up, values, template, arm, step, **where)
        if cell is not None and cell[0] in across and cell[1] in up:
            mark_cell(figure, *cell, **where)
        figure.update_xaxes(title=words.x if index + columns >= len(names) else None, **where)
        first = index % columns == 0
        figure.update_yaxes(
            title=words.y if first else None, showticklabels=first, ticks=None if first else "", **where
        )
    ends_x, ends_y = ([side[0] - 0.5, side[-1] + 0.5] for side in (across, up))
    figure.update_xaxes(**layer_ticks(across, 8), tickangle=0, range=ends_x, zeroline=False)
    figure.update_yaxes(**layer_ticks(up, 8), range=ends_y, zeroline=False)
    right = max(axis.domain[1] for axis in figure.select_xaxes())
    bar = {"x": right + 0.015, "xanchor": "left", "thickness": 12, "y": 1, "yanchor": "top", "outlinewidth": 0}
    height = 40 + rows * 300
    bar["len"] = min(1.0, 300 / height)
    return figure.update_layout(height=height, coloraxis_colorbar=bar)


def _finish(figure: go.Figure, text: str, alt: str, kind: str) -> go.Figure:
    height = figure.layout.height
    figure = finish(figure, text, alt, height=height, top=34)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure.update_layout(
        coloraxis_colorbar={
            "thickness": 12,
            "len": min(1.0, 330 / height),
            "y": 1,
            "yanchor": "top",
            "outlinewidth": 0,
        }
    )


def _side(axis: str) -> str:
    """Cut the side out of a label: ``with context`` of ``layer, with context``; ``base`` of ``layer of base``."""
    return axis.removeprefix("layer").removeprefix(",").removeprefix(" of").strip() or "this side"


def _seeds(seeds: pd.Series | None, table: pd.DataFrame) -> str:
    listed = listed_seeds(seeds) if seeds is not None else ""
    return listed or f"{whole_range(table['seeds'])} seeds"


def _described(table: pd.DataFrame, value: str, digits: str) -> Iterator[str]:
    """Yield a sentence per arm: its least and largest value and where they are."""
    for arm in arm_order(table["arm"]):
        mine = table[(table["arm"] == arm) & table[value].notna()]
        if mine.empty:
            yield f"{arm}: undefined."
            continue
        ends = [mine.loc[mine[value].idxmin()], mine.loc[mine[value].idxmax()]]
        low, high = (
            f"{row[value]:{digits}} ({layer_name(int(row['layer_x']))} × {layer_name(int(row['layer_y']))})"
            for row in ends
        )
        yield f"{arm}: from {low} to {high}."


def _round_up(value: float) -> float:
    """Return the next 1, 2 or 5 of a decade, for the ends of a scale; at least 0.001.

    >>> _round_up(0.13), _round_up(0.5)
    (0.2, 0.5)
    """
    value = max(value, 1e-3)
    decade = 10.0 ** np.floor(np.log10(value))
    return float(next(round(head * decade, 12) for head in (1, 2, 5, 10) if head * decade >= value * (1 - 1e-9)))
