"""The plane of Harm and change: what the context's return does to accuracy in every setting of a suite, with its regime.

Mental model: a marker is a setting under an arm, an arrow joins the two arms of a setting, and a name stands at the first place
beside its marker where nothing else is. Above the line through 0 the context helps, below it perturbs.

    regime_scatter   setting_rows → what the context's return does to accuracy, against Harm
    setting_hover    setting_rows → what the pointer tells of a setting, here and in the forests
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.marks import UNCHANGED, add_legend_entry
from cr_interp.figures.style import (
    ZERO,
    arm_colour,
    arm_symbol,
    empty_figure,
    finish,
    hover_columns,
    place_legend,
    safe_text,
    whole_range,
)
from cr_interp.statistics import MARGIN
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.suite import in_order
from cr_interp.vocabulary import arm_order

_LINE = "rgba(128,128,128,0.55)"
#: A regime's letter → what it says
REGIMES = {
    "A": "the context perturbs",
    "B": "the context still helps",
    "C": f"no change beyond {100 * MARGIN:g} points",
    "open": "none of these can be said",
}


def regime_scatter(rows: pd.DataFrame, baseline: str = "opd", arm: str = "nca") -> go.Figure:
    """Draw the change of accuracy when the context returns, against Harm: a marker per setting and arm, joined by setting.

    ``rows`` is :func:`cr_interp.tables.suite.setting_rows`. A marker is filled in regimes A and B, where the interval of the
    change excludes 0, and hollow else; above the line through 0 the context helps, below it perturbs. No marker can lie below
    the dotted line, since accuracy loses at most Harm (if all is right without the context).
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
        x=[0, 1],
        y=[0, -100],
        mode="lines",
        name="no rescue",
        showlegend=False,
        hoverinfo="skip",
        line={"color": ZERO, "width": 1, "dash": "dot"},
    )
    for setting in in_order(drawn["setting"]):
        ends = drawn[drawn["setting"] == setting].set_index("arm")
        if {baseline, arm} <= set(ends.index):
            _arrow(figure, ends.loc[baseline], ends.loc[arm])
    for name in arms:
        mine = drawn[drawn["arm"] == name]
        is_open = ~mine["regime"].isin(["A", "B"]).to_numpy()
        colour, symbol = arm_colour(name, arms), arm_symbol(name, arms)
        figure.add_scatter(
            x=mine["harm"],
            y=mine["change"],
            mode="markers",
            name=safe_text(name),
            showlegend=False,
            legendgroup=str(name),
            cliponaxis=False,
            meta={"panel": str(name)},
            unselected=UNCHANGED,
            marker={
                "size": 11,
                "color": colour,
                "symbol": [f"{symbol}-open" if each else symbol for each in is_open],
                "line": {"width": np.where(is_open, 2.2, 0.8), "color": colour},
            },
            customdata=setting_hover(mine),
            hovertemplate=f"<b>%{{customdata[0]}}, {safe_text(name)}</b>: regime %{{customdata[1]}}<br>Harm %{{x:.1%}} "
            "[%{customdata[2]:.1%}, %{customdata[3]:.1%}], n = %{customdata[4]}<br>change %{y:+.1f} points "
            "[%{customdata[5]:+.1f}, %{customdata[6]:+.1f}], n = %{customdata[7]}<extra></extra>",
        )
        # the legend would show the first marker, which may be an open one
        marker = {"size": 11, "color": colour, "symbol": symbol}
        add_legend_entry(figure, safe_text(name), mode="markers", legendgroup=str(name), marker=marker)
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


def setting_hover(rows: pd.DataFrame) -> np.ndarray:
    """Return setting, regime, Harm's interval and n, the change's interval in points, n of pairs."""
    in_points = rows.assign(
        setting=[safe_text(setting) for setting in rows["setting"]],
        low=100 * rows["acc_change_low"],
        high=100 * rows["acc_change_high"],
        regime=["–" if pd.isna(regime) else f"{regime} ({REGIMES[regime]})" for regime in rows["regime"]],
    )
    return hover_columns(in_points, "setting", "regime", "harm_low", "harm_high", "harm_n", "low", "high", "n")


def _arrow(figure: go.Figure, start: Any, end: Any) -> None:
    """Draw a thin arrow between two markers; none where they coincide."""
    if (start["harm"], start["change"]) == (end["harm"], end["change"]):
        return
    figure.add_annotation(
        x=end["harm"],
        y=end["change"],
        ax=start["harm"],
        ay=start["change"],
        xref="x",
        yref="y",
        axref="x",
        ayref="y",
        text="",
        showarrow=True,
        arrowhead=2,
        arrowsize=1.1,
        arrowwidth=1.2,
        arrowcolor=_LINE,
        standoff=7,
        startstandoff=6,
    )


def _label(
    figure: go.Figure, drawn: pd.DataFrame, baseline: str, x_range: Sequence[float], y_range: Sequence[float]
) -> None:
    """Write each setting's name beside its baseline's marker, at the first of several places where nothing else is. Settings
    whose markers lie on each other share a label; the pointer tells them apart.
    """
    width, height = 0.009 * (x_range[1] - x_range[0]), 0.042 * (y_range[1] - y_range[0])
    taken = [(x - 1.3 * width, x + 1.3 * width, y, 0.4 * height) for x, y in drawn[["harm", "change"]].to_numpy()]
    first = drawn.sort_values("arm", key=lambda arms: arms != baseline, kind="stable").drop_duplicates("setting")
    together: list[tuple[float, float, list[str]]] = []
    for row in first.sort_values(["change", "harm"], ascending=False).to_dict("records"):
        near = [
            names
            for x, y, names in together
            if abs(x - row["harm"]) < 2.6 * width and abs(y - row["change"]) < 0.8 * height
        ]
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
            place
            for place in places
            if x_range[0] < place[1][0]
            and place[1][1] < x_range[1]
            and not any(_meet(place[1], box) for box in taken)
        ]
        anchor, box = (free or places)[0]
        taken.append(box)
        figure.add_annotation(
            text=safe_text(name),
            x=x,
            y=box[2],
            xanchor=anchor,
            xshift=9 if anchor == "left" else -9,
            showarrow=False,
            opacity=0.85,
            name="setting",
        )


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two boxes (left, right, middle, height) overlap."""
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < (one[3] + other[3]) / 2


def _regime_counts(drawn: pd.DataFrame, arms: Sequence[str]) -> str:
    parts = []
    for arm in arms:
        count = drawn.loc[drawn["arm"] == arm, "regime"].value_counts()
        parts.append(f"{arm}: " + ", ".join(f"{letter} {count.get(letter, 0)}" for letter in REGIMES))
    return f"Settings in each regime: {'; '.join(parts)}."
