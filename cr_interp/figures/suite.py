"""The figures of a suite that compare arms setting by setting: a setting is a row, an arm a colour and a marker.

Mental model: each figure is a pure function from a table of :mod:`cr_interp.tables.suite`. What all figures have in common is
in :mod:`cr_interp.figures.style`: a caption that says n, estimator and interval, a text for those who cannot see the picture.

    harm_forest            setting_rows → Harm of two arms in each setting, with intervals
    difference_forest      comparisons  → the paired differences in Harm, sorted by effect

The others are in :mod:`cr_interp.figures.regimes` (the plane of Harm and change) and
:mod:`cr_interp.figures.suite_curves` (over training steps, over layers).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.marks import UNCHANGED, shade_rows
from cr_interp.figures.regimes import setting_hover
from cr_interp.figures.style import (
    OPEN,
    ZERO,
    arm_colour,
    arm_symbol,
    empty_figure,
    finish,
    hover_columns,
    named_rows,
    place_legend,
    safe_text,
    whiskers,
    whole_range,
)
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.suite import in_order
from cr_interp.vocabulary import METRICS, arm_order


def harm_forest(rows: pd.DataFrame, arms: Sequence[str] = ("opd", "nca")) -> go.Figure:
    """Draw Harm in each setting, one row a setting and one marker an arm, with 95 % intervals of the kind that ``rows`` has.

    ``rows`` is :func:`cr_interp.tables.suite.setting_rows`. Where decoding was sampled, a tick marks Harm's noise floor.
    """
    drawn = rows[rows["arm"].isin(arms)].dropna(subset="harm")
    if drawn.empty:
        return empty_figure("No setting has answers of these arms yet.")
    names = [name for name in arm_order(arms) if name in set(drawn["arm"])]
    settings = in_order(drawn["setting"])
    figure = go.Figure()
    shade_rows(figure, len(settings))
    apart = 14  # pixels between two arms of a setting
    height = max(36, apart * len(names) + 8)
    spread = (np.arange(len(names)) - (len(names) - 1) / 2) * apart / height
    for name, offset in zip(names, spread, strict=True):
        mine = drawn[drawn["arm"] == name]
        colour = arm_colour(name, names)
        y = [settings.index(setting) + offset for setting in mine["setting"]]
        figure.add_scatter(
            x=mine["harm"],
            y=y,
            mode="markers",
            name=safe_text(name),
            meta={"panel": str(name)},
            unselected=UNCHANGED,
            marker={"color": colour, "size": 9, "symbol": arm_symbol(name, names)},
            error_x=whiskers(mine, "harm", "harm_low", "harm_high", color=colour, thickness=2.2, width=4),
            customdata=setting_hover(mine),
            hovertemplate=f"<b>%{{customdata[0]}}, {safe_text(name)}</b>: Harm %{{x:.1%}} "
            "[%{customdata[2]:.1%}, %{customdata[3]:.1%}], n = %{customdata[4]}<br>regime %{customdata[1]}<extra></extra>",
        )
        noisy = mine["harm_floor"] > 0
        figure.add_scatter(
            x=mine.loc[noisy, "harm_floor"],
            y=np.asarray(y)[noisy.to_numpy()],
            mode="markers",
            name="floor",
            showlegend=False,
            marker={"symbol": "line-ns", "size": 7, "line": {"width": 2, "color": colour}},
            hovertemplate="noise floor %{x:.1%}<extra></extra>",
        )
    high = float(np.nanmax(drawn[["harm", "harm_high"]].to_numpy(dtype=float)))
    figure.update_xaxes(
        title="Harm: wrong with, of right without (%)",
        tickformat=".0%",
        zeroline=True,
        zerolinecolor=ZERO,
        range=[-0.02 * max(high, 0.02), 1.04 * max(high, 0.02)],
    )
    figure.update_yaxes(**named_rows(settings))
    place_legend(figure)
    text = (
        f"Harm per setting with its 95 % interval, {said_intervals(drawn)}; seeds: {whole_range(drawn['seeds'])}. "
        f"{'Short ticks: the noise floor of sampled decoding. ' if (drawn['harm_floor'] > 0).any() else ''}"
        f"n = {whole_range(drawn['harm_n'])} pairs of responses that are right without the context; the arms are not "
        f"right on the same prompts, so that a difference is read off the paired comparison."
    )
    alt = "Harm by setting. " + " ".join(
        f"{row.setting}, {row.arm}: {row.harm:.1%} ({row.harm_low:.1%} to {row.harm_high:.1%})."
        for row in drawn.itertuples()
    )
    return finish(figure, text, alt, height=100 + height * len(settings), top=44)


def by_effect(compared: pd.DataFrame, metric: str = "harm") -> pd.DataFrame:
    """Return the rows of a metric that have an estimate, the largest decrease first: the order of :func:`difference_forest`."""
    rows = compared[compared["metric"] == metric].dropna(subset="estimate")
    return rows.sort_values(["estimate", "setting"], kind="stable", ignore_index=True)


def difference_forest(
    compared: pd.DataFrame, arm: str = "nca", baseline: str = "opd", metric: str = "harm"
) -> go.Figure:
    """Draw ``arm`` minus ``baseline`` in each setting, paired, with its interval: the largest decrease first.

    ``compared`` is :func:`cr_interp.tables.suite.comparisons`. A marker has a colour where its interval excludes 0, the arm's
    where the arm has less, the baseline's where it has more; the others are grey and hollow: open.
    """
    rows = by_effect(compared, metric)
    if rows.empty:
        return empty_figure(f"No setting has answers of both {safe_text(arm)} and {safe_text(baseline)}.")
    points = rows.assign(**{name: 100 * rows[name].astype(float) for name in ("estimate", "low", "high")})
    figure = go.Figure()
    shade_rows(figure, len(points))
    figure.add_vline(x=0, line={"color": ZERO, "width": 1})
    arms = [arm, baseline]
    less, more = points["high"] < 0, points["low"] > 0
    sides = (
        (f"less under {arm}", less, arm_colour(arm, arms), arm_symbol(arm, arms)),
        (f"more under {arm}", more, arm_colour(baseline, arms), arm_symbol(baseline, arms)),
        ("open", ~(less | more), OPEN, "circle-open"),
    )
    for name, which, colour, symbol in sides:
        mine = points[which]
        if mine.empty:
            continue
        shown = [safe_text(each) for each in mine["setting"]]
        figure.add_scatter(
            x=mine["estimate"],
            y=list(mine.index),
            mode="markers",
            name=safe_text(name),
            meta={"panel": name},
            unselected=UNCHANGED,
            marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=whiskers(mine, color=colour, thickness=2, width=4),
            customdata=hover_columns(mine.assign(setting=shown), "setting", "low", "high", "n", "interval"),
            hovertemplate=f"<b>%{{customdata[0]}}</b>, {safe_text(name)}: %{{x:+.1f}} points [%{{customdata[1]:+.1f}}, "
            "%{customdata[2]:+.1f}] (%{customdata[4]}), n = %{customdata[3]}<extra></extra>",
        )
    name = METRICS[metric].title if metric in METRICS else metric
    figure.update_xaxes(
        title=f"{name}: {safe_text(arm)} − {safe_text(baseline)} (points)",
        zeroline=False,
    )
    figure.update_yaxes(**named_rows(list(points["setting"])))
    place_legend(figure)
    said = said_intervals(compared[compared["metric"] == metric].assign(arm=compared["setting"]), short=True)
    text = (
        f"Paired difference in {name}, {arm} minus {baseline}, in percentage points, the largest decrease first; 95 % "
        f"intervals: {said}. Grey: the interval contains 0. n = {whole_range(points['n'])} pairs of responses that "
        "are right without the context. Settings are not a sample from anything, so there is no interval over them."
    )
    alt = f"Difference in {metric} by setting, sorted. " + " ".join(
        f"{row.setting}: {row.estimate:+.1f} points ({row.low:+.1f} to {row.high:+.1f})."
        for row in points.itertuples()
    )
    return finish(figure, text, alt, height=110 + 34 * len(points), top=44)
