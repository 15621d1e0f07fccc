"""Which heads decide, and how many layers it takes: attribution beside exact patching, layer by head, and windows of layers.

Mental model. Attribution has a value for every head and is an estimate; patching has a value for few heads and is exact. Both are
drawn on the same grid and in the same colours, so that one sees where they part. A window is drawn at its first layer.

    head_map       attribution and patching_heads → the figure
    window_map     patching_windows, with patching for single layers → the figure
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.patched import add_patched, controls_words, finish_axes, highest
from cr_interp.figures.style import bold, counted_examples, empty_figure, finish, safe_text
from cr_interp.tables.attribution import over_seeds
from cr_interp.tables.patching import DIRECTIONS, READOUTS
from cr_interp.vocabulary import arm_order


def head_map(
    attribution: pd.DataFrame,
    heads: pd.DataFrame | None = None,
    group: str = "harmed",
    direction: str = "repair",
    readout: str = "share",
) -> go.Figure:
    """Draw per arm a panel of what attribution says of every head, layer (across) by head (up), and below it what patching
    found.

    ``readout`` is patching's; attribution has the share alone.
    """
    guess = over_seeds(attribution, group, direction)
    guess = guess[(guess["site"] == "z") & (guess["head"] >= 0)]
    exact = pd.DataFrame() if heads is None or heads.empty else over_seeds(heads, group, direction, readout)
    parts = [part for part in (guess, exact) if len(part)]
    if not parts:
        return empty_figure(f"No heads were looked at for {safe_text(group)} answers.")
    arms = arm_order(pd.concat(parts)["arm"])
    titles = [
        f"<b>{safe_text(arm)}</b>{how}" for how in (" attribution", " patching")[: len(parts)] for arm in arms
    ]
    figure = _panels(len(parts), arms, titles)
    layers, every = (sorted({int(v) for part in parts for v in part[name]}) for name in ("layer", "head"))
    for row, (part, said) in enumerate(zip(parts, ("attributed share", readout), strict=False), 1):
        for column, arm in enumerate(arms, 1):
            _grid(figure, part[part["arm"] == arm], "head", layers, every, arm, said, row, column)
    figure.update_yaxes(tickvals=every, ticktext=[str(head) for head in every])
    figure.update_yaxes(title="head", col=1)
    finish_axes(figure, layers, len(parts), readout)
    best = [_most(part, "head") for part in parts]
    alt = "Which heads decide. " + " ".join(
        f"{how}: {said}." for how, said in zip(("Attribution", "Patching"), best, strict=False)
    )
    text = (
        f"Heads, {direction}: {DIRECTIONS[direction]}, at the aligned positions of one head. Above: attribution (gradient times "
        f"difference, the recovered share to first order) for every head. "
        + _patched(exact, group, readout, "the heads that attribution names first and some drawn at random")
    )
    return finish(figure, text, alt, height=120 + len(parts) * max(120, 18 * len(every)))


def window_map(
    windows: pd.DataFrame,
    patching: pd.DataFrame | None = None,
    site: str = "attn_out",
    group: str = "harmed",
    direction: str = "repair",
    readout: str = "share",
) -> go.Figure:
    """Draw a panel per arm: what patching ``width`` layers at once recovers, first layer (across) by width (up)."""
    tables = [windows] if patching is None or patching.empty else [patching.assign(width=1), windows]
    found = [over_seeds(each[each["site"] == site], group, direction, readout) for each in tables]
    table = pd.concat(found, ignore_index=True).drop_duplicates(["arm", "layer", "width", "control"])
    if table.empty:
        return empty_figure(f"No windows of {safe_text(site)} were patched for {safe_text(group)} answers.")
    arms = arm_order(table["arm"])
    figure = _panels(1, arms, bold(arms))
    layers, widths = (sorted(int(v) for v in table[name].unique()) for name in ("layer", "width"))
    for column, arm in enumerate(arms, 1):
        _grid(figure, table[table["arm"] == arm], "width", layers, widths, arm, readout, 1, column)
    figure.update_yaxes(tickvals=list(range(len(widths))), ticktext=[str(width) for width in widths])
    figure.update_yaxes(title="layers at once", col=1)
    finish_axes(figure, layers, 1, readout)
    text = (
        f"Windows of {site}, {direction}: {DIRECTIONS[direction]}, in so many layers at once from the layer below on. "
        + _patched(table, group, readout, "windows")
    )
    return finish(
        figure, text, f"How many layers it takes. {_most(table, 'width')}.", height=140 + 40 * len(widths)
    )


def _panels(rows: int, arms: list[str], titles: list[str]) -> go.Figure:
    return make_subplots(
        rows,
        len(arms),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.16,
        horizontal_spacing=0.03,
        subplot_titles=titles,
    )


def _grid(
    figure: go.Figure,
    table: pd.DataFrame,
    up: str,
    layers: list[int],
    ups: list[int],
    arm: str,
    said: str,
    row: int,
    column: int,
) -> None:
    def named(i: int, j: int) -> str:
        return f"layer {layers[j]}, {up} {ups[i]}"

    heights = ups if up == "head" else None
    add_patched(figure, table, up, "layer", ups, layers, named, arm, said, heights, row, column)


def _most(table: pd.DataFrame, which: str) -> str:
    """Name each arm's cell of the highest estimate, in words."""
    real = table[table["control"] == "none"]
    return "; ".join(
        f"{row.arm} most at layer {row.layer}, {which} {getattr(row, which)}, {row.estimate:.2f}"
        for row in highest(real).itertuples()
    )


def _patched(table: pd.DataFrame, group: str, readout: str, what: str) -> str:
    if table.empty:
        return "No head was patched exactly."
    real, controls = table[table["control"] == "none"], table[table["control"] != "none"]
    return (
        f"Patching: {READOUTS[readout]} of {what}, 1 where the patch does everything, 0 nothing; colours end at ±1. "
        f"{counted_examples(real, f'{group} examples')}. The pointer "
        f"shows 95 % intervals (bootstrap over clusters within these runs; of several seeds the outermost ends), as if a cell "
        f"had been chosen beforehand. Controls at the same places: {controls_words(controls)}."
    )
