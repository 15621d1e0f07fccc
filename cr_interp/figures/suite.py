"""The figures of a suite: twelve settings in one picture, each a pure function from a table of ``suite.py`` to a Figure.

Mental model: a setting is a place in the picture (a row, a panel, a line between two markers) and an arm is a colour
and a marker, the same as in every other figure. What all figures have in common is in ``figure_style.py``: a caption
that says n, estimator and interval, a text for those who cannot see the picture, a transparent background.

    regime_scatter         setting_rows → what the context's return does to accuracy, against Harm
    harm_forest            setting_rows → Harm of two arms in each setting, with intervals
    difference_forest      comparisons  → the paired differences in Harm, sorted by effect
    early_gap_curves       early_gap    → the metrics during training, averaged over settings
    drift_small_multiples  suite_drift  → a measure over layers, a panel a setting
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.style import (
    ZERO,
    arm_colour,
    arm_symbol,
    empty_figure,
    finish,
    hover_columns,
    named_rows,
    place_legend,
    safe_text,
    translucent,
    whiskers,
    whole_range,
)
from cr_interp.statistics import MARGIN
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.suite import in_order
from cr_interp.vocabulary import METRICS, arm_order, measure_words

#: What is not clicked must not turn pale.
_ALIKE = {"marker": {"opacity": 1}}
_BAND = "rgba(128,128,128,0.10)"
_LINE = "rgba(128,128,128,0.55)"
#: Of what the data leave open.
OPEN = "#7A7A7A"
#: A regime's letter → what it says
REGIMES = {
    "A": "the context perturbs",
    "B": "the context still helps",
    "C": f"no change beyond {100 * MARGIN:g} points",
    "open": "none of these can be said",
}


def regime_scatter(rows: pd.DataFrame, baseline: str = "opd", arm: str = "nca") -> go.Figure:
    """The change of accuracy when the context returns, against Harm: a marker per setting and arm, joined by setting.

    ``rows`` is :func:`cr_interp.tables.suite.setting_rows`. A marker is filled in regimes A and B, where the interval of
    the change excludes 0, and hollow else; above the line through 0 the context helps, below it perturbs. No marker can lie
    below the dotted line, since accuracy loses at most Harm (if all is right without the context).
    """
    drawn = rows[rows["arm"].isin([baseline, arm])].dropna(subset=["harm", "acc_change"])
    if drawn.empty:
        return empty_figure("No setting has answers of these arms yet.")
    drawn = drawn.assign(change=100 * drawn["acc_change"])
    arms = arm_order([baseline, arm])
    most = max(0.02, float(drawn["harm"].max()))
    bottom, top = min(-2.0, float(drawn["change"].min())), max(2.0, float(drawn["change"].max()))
    room = 0.12 * (top - bottom)
    figure = go.Figure()
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    figure.add_scatter(
        x=[0, 1], y=[0, -100], mode="lines", name="no rescue", showlegend=False, hoverinfo="skip",
        line={"color": ZERO, "width": 1, "dash": "dot"},
    )  # fmt: skip
    for setting in in_order(drawn["setting"]):
        ends = drawn[drawn["setting"] == setting].set_index("arm")
        if {baseline, arm} <= set(ends.index):
            _arrow(figure, ends.loc[baseline], ends.loc[arm])
    for name in arms:
        mine = drawn[drawn["arm"] == name]
        is_open = ~mine["regime"].isin(["A", "B"]).to_numpy()
        colour, symbol = arm_colour(name, arms), arm_symbol(name, arms)
        figure.add_scatter(
            x=mine["harm"], y=mine["change"], mode="markers", name=safe_text(name), showlegend=False,
            legendgroup=str(name), cliponaxis=False, meta={"panel": str(name)}, unselected=_ALIKE,
            marker={
                "size": 11, "color": colour, "symbol": [f"{symbol}-open" if each else symbol for each in is_open],
                "line": {"width": np.where(is_open, 2.2, 0.8), "color": colour},
            },
            customdata=_hover(mine),
            hovertemplate=f"<b>%{{customdata[0]}}, {safe_text(name)}</b>: regime %{{customdata[1]}}<br>Harm %{{x:.1%}} "
            "[%{customdata[2]:.1%}, %{customdata[3]:.1%}], n = %{customdata[4]}<br>change %{y:+.1f} points "
            "[%{customdata[5]:+.1f}, %{customdata[6]:+.1f}], n = %{customdata[7]}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(  # the legend would show the first marker, which may be an open one
            x=[None], y=[None], mode="markers", name=safe_text(name), legendgroup=str(name),
            marker={"size": 11, "color": colour, "symbol": symbol},
        )  # fmt: skip
    x_range, y_range = [-0.05 * most, 1.12 * most], [bottom - room, top + room]
    _label(figure, drawn, baseline, x_range, y_range)
    for letter, y, anchor in (("B", y_range[1], "top"), ("C", 0, "bottom"), ("A", y_range[0], "bottom")):
        look = f"<b>{letter}</b>{' (hollow)' if letter == 'C' else ''}: {REGIMES[letter]}"
        figure.add_annotation(
            text=look, x=x_range[1], y=y, xanchor="right", yanchor=anchor, showarrow=False, opacity=0.75
        )
    figure.update_xaxes(title="Harm: wrong with, of right without (%)", tickformat=".0%", range=x_range)
    figure.update_xaxes(zeroline=False, nticks=8)
    figure.update_yaxes(
        title="acc<sub>xc</sub> − acc<sub>x</sub> (percentage points)", range=y_range, zeroline=False
    )
    place_legend(figure)
    text = (
        f"What the context's return changes, {baseline} → {arm}: one marker per setting and arm, over seeds "
        f"(n = {whole_range(drawn['n'])} pairs of responses each), joined by setting. Filled: the 95 % interval of the "
        f"change, {said_intervals(drawn)}, excludes 0 (below 0 regime A, above B); hollow: it lies within "
        f"{100 * MARGIN:g} points of 0 (C), or neither can be said (open). Dotted: −Harm, the most that can be lost. "
        f"{_regime_counts(drawn, arms)}"
    )
    alt = "Change of accuracy against Harm. " + " ".join(
        f"{row.setting}, {row.arm}: Harm {row.harm:.1%}, change {row.change:+.1f} points, regime {row.regime}."
        for row in drawn.itertuples()
    )
    figure = finish(figure, text, alt, height=520, top=44)
    return figure.update_annotations(selector={"name": "setting"}, font_size=11)


def harm_forest(rows: pd.DataFrame, arms: Sequence[str] = ("opd", "nca")) -> go.Figure:
    """Harm in each setting, one row a setting and one marker an arm, with 95 % intervals of the kind that ``rows`` has.

    ``rows`` is :func:`cr_interp.tables.suite.setting_rows`. Where decoding was sampled, a tick marks Harm's noise floor.
    """
    drawn = rows[rows["arm"].isin(arms)].dropna(subset="harm")
    if drawn.empty:
        return empty_figure("No setting has answers of these arms yet.")
    names = [name for name in arm_order(arms) if name in set(drawn["arm"])]
    settings = in_order(drawn["setting"])
    figure = go.Figure()
    for place in range(0, len(settings), 2):  # every second row is shaded, so that a row is followed to its name
        figure.add_hrect(y0=place - 0.5, y1=place + 0.5, fillcolor=_BAND, line_width=0, layer="below")
    apart = 14  # pixels between two arms of a setting
    height = max(36, apart * len(names) + 8)
    spread = (np.arange(len(names)) - (len(names) - 1) / 2) * apart / height
    for name, offset in zip(names, spread, strict=True):
        mine = drawn[drawn["arm"] == name]
        colour = arm_colour(name, names)
        y = [settings.index(setting) + offset for setting in mine["setting"]]
        figure.add_scatter(
            x=mine["harm"], y=y, mode="markers", name=safe_text(name), meta={"panel": str(name)}, unselected=_ALIKE,
            marker={"color": colour, "size": 9, "symbol": arm_symbol(name, names)},
            error_x=whiskers(mine, "harm", "harm_low", "harm_high", color=colour, thickness=2.2, width=4),
            customdata=_hover(mine),
            hovertemplate=f"<b>%{{customdata[0]}}, {safe_text(name)}</b>: Harm %{{x:.1%}} "
            "[%{customdata[2]:.1%}, %{customdata[3]:.1%}], n = %{customdata[4]}<br>regime %{customdata[1]}<extra></extra>",
        )  # fmt: skip
        noisy = mine["harm_floor"] > 0
        figure.add_scatter(
            x=mine.loc[noisy, "harm_floor"], y=np.asarray(y)[noisy.to_numpy()], mode="markers",
            name="floor", showlegend=False, marker={"symbol": "line-ns", "size": 7, "line": {"width": 2, "color": colour}},
            hovertemplate="noise floor %{x:.1%}<extra></extra>",
        )  # fmt: skip
    high = float(np.nanmax(drawn[["harm", "harm_high"]].to_numpy(dtype=float)))
    figure.update_xaxes(
        title="Harm: wrong with, of right without (%)", tickformat=".0%", zeroline=True, zerolinecolor=ZERO,
        range=[-0.02 * max(high, 0.02), 1.04 * max(high, 0.02)],
    )  # fmt: skip
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
    """The rows of a metric that have an estimate, the largest decrease first: the order of :func:`difference_forest`."""
    rows = compared[compared["metric"] == metric].dropna(subset="estimate")
    return rows.sort_values(["estimate", "setting"], kind="stable", ignore_index=True)


def difference_forest(
    compared: pd.DataFrame, arm: str = "nca", baseline: str = "opd", metric: str = "harm"
) -> go.Figure:
    """``arm`` minus ``baseline`` in each setting, paired, with its interval: the largest decrease first.

    ``compared`` is :func:`cr_interp.tables.suite.comparisons`. A marker has a colour where its interval excludes 0, the arm's
    where the arm has less, the baseline's where it has more; the others are grey and hollow: open.
    """
    rows = by_effect(compared, metric)
    if rows.empty:
        return empty_figure(f"No setting has answers of both {safe_text(arm)} and {safe_text(baseline)}.")
    points = rows.assign(**{name: 100 * rows[name].astype(float) for name in ("estimate", "low", "high")})
    figure = go.Figure()
    for place in range(0, len(points), 2):
        figure.add_hrect(y0=place - 0.5, y1=place + 0.5, fillcolor=_BAND, line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": ZERO, "width": 1})
    sides = (
        (f"less under {arm}", points["high"] < 0, arm_colour(arm, [arm, baseline]), arm_symbol(arm, [arm, baseline])),
        (f"more under {arm}", points["low"] > 0, arm_colour(baseline, [arm, baseline]), arm_symbol(baseline, [arm, baseline])),
        ("open", ~((points["high"] < 0) | (points["low"] > 0)), OPEN, "circle-open"),
    )  # fmt: skip
    for name, which, colour, symbol in sides:
        mine = points[which]
        if mine.empty:
            continue
        figure.add_scatter(
            x=mine["estimate"], y=list(mine.index), mode="markers", name=safe_text(name), meta={"panel": name},
            unselected=_ALIKE, marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=whiskers(mine, color=colour, thickness=2, width=4),
            customdata=hover_columns(
                mine.assign(setting=[safe_text(each) for each in mine["setting"]]), "setting", "low", "high", "n", "interval",
            ),
            hovertemplate=f"<b>%{{customdata[0]}}</b>, {safe_text(name)}: %{{x:+.1f}} points [%{{customdata[1]:+.1f}}, "
            "%{customdata[2]:+.1f}] (%{customdata[4]}), n = %{customdata[3]}<extra></extra>",
        )  # fmt: skip
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


def early_gap_curves(early: pd.DataFrame, names: Sequence[str] = ("acc_xc", "harm")) -> go.Figure:
    """Metrics over training steps, averaged over settings: a panel a metric, a line an arm.

    ``early`` is :func:`cr_interp.tables.suite.early_gap`. Band: the 95 % bootstrap interval of the mean over settings.
    """
    drawn = early[early["metric"].isin(names)].dropna(subset="estimate")
    names = [name for name in names if name in set(drawn["metric"])]
    if not names:
        return empty_figure("No step has been evaluated in all settings yet.")
    arms = arm_order(drawn["arm"])
    figure = make_subplots(
        1, len(names), horizontal_spacing=0.1, subplot_titles=[f"{METRICS[name][0]}, mean of settings" for name in names]
    )  # fmt: skip
    for column, name in enumerate(names, start=1):
        for arm in arms:
            mine = drawn[(drawn["metric"] == name) & (drawn["arm"] == arm)].sort_values("step")
            colour = arm_colour(arm, arms)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": 1, "col": column}
            _band(figure, mine["step"], mine, colour, **where)
            figure.add_scatter(
                x=mine["step"], y=mine["estimate"], mode="lines+markers", name=safe_text(arm), showlegend=column == 1,
                cliponaxis=False,
                line={"color": colour, "width": 2.5},
                marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, arms)},
                customdata=hover_columns(mine, "low", "high", "lowest", "highest", "n"),
                hovertemplate=f"<b>{safe_text(arm)}</b>, step %{{x}}: %{{y:.1%}} [%{{customdata[0]:.1%}}, "
                "%{customdata[1]:.1%}]<br>settings from %{customdata[2]:.1%} to %{customdata[3]:.1%}, "
                "n = %{customdata[4]} settings<extra></extra>",
                **where,
            )  # fmt: skip
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
    arms: Sequence[str] = ("base", "opd", "nca"),
    control: str = "exact",
) -> go.Figure:
    """A measure over layers, a small panel a setting, all on one scale so that panels can be compared.

    ``drift`` is :func:`cr_interp.tables.suite.suite_drift` of the same ``measure`` and ``control``, which only the words need.
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
        down, across, shared_yaxes=True, horizontal_spacing=0.022, vertical_spacing=0.30 / down + 0.015,
        subplot_titles=[f"{safe_text(setting)}" for setting in settings],
    )  # fmt: skip
    for index, setting in enumerate(settings):
        row, column = index // across + 1, index % across + 1
        for arm in names:
            mine = drawn[(drawn["setting"] == setting) & (drawn["arm"] == arm)].sort_values("layer")
            colour = arm_colour(arm, names)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": row, "col": column}
            _band(figure, mine["layer"], mine, colour, **where)
            figure.add_scatter(
                x=mine["layer"], y=mine["estimate"], mode="lines+markers", name=safe_text(arm), showlegend=False,
                meta={"panel": str(setting)}, unselected=_ALIKE,
                line={"color": colour, "width": 2},
                marker={"color": colour, "size": 6 if len(mine) <= 16 else 3.5, "symbol": arm_symbol(arm, names)},
                customdata=hover_columns(mine, "low", "high", "n_tokens", "n_examples"),
                hovertemplate=f"<b>{safe_text(arm)}</b>, layer %{{x}}: %{{y:.4f}} [%{{customdata[0]:.4f}}, "
                "%{customdata[1]:.4f}]<br>n = %{customdata[2]} tokens of %{customdata[3]} examples<extra></extra>",
                **where,
            )  # fmt: skip
        depth = int(drawn.loc[drawn["setting"] == setting, "layer"].max()) + 1
        figure.update_xaxes(
            range=[-0.4, depth - 0.6], zeroline=False, row=row, col=column,
            tickvals=list(range(0, depth, max(1, -(-depth // 6)))),
            title={"text": "layer", "standoff": 4} if index + across >= len(settings) else None,
        )  # fmt: skip
    for arm in names:  # a legend whatever the first panel has
        figure.add_scatter(
            x=[None], y=[None], mode="lines+markers", name=safe_text(arm), legendgroup=str(arm),
            line={"color": arm_colour(arm, names), "width": 2},
            marker={"color": arm_colour(arm, names), "size": 8, "symbol": arm_symbol(arm, names)},
        )  # fmt: skip
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


# -- helpers -------------------------------------------------------------------------------------------------


def _hover(rows: pd.DataFrame) -> np.ndarray:
    """setting, regime, Harm's interval and n, the change's interval in points, n of pairs."""
    in_points = rows.assign(
        setting=[safe_text(setting) for setting in rows["setting"]],
        low=100 * rows["acc_change_low"], high=100 * rows["acc_change_high"],
        regime=["–" if pd.isna(regime) else f"{regime} ({REGIMES[regime]})" for regime in rows["regime"]],
    )  # fmt: skip
    return hover_columns(in_points, "setting", "regime", "harm_low", "harm_high", "harm_n", "low", "high", "n")


def _arrow(figure: go.Figure, start: Any, end: Any) -> None:
    """A thin arrow between two markers; none where they coincide."""
    if (start["harm"], start["change"]) == (end["harm"], end["change"]):
        return
    figure.add_annotation(
        x=end["harm"], y=end["change"], ax=start["harm"], ay=start["change"], xref="x", yref="y", axref="x",
        ayref="y", text="", showarrow=True, arrowhead=2, arrowsize=1.1, arrowwidth=1.2, arrowcolor=_LINE,
        standoff=7, startstandoff=6,
    )  # fmt: skip


def _label(
    figure: go.Figure, drawn: pd.DataFrame, baseline: str, x_range: Sequence[float], y_range: Sequence[float]
) -> None:
    """Each setting's name beside its baseline's marker, at the first of several places where nothing else is. Settings whose
    markers lie on each other share a label; the pointer tells them apart."""
    width, height = 0.009 * (x_range[1] - x_range[0]), 0.042 * (y_range[1] - y_range[0])
    taken = [(x - 1.3 * width, x + 1.3 * width, y, 0.4 * height) for x, y in drawn[["harm", "change"]].to_numpy()]
    first = drawn.sort_values("arm", key=lambda arms: arms != baseline, kind="stable").drop_duplicates("setting")
    together: list[tuple[float, float, list[str]]] = []
    for row in first.sort_values(["change", "harm"], ascending=False).to_dict("records"):
        near = [
            names for x, y, names in together
            if abs(x - row["harm"]) < 2.6 * width and abs(y - row["change"]) < 0.8 * height
        ]  # fmt: skip
        if near:
            near[0].append(row["setting"])
        else:
            together.append((row["harm"], row["change"], [row["setting"]]))
    for x, middle, names in together:
        name = ", ".join(names) if len(names) <= 2 else f"{len(names)} settings"
        reach = (1.6 * width, (1.6 + len(name)) * width)
        places = []
        for shift in (0, 0.75, -0.75, 1.5, -1.5, 2.3, -2.3):
            y = middle + shift * height
            places += [
                ("left", (x + reach[0], x + reach[1], y, height)),
                ("right", (x - reach[1], x - reach[0], y, height)),
            ]
        free = [
            place for place in places
            if x_range[0] < place[1][0] and place[1][1] < x_range[1] and not any(_meet(place[1], box) for box in taken)
        ]  # fmt: skip
        anchor, box = (free or places)[0]
        taken.append(box)
        figure.add_annotation(
            text=safe_text(name), x=x, y=box[2], xanchor=anchor, xshift=9 if anchor == "left" else -9, showarrow=False,
            opacity=0.85, name="setting",
        )  # fmt: skip


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two boxes (left, right, middle, height) overlap."""
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < (one[3] + other[3]) / 2


def _regime_counts(drawn: pd.DataFrame, arms: Sequence[str]) -> str:
    parts = []
    for arm in arms:
        count = drawn.loc[drawn["arm"] == arm, "regime"].value_counts()
        parts.append(f"{arm}: " + ", ".join(f"{letter} {count.get(letter, 0)}" for letter in REGIMES))
    return f"Settings in each regime: {'; '.join(parts)}."


def _band(figure: go.Figure, x: pd.Series, rows: pd.DataFrame, colour: str, **where: Any) -> None:
    """The area between ``low`` and ``high``; nothing where there is no interval."""
    has = (rows["low"].notna() & rows["high"].notna()).to_numpy()
    if not has.any():
        return
    along, low, high = x[has], rows.loc[has, "low"], rows.loc[has, "high"]
    figure.add_scatter(
        x=[*along, *along[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=translucent(colour, 0.16),
        line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, **where,
    )  # fmt: skip
