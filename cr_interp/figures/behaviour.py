"""How arms behave: the metrics with their intervals, and the outcomes of responses."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.style import (
    MARK_INSIDE,
    MARK_OUTSIDE,
    OUTCOME_COLOURS,
    OUTCOME_PATTERNS,
    WHISKER,
    ZERO,
    arm_colour,
    arm_symbol,
    bold,
    empty_figure,
    finish,
    hover_columns,
    listed_seeds,
    place_legend,
    safe_text,
    whiskers,
    whole_range,
)
from cr_interp.system.percent import percent
from cr_interp.tables.interval_words import WITHIN, said_intervals
from cr_interp.vocabulary import arm_order, by_arm, of_answers


def metric_forest(metrics: pd.DataFrame, level: float = 0.95, control: str = "exact") -> go.Figure:
    """Draw intervals of every metric, the arms side by side, one panel a metric.

    ``metrics`` has the columns ``arm, seed, metric, estimate, low, high, n``; rows whose seed is missing are over seeds and
    drawn large, those of single seeds are small dots below. A marker's ``meta["panel"]`` is its metric, and its y, rounded,
    the place of its arm in :func:`arm_order`. ``control``: which context the table is of, for the caption.
    """
    every = of_answers()
    names = [name for name in every if name in set(metrics["metric"])]
    arms = arm_order(metrics["arm"])
    if not names or not arms:
        return empty_figure("No metrics to show.")
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    spans = {name: _span(metrics, name) for name in names}
    drawn = rows * (
        92 + 46 * len(arms)
    )  # pixels; between two rows 100 of them hold ticks and titles, whatever the height
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes=True,
        horizontal_spacing=0.045,
        vertical_spacing=100 / drawn,
        subplot_titles=[every[name][0] for name in names],
    )
    for index, name in enumerate(names):
        row, column = index // columns + 1, index % columns + 1
        part = metrics[(metrics["metric"] == name) & metrics["estimate"].notna()]
        part = part.assign(
            place=part["arm"].map(arms.index).astype(float),
            name=part["arm"].map(safe_text),
            colour=part["arm"].map(lambda arm: arm_colour(arm, arms)),
            symbol=part["arm"].map(lambda arm: arm_symbol(arm, arms)),
        )
        pooled, seeds = (by_arm(each) for each in (part[part["seed"].isna()], part[part["seed"].notna()]))
        # All arms in one trace: what a browser takes grows with the traces.
        figure.add_scatter(
            x=pooled["estimate"],
            y=pooled["place"],
            mode="markers+text",
            showlegend=False,
            marker={"color": pooled["colour"], "size": 11, "symbol": pooled["symbol"], "opacity": 1},
            text=[f"{percent(value)} %" for value in pooled["estimate"]],
            textposition="top center",
            cliponaxis=False,
            meta={"panel": name},
            error_x=whiskers(pooled, color=WHISKER, thickness=2.4, width=5),
            customdata=hover_columns(pooled, "low", "high", "n", "name"),
            hovertemplate="<b>%{customdata[3]}</b>, over seeds: %{x:.1%} "
            "[%{customdata[0]:.1%}, %{customdata[1]:.1%}], n = %{customdata[2]}<extra></extra>",
            row=row,
            col=column,
        )
        figure.add_scatter(
            x=seeds["estimate"],
            y=seeds["place"] + 0.26 + 0.05 * (seeds.groupby("arm").cumcount() % 3 - 1),
            mode="markers",
            showlegend=False,
            marker={"color": seeds["colour"], "size": 5, "opacity": 0.55},
            meta={"panel": name},
            customdata=hover_columns(seeds, "seed", "low", "high", "n", "name"),
            hovertemplate="<b>%{customdata[4]}</b>, seed %{customdata[0]}: %{x:.1%} "
            "[%{customdata[1]:.1%}, %{customdata[2]:.1%}], n = %{customdata[3]}<extra></extra>",
            row=row,
            col=column,
        )
        figure.update_xaxes(
            title=every[name][1],
            title_font_size=12,
            tickformat=".0%",
            range=spans[name],
            nticks=6,
            row=row,
            col=column,
            zeroline=not every[name].share,
            zerolinecolor=ZERO,
        )
    figure.update_yaxes(
        tickvals=list(range(len(arms))),
        ticktext=bold(arms),
        range=[len(arms) - 0.45, -0.65],
        showgrid=False,
        zeroline=False,
    )
    seeds, several = listed_seeds(metrics["seed"]), metrics["seed"].nunique() > 1
    counted = "acc_x" if "acc_x" in names else names[0]
    pairs = metrics.loc[(metrics["metric"] == counted) & metrics["seed"].isna(), "n"]
    pooled = metrics[metrics["seed"].isna()]
    text = (
        (
            f"Large marker: over {seeds}, with its {100 * level:g} % interval, {said_intervals(pooled)}; "
            if several
            else f"Large marker: one seed, with its {100 * level:g} % interval, {WITHIN}; "
        )
        + "small dots: each seed. "
        + f"n = {whole_range(pairs)} pairs of responses to the same example, without and with the context ({control})."
    )
    alt = "Intervals of metrics by arm. " + " ".join(
        f"{row.metric} of {row.arm}: {percent(row.estimate)} %."
        for row in pooled[pooled["estimate"].notna()].itertuples()
    )
    return finish(figure, text, alt, height=110 + drawn)


def outcomes_bar(shares: pd.DataFrame, control: str = "exact") -> go.Figure:
    """Draw shares of right, wrong, unparsable and truncated responses, a bar per arm and view.

    ``shares`` has the columns ``arm, view, outcome, share`` and may have ``control``, ``seed`` and ``n``; without a row over
    seeds, the mean over seeds is shown.
    """
    if "control" in shares:
        shares = shares[shares["control"].isin(["none", control]) | shares["control"].isna()]
    if "seed" in shares and shares["seed"].isna().any():
        shares = shares[shares["seed"].isna()]
    if shares.empty:
        return empty_figure("No responses to show.")
    n = whole_range(shares["n"]) if "n" in shares else ""
    arms = arm_order(shares["arm"])
    views = [view for view in ("no_context", "with_context") if view in set(shares["view"])]
    table = shares.groupby(["arm", "view", "outcome"], sort=False)["share"].mean()
    keys = [(arm, view) for arm in arms for view in views]
    labels = [
        f"<b>{safe_text(arm)}</b> · {'with' if view == 'with_context' else 'without'}" for arm, view in keys
    ]
    # Bars of one arm stand close together, arms stand apart.
    places = [arms.index(arm) * (len(views) + 0.45) + views.index(view) for arm, view in keys]
    figure = go.Figure()
    for outcome, colour in OUTCOME_COLOURS.items():
        values = [float(table.get((arm, view, outcome), 0.0)) for arm, view in keys]
        figure.add_bar(
            x=values,
            y=places,
            orientation="h",
            name=outcome,
            width=0.82,
            marker={
                "color": colour,
                "pattern": {
                    "shape": OUTCOME_PATTERNS[outcome],
                    "solidity": 0.2,
                    "size": 7,
                    "fillmode": "replace",
                    "bgcolor": colour,
                    "fgcolor": "rgba(0,0,0,0.3)",
                },
            },
            text=[f"{percent(value, 0)} %" if value >= 0.07 else "" for value in values],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": MARK_INSIDE if outcome == "wrong" else MARK_OUTSIDE},
            customdata=labels,
            hovertemplate=f"%{{customdata}} context<br>{outcome}: %{{x:.1%}}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(
        title="share of responses (%)", tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1], tickformat=".0%", range=[0, 1.003]
    )
    figure.update_yaxes(
        tickvals=places,
        ticktext=labels,
        range=[max(places, default=0) + 0.6, -0.6],
        showgrid=False,
        zeroline=False,
        ticklabelstandoff=6,
    )
    place_legend(figure)
    averaged = "seed" in shares and shares["seed"].nunique() > 1
    text = (
        f"Share of responses by outcome, without and with the context ({control})"
        f"{', mean over ' + listed_seeds(shares['seed']) if averaged else ''}."
        f"{' n = ' + n + ' responses per view' + (' and seed' if averaged else '') + '; no' if n else ' No'} "
        "interval is estimated."
    )
    alt = "Outcomes of responses. " + " ".join(
        f"{arm} {view.replace('_', ' ')}: {percent(float(table.get((arm, view, 'right'), 0.0)))} % right."
        for arm, view in keys
    )
    return finish(figure, text, alt, height=98 + 30 * len(keys), top=44)


# -- helpers -------------------------------------------------------------------------------------------------


def _span(metrics: pd.DataFrame, name: str) -> list[float]:
    """Return an axis range with room for the labels; the three accuracies share one, so that panels can be compared."""
    accuracies = ("acc_x", "acc_xc", "both_correct")
    part = metrics[metrics["metric"].isin(accuracies if name in accuracies else [name])]
    values = part[["estimate", "low", "high"]].to_numpy(dtype=float)
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    if not of_answers()[name].share:
        low, high = min(low, -0.04), max(high, 0.04)
    elif name in accuracies:
        low, high = np.floor(10 * min(low, 0.9)) / 10, 1.0
    else:
        low, high = 0.0, max(high, 0.05)
    room = 0.10 * (high - low)
    return [float(low - room), float(high + room)]
