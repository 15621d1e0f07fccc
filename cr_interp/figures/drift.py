"""The figures of how far states move, layer by layer. What all figures have in common is in ``style.py``.

They are public in :mod:`cr_interp.figures`, as all others are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.behind import draw_behind
from cr_interp.figures.marks import add_band
from cr_interp.figures.style import (
    FEW_ARMS,
    MARKERS,
    NOISE,
    ZERO,
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
    strands,
    translucent,
    whole_range,
)
from cr_interp.tables.drift import as_movement, extreme_layer, extreme_word, resid_rows
from cr_interp.tables.methods import formerly
from cr_interp.tables.pairing import PAIRED, beside
from cr_interp.vocabulary import COMPOSITION, MOVEMENTS, RATIOS, arm_order, layer_name, layer_words, measure_words


def drift_by_layer(
    drift: pd.DataFrame,
    measure: str = "cosine",
    control: str = "exact",
    movement: bool = False,
    level: float = 0.95,
    arms: Sequence[str] | None = None,
    behind: Sequence[str] = (),
) -> go.Figure:
    """Draw where the context still changes the state: one curve an arm over the layers, with its band.

    ``movement`` shows 1 − measure on a logarithmic axis, where 0.997 and 0.999 are three times apart; a
    linear axis hides that. ``arms`` are all arms of the study, for stable colours, if only some are drawn.
    ``behind`` names controls of ``drift`` that stand behind the curves: ``floor``, ``repeat``, other contexts.
    """
    rows = resid_rows(drift, measure, control)
    if rows.empty:
        return empty_figure(f"No {_measure(measure)} was measured under the {control} context.")
    arms = arm_order(arms or rows["arm"])
    if movement:
        rows = as_movement(rows, measure)
    hidden = int((rows["estimate"] < NOISE).sum()) if movement else 0
    digits = ".3g" if movement else ".4f"
    thin = rows["arm"].nunique() <= FEW_ARMS
    figure = go.Figure()
    behind_text, behind_alt = draw_behind(figure, drift, measure, control, behind, movement, arms)
    for arm in arm_order(rows["arm"]):
        colour = arm_colour(arm, arms)
        mine = rows[rows["arm"] == arm]
        line = mine.groupby("place").agg(
            estimate=("estimate", "mean"), low=("low", "min"), high=("high", "max"), layer=("layer", "first")
        )
        shown = line[line["estimate"] >= NOISE] if movement else line
        floor = max(NOISE, float(shown["estimate"].min()) / 3) if movement and len(shown) else -np.inf
        band = shown.dropna(subset=["low", "high"])
        low = band["low"].clip(lower=floor)
        add_band(figure, band.index, low, band["high"], translucent(colour, 0.16), legendgroup=str(arm))
        if thin and mine["seed"].nunique(dropna=False) > 1:
            runs = mine[mine["estimate"] >= NOISE] if movement else mine
            figure.add_scatter(
                **strands((one["place"], one["estimate"]) for _, one in runs.groupby("seed", dropna=False)),
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.45,
                hoverinfo="skip",
                legendgroup=str(arm),
                showlegend=False,
            )
        figure.add_scatter(
            x=shown.index,
            y=shown["estimate"],
            mode="lines+markers",
            name=safe_text(arm),
            legendgroup=str(arm),
            line={"color": colour, "width": 2.5},
            marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, arms), "maxdisplayed": MARKERS},
            customdata=hover_columns(shown, "layer", "low", "high"),
            hovertemplate=f"<b>{safe_text(arm)}</b>, layer %{{customdata[0]}}: %{{y:{digits}}} "
            f"[%{{customdata[1]:{digits}}}, %{{customdata[2]:{digits}}}]<extra></extra>",
        )
    _layer_axis(figure, rows)
    name, plain, moved = measure_words(measure)[:3]
    if movement:
        figure.update_yaxes(title=f"{moved} (log scale)", type="log", **log_ticks(figure))
    else:
        figure.update_yaxes(title=plain)
    place_legend(figure)
    interval = f"within {100 * level:g} % interval"
    what = (
        f"{name[0].upper() + name[1:]} between a response token's state with and without the context ({control})."
    )
    if rows["seed"].nunique() > 1:
        how = f"Line: mean over {listed_seeds(rows['seed'])}{'; thin lines: each seed' if thin else ''}"
        band = f"from the lowest to the highest end of the seeds' {interval}s (bootstrap over examples)"
    else:
        how, band = "Line: one seed", f"{interval} (bootstrap over examples)"
    how += f"; band: {band}." if rows["low"].notna().any() else "; no interval is estimated."
    text = f"{what} {how} n = {whole_range(rows['n_tokens'])} tokens of {whole_range(rows['n_examples'])} examples per seed."
    if hidden:
        text += f" Movements below {NOISE:g} (float noise; usually the embedding) are not drawn."
    text += _earlier(drift, measure)
    alt = f"{name} by layer, {control} context. " + " ".join(
        f"{row.arm}: {extreme_word(measure)} {row.estimate:.4f}, layer {row.layer}."
        for row in extreme_layer(drift, measure, control).itertuples()
    )
    return finish(figure, text + behind_text, alt + behind_alt, height=410, top=44)


def drift_difference(
    drift: pd.DataFrame,
    baseline: str,
    measure: str = "cosine",
    control: str = "exact",
    arms: Sequence[str] | None = None,
) -> go.Figure:
    """Draw each arm minus the baseline arm at every layer, paired by seed as :func:`cr_interp.tables.pairing.beside` pairs
    them.

    The dots are the single seeds' differences and the band their range: the drift table keeps no values of single examples,
    so no paired interval can be made from it, and none is claimed.
    """
    rows = resid_rows(drift, measure, control)
    reference = rows[rows["arm"] == baseline]
    pairs = {
        arm: beside(rows[rows["arm"] == arm], reference, ("place",), "estimate")
        for arm in arm_order(rows["arm"])
        if arm != baseline
    }
    pairs = {arm: mine for arm, mine in pairs.items() if len(mine)}
    if not pairs:
        return empty_figure(
            f"Nothing to compare: choose {safe_text(baseline)} and another arm that was run with the same seeds."
        )
    arms = arm_order(arms or rows["arm"])
    few = len(pairs) <= FEW_ARMS
    figure = go.Figure()
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    for arm, mine in pairs.items():
        colour = arm_colour(arm, arms)
        mine = mine.assign(difference=mine["estimate"] - mine["estimate_other"])
        line = mine.groupby("place").agg(
            difference=("difference", "mean"),
            low=("difference", "min"),
            high=("difference", "max"),
            layer=("layer", "first"),
        )
        add_band(figure, line.index, line["low"], line["high"], translucent(colour, 0.16), legendgroup=str(arm))
        if few:
            figure.add_scatter(
                x=mine["place"],
                y=mine["difference"],
                mode="markers",
                legendgroup=str(arm),
                showlegend=False,
                marker={"color": colour, "size": 4, "opacity": 0.55},
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=line.index,
            y=line["difference"],
            mode="lines+markers",
            legendgroup=str(arm),
            name=f"{safe_text(arm)} − {safe_text(baseline)}",
            line={"color": colour, "width": 2.5},
            marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, arms), "maxdisplayed": MARKERS},
            customdata=hover_columns(line, "layer", "low", "high"),
            hovertemplate=f"<b>{safe_text(arm)} − {safe_text(baseline)}</b>, layer %{{customdata[0]}}: %{{y:+.4f}} "
            "(seeds %{customdata[1]:+.4f} to %{customdata[2]:+.4f})<extra></extra>",
        )
    _layer_axis(figure, rows)
    name = _measure(measure)
    figure.update_yaxes(title=f"difference of {name}")
    place_legend(figure)
    every = pd.concat(pairs.values())
    better = "" if measure in (*RATIOS, *COMPOSITION) else "below" if measure in MOVEMENTS else "above"
    text = (
        f"Difference of {name} from {baseline} ({control} context), {PAIRED}"
        f"{f'; {better} 0: less drift than {baseline}' if better else ''}. Line: mean over "
        f"{listed_seeds(pd.concat([every['seed'], reference['seed']])) or 'one run'}; {'dots: each seed; ' if few else ''}"
        f"band: the seeds' range, not a confidence interval. n = {whole_range(every['n_tokens'])} tokens of "
        f"{whole_range(every['n_examples'])} examples per seed."
    )
    text += _earlier(drift, measure)
    alt = f"{name} of {', '.join(map(str, pairs))} minus {baseline}, by layer. " + " ".join(
        f"{arm}: mean over layers {(mine['estimate'] - mine['estimate_other']).mean():+.4f}."
        for arm, mine in pairs.items()
    )
    return finish(figure, text, alt, height=310, top=44)


def mark_layers(figure: go.Figure, places: Sequence[int], **where: Any) -> go.Figure:
    """Mark layers (−1: the embedding) of a figure whose x axis is the layer: dotted lines that bear the layers' names.

    ``where``: ``row`` and ``col`` of the panel, if there are several.
    """
    marked = sorted(set(places))
    if not marked or not figure.data:
        return figure
    left, right = next(figure.select_xaxes(**where)).range
    for place in marked:
        share = (place - left) / (right - left)
        # Two marks are named on their outer sides, so that neighbours' names do not meet; at an edge there is no room.
        outward = share > 0.5 if len(marked) == 1 else place == marked[0]
        side = "left" if share > 0.93 or (outward and share > 0.07) else "right"
        figure.add_vline(
            x=place,
            line={"color": ZERO, "width": 1.6, "dash": "dot"},
            layer="below",
            annotation={"text": layer_name(place) if place < 0 else layer_words(place), "name": "mark"},
            annotation_position=f"top {side}",
            **where,
        )
    return figure.update_annotations(selector={"name": "mark"}, font_size=11.5)


def _layer_axis(figure: go.Figure, rows: pd.DataFrame) -> None:
    places = sorted(set(rows["place"]))
    depth = max(places) + 1
    figure.update_xaxes(
        title="layer (emb: embedding)",
        tickangle=0,
        zeroline=False,
        **layer_ticks(places),
        range=[min(places) - 0.03 * depth - 0.1, max(places) + 0.03 * depth + 0.1],
    )


def _earlier(drift: pd.DataFrame, measure: str) -> str:
    """Say what the table's numbers are if they were measured in an earlier way; else nothing."""
    said = formerly(drift, measure)
    return f" {said[:1].upper()}{said[1:]}" if said else ""


def _measure(measure: str) -> str:
    return safe_text(measure_words(measure).name)
