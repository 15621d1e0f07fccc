"""The figures of a suite along an axis: metrics over training steps, a measure over layers.

Mental model: a line is an arm, as in every other figure; the mean over settings in one panel, or a panel for each setting.

    early_gap_curves       early_gap    → the metrics during training, averaged over settings
    drift_small_multiples  suite_drift  → a measure over layers, a panel a setting
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.marks import UNCHANGED, add_band, add_legend_entry
from cr_interp.figures.style import (
    arm_colour,
    arm_symbol,
    empty_figure,
    finish,
    hover_columns,
    place_legend,
    safe_text,
    translucent,
    whole_range,
)
from cr_interp.tables.suite import in_order
from cr_interp.vocabulary import METRICS, PAPER_ARMS, arm_order, measure_words


def early_gap_curves(early: pd.DataFrame, names: Sequence[str] = ("acc_xc", "harm")) -> go.Figure:
    """Draw metrics over training steps, averaged over settings: a panel a metric, a line an arm.

    ``early`` is :func:`cr_interp.tables.suite.early_gap`. Band: the 95 % bootstrap interval of the mean over settings.
    """
    drawn = early[early["metric"].isin(names)].dropna(subset="estimate")
    names = [name for name in names if name in set(drawn["metric"])]
    if not names:
        return empty_figure("No step has been evaluated in all settings yet.")
    arms = arm_order(drawn["arm"])
    figure = make_subplots(
        1,
        len(names),
        horizontal_spacing=0.1,
        subplot_titles=[f"{METRICS[name][0]}, mean of settings" for name in names],
    )
    for column, name in enumerate(names, start=1):
        for arm in arms:
            mine = drawn[(drawn["metric"] == name) & (drawn["arm"] == arm)].sort_values("step")
            colour = arm_colour(arm, arms)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": 1, "col": column}
            _interval(figure, mine["step"], mine, colour, **where)
            figure.add_scatter(
                x=mine["step"],
                y=mine["estimate"],
                mode="lines+markers",
                name=safe_text(arm),
                showlegend=column == 1,
                cliponaxis=False,
                line={"color": colour, "width": 2.5},
                marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, arms)},
                customdata=hover_columns(mine, "low", "high", "lowest", "highest", "n"),
                hovertemplate=f"<b>{safe_text(arm)}</b>, step %{{x}}: %{{y:.1%}} [%{{customdata[0]:.1%}}, "
                "%{customdata[1]:.1%}]<br>settings from %{customdata[2]:.1%} to %{customdata[3]:.1%}, "
                "n = %{customdata[4]} settings<extra></extra>",
                **where,
            )
        figure.update_yaxes(title=METRICS[name][1], tickformat=".0%", rangemode="tozero", row=1, col=column)
    figure.update_xaxes(title="training step", zeroline=False)
    place_legend(figure)
    band = (
        "Band: 95 % bootstrap interval of that mean over settings: how much it owes to which settings there are. "
        if drawn["low"].notna().any()
        else ""
    )
    text = (
        f"Line: mean over settings (each the mean of its seeds), at the steps that every run has reached. {band}n = "
        f"{whole_range(drawn['n'])} settings; Harm is undefined where nothing is right without the context yet."
    )
    last = drawn[drawn["step"] == drawn["step"].max()]
    alt = "Metrics during training, averaged over settings. " + " ".join(
        f"{row.metric} of {row.arm} at step {row.step}: {row.estimate:.1%}." for row in last.itertuples()
    )
    return finish(figure, text, alt, height=360)


def drift_small_multiples(
    drift: pd.DataFrame,
    measure: str = "cosine",
    arms: Sequence[str] = PAPER_ARMS,
    control: str = "exact",
) -> go.Figure:
    """Draw a measure over layers, a small panel a setting, all on one scale so that panels can be compared.

    ``drift`` is :func:`cr_interp.tables.suite.suite_drift` of the same ``measure`` and ``control``, which only the words
    need.
    """
    name, axis = map(safe_text, measure_words(measure)[:2])
    drawn = drift[drift["arm"].isin(arms)].dropna(subset="estimate")
    if drawn.empty:
        return empty_figure(f"No {name} was measured under the {safe_text(control)} context.")
    names = [arm for arm in arm_order(arms) if arm in set(drawn["arm"])]
    settings = in_order(drawn["setting"])
    across = min(4, len(settings))
    down = -(-len(settings) // across)
    figure = make_subplots(
        down,
        across,
        shared_yaxes=True,
        horizontal_spacing=0.022,
        vertical_spacing=0.30 / down + 0.015,
        subplot_titles=[f"{safe_text(setting)}" for setting in settings],
    )
    for index, setting in enumerate(settings):
        row, column = index // across + 1, index % across + 1
        for arm in names:
            mine = drawn[(drawn["setting"] == setting) & (drawn["arm"] == arm)].sort_values("layer")
            colour = arm_colour(arm, names)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": row, "col": column}
            _interval(figure, mine["layer"], mine, colour, **where)
            figure.add_scatter(
                x=mine["layer"],
                y=mine["estimate"],
                mode="lines+markers",
                name=safe_text(arm),
                showlegend=False,
                meta={"panel": str(setting)},
                unselected=UNCHANGED,
                line={"color": colour, "width": 2},
                marker={"color": colour, "size": 6 if len(mine) <= 16 else 3.5, "symbol": arm_symbol(arm, names)},
                customdata=hover_columns(mine, "low", "high", "n_tokens", "n_examples"),
                hovertemplate=f"<b>{safe_text(arm)}</b>, layer %{{x}}: %{{y:.4f}} [%{{customdata[0]:.4f}}, "
                "%{customdata[1]:.4f}]<br>n = %{customdata[2]} tokens of %{customdata[3]} examples<extra></extra>",
                **where,
            )
        depth = int(drawn.loc[drawn["setting"] == setting, "layer"].max()) + 1
        figure.update_xaxes(
            range=[-0.4, depth - 0.6],
            zeroline=False,
            row=row,
            col=column,
            tickvals=list(range(0, depth, max(1, -(-depth // 6)))),
            title={"text": "layer", "standoff": 4} if index + across >= len(settings) else None,
        )
    for arm in names:  # a legend whatever the first panel has
        colour = arm_colour(arm, names)
        add_legend_entry(
            figure,
            safe_text(arm),
            mode="lines+markers",
            legendgroup=str(arm),
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, names)},
        )
    ends = drawn[["estimate", "low", "high"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = 0.05 * max(high - low, 0.01)
    figure.update_yaxes(range=[low - room, high + room], zeroline=False)
    figure.update_yaxes(title=axis, row=(down + 1) // 2, col=1)
    place_legend(figure)
    text = (
        f"{name[0].upper() + name[1:]} between a response token's state after each block with and without the context "
        f"({control}), per setting. Line: mean over seeds (there are {whole_range(drawn['seeds'])}); band: from the "
        f"lowest to the highest end of the seeds' within 95 % intervals (bootstrap over examples). "
        f"n = {whole_range(drawn['n_tokens'])} tokens of {whole_range(drawn['n_examples'])} examples per seed."
    )
    extremes = drawn.groupby(["setting", "arm"], sort=False)["estimate"].agg(["min", "max"]).reset_index()
    alt = f"{name} by layer, a panel per setting. " + " ".join(
        f"{row.setting}, {row.arm}: {row.min:.3f} to {row.max:.3f}." for row in extremes.itertuples()
    )
    return finish(figure, text, alt, height=90 + 185 * down)


def _interval(figure: go.Figure, x: pd.Series, rows: pd.DataFrame, colour: str, **where: Any) -> None:
    """Draw the area between ``low`` and ``high``; nothing where there is no interval."""
    has = (rows["low"].notna() & rows["high"].notna()).to_numpy()
    if has.any():
        low, high = rows.loc[has, "low"], rows.loc[has, "high"]
        add_band(figure, x[has], low, high, translucent(colour, 0.16), **where)
