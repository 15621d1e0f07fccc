"""What training changed, as figures: modules by layers, a panel per arm, and how alike the updates of runs are.

updates    heat map of one measure: modules (up) by layers (across)
overlaps   pairs of arms: cosine of ΔW, with an arm's own seeds and chance beside it
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells
from cr_interp.figures.style import (
    CHANCE_LEVEL,
    UPDATE_SCALE,
    WHISKER,
    arm_colour,
    bold,
    empty_figure,
    finish,
    layer_ticks,
    safe_text,
    whole_range,
)
from cr_interp.tables.updates import MEASURES, OVERLAPS, by_module, overlap_table, update_table
from cr_interp.vocabulary import arm_order

#: Up the figure, as a block computes them; others follow by name.
ORDER = (
    "q_proj",
    "k_proj",
    "v_proj",
    "query_key_value",
    "c_attn",
    "qkv_proj",
    "o_proj",
    "dense",
    "up",
    "gate",
    "fc",
    "down",
)


def updates(table: pd.DataFrame, measure: str = "relative") -> go.Figure:
    """Draw a measure of the matrices' updates, without norms and biases, whose handful of weights would set the scale."""
    drawn = update_table(table, measure)
    drawn = drawn[~drawn["module"].str.contains("norm|bias|ln_", regex=True)]
    real = drawn[drawn["control"] == "none"]
    if real.empty:
        return empty_figure("No updates were computed: these need a trained checkpoint and its base.")
    arms = arm_order(real["arm"])
    modules = sorted(set(real["module"]), key=_place)
    layers = sorted(set(real["layer"].astype(int)))
    figure = make_subplots(
        1,
        len(arms),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=bold(arms),
    )
    for column, arm in enumerate(arms, 1):
        of = {(row.module, int(row.layer), row.control): row for row in drawn[drawn["arm"] == arm].itertuples()}
        z = np.array(
            [[of[m, n, "none"].estimate if (m, n, "none") in of else np.nan for n in layers] for m in modules]
        )

        def hover(i: int, j: int, of: dict = of) -> list[str]:  # type: ignore[type-arg]
            row, chance = of[modules[i], layers[j], "none"], of.get((modules[i], layers[j], "random"))
            where = "in no layer" if layers[j] < 0 else f"layer {layers[j]}"
            return [
                f"{safe_text(modules[i])}, {where}",
                f"{row.estimate:.4g}",
                f"{row.low:.4g} to {row.high:.4g}",
                f"<br>of a random matrix: {chance.estimate:.3g}" if chance is not None else "",
            ]

        template = (
            f"<b>{safe_text(arm)}</b>, %{{customdata[0]}}<br>{MEASURES[measure]}: %{{customdata[1]}}, seeds from "
            "%{customdata[2]}%{customdata[3]}"
        )
        add_cells(figure, z, layers, list(range(len(modules))), hover, template, arm, row=1, col=column)
    figure.update_xaxes(layer_ticks(layers), title="layer")
    figure.update_yaxes(tickvals=list(range(len(modules))), ticktext=[safe_text(each) for each in modules])
    figure.update_layout(
        coloraxis={"colorscale": UPDATE_SCALE, "cmin": 0, "colorbar": {"thickness": 12, "title": measure}},
        showlegend=False,
    )
    seeds = whole_range(real["seeds"])
    text = (
        f"What training changed: {MEASURES[measure]}, mean over {seeds} seed{'' if seeds == '1' else 's'}; the pointer shows the "
        f"seeds' range. There is no interval over examples: a weight is one number. “emb”: embedding and head."
        + _chance(drawn)
    )
    modules_together = by_module(table, measure)
    together = modules_together[(modules_together["control"] == "none") & (modules_together["module"] != "all")]
    together = together[together["module"].isin(modules)]
    best = together.loc[together.groupby("arm", sort=False)["estimate"].idxmax()]
    alt = f"{MEASURES[measure]} by module and layer. " + " ".join(
        f"{row.arm}: largest in {row.module}, {row.estimate:.3g}." for row in best.itertuples()
    )
    return finish(figure, text, alt, height=150 + 24 * len(modules))


def _chance(drawn: pd.DataFrame) -> str:
    chance = drawn.loc[drawn["control"] == "random", "estimate"]
    return "" if chance.empty else f" Random matrices of these shapes: {chance.min():.3g} to {chance.max():.3g}."


def _place(module: str) -> tuple[int, str]:
    return next((i for i, part in enumerate(ORDER) if part in module), len(ORDER)), module


def overlaps(table: pd.DataFrame, measure: str = "cosine") -> go.Figure:
    """Draw a mark per pair of arms, each with the range of its pairs of runs; grey: chance."""
    drawn = overlap_table(table, measure)
    real = drawn[drawn["control"] == "none"]
    if real.empty:
        return empty_figure("Overlaps need at least two trained runs.")
    order = {arm: i for i, arm in enumerate(arm_order([*real["arm"], *real["other_arm"]]))}
    real = real[real["arm"].map(order) <= real["other_arm"].map(order)]
    names = [f"{safe_text(row.arm)} – {safe_text(row.other_arm)}" for row in real.itertuples()]
    chance = drawn[drawn["control"] == "random"].set_index(["arm", "other_arm"])["estimate"]
    figure = go.Figure()
    figure.add_scatter(
        x=real["estimate"],
        y=names,
        mode="markers",
        showlegend=False,
        marker={"size": 10, "color": [arm_colour(row.arm, order) for row in real.itertuples()]},
        error_x={
            "array": real["high"] - real["estimate"],
            "arrayminus": real["estimate"] - real["low"],
            "color": WHISKER,
        },
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=[chance.get((row.arm, row.other_arm), np.nan) for row in real.itertuples()],
        y=names,
        mode="markers",
        showlegend=False,
        marker={"symbol": "line-ns-open", "size": 14, "color": CHANCE_LEVEL},
        hovertemplate="chance: %{x:.3f}<extra></extra>",
    )
    figure.update_xaxes(title=measure)
    figure.update_yaxes(autorange="reversed", tickvals=names)
    text = (
        f"{OVERLAPS[measure].capitalize()}, mean over weights. Different arms at the same seed, an arm with itself across seeds "
        f"({whole_range(real['pairs'])} pairs); whiskers: the outermost pairs. Grey: chance for random updates."
    )
    alt = f"{OVERLAPS[measure]}. " + " ".join(
        f"{row.arm} and {row.other_arm}: {row.estimate:.2f}." for row in real.itertuples()
    )
    return finish(figure, text, alt, height=110 + 34 * len(real), top=20)
