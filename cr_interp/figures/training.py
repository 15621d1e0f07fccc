"""The figures of what happens during training: the log over steps, metrics of several checkpoints, drift at a step.

Look at them by way of ``cr_interp.figures.behaviour``, which has them all and the rules all figures follow.

    training_curves     a study's log (``train_log``, or ``Study.training``) → a panel a column
    metrics_over_steps  ``behaviour.metrics_by_step`` → a panel a metric, with intervals
    drift_at_step       drift of all steps → the layer curves at one of them, axes the same at each
    drift_over_steps    drift of all steps → the layer that drifts most, over steps
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.drift import drift_by_layer
from cr_interp.figures.marks import UNCHANGED, add_band
from cr_interp.figures.style import (
    FEW_ARMS,
    FEW_MARKERS,
    MARKERS,
    NOISE,
    PEAK,
    PERCENT,
    TRAINING,
    ZERO,
    arm_colour,
    arm_symbol,
    caption,
    empty_figure,
    finish,
    hover_columns,
    listed_seeds,
    log_ticks,
    place_legend,
    safe_text,
    strands,
    translucent,
    whole_range,
)
from cr_interp.tables.drift import as_movement, extreme_layer, extreme_word, layer_table
from cr_interp.tables.interval_words import said_intervals
from cr_interp.vocabulary import METRICS, arm_order, measure_words

#: More seeds than that are a band only. (Of more than FEW_ARMS arms the means alone are drawn: bands would hide each other.)
THIN_LINES = 8
#: More panels than that are nobody's objective.
PANELS = 12
#: 0%, 0.5%, 1%: a small change of length must not have three ticks that say the same.
SHARE = ".1~%"

# -- the log ---------------------------------------------------------------------------------------------------


def training_columns(training: pd.DataFrame) -> list[str]:
    """Return the columns of a training log that can be drawn: metrics first, then the loss, its terms and the rest.

    Left out is what says nothing: a constant learning rate, and the support's mass under a distribution if it always is 1, as
    it is with the full vocabulary.
    """
    names = [str(name) for name in training.columns]
    terms = sorted(name for name in names if name.startswith("terms."))
    masses = [name for name in names if name.partition(".")[0] == "topk_mass" and training[name].min() < 1]
    rate = [name for name in names if name == "learning_rate" and training[name].nunique() > 1]
    peaks = sorted(name for name in names if name.startswith(PEAK))
    known = [*METRICS, "loss", *terms, "grad_norm", *rate, *masses, "length", "tokens_per_second", *peaks]
    return [name for name in known if name in training and training[name].notna().any()]


def is_loss(column: str) -> bool:
    """Tell whether it falls over orders of magnitude, so that a logarithmic axis shows more."""
    return column in ("loss", "grad_norm") or column.startswith("terms.")


def training_curves(
    training: pd.DataFrame,
    columns: Sequence[str] = ("acc_x", "acc_xc", "harm"),
    arms: Sequence[str] | None = None,
    log: bool = False,
) -> go.Figure:
    """Draw columns of the training log over steps, one panel a column, one colour an arm.

    ``training`` is :meth:`cr_interp.study.study.Study.training` or :meth:`cr_interp.study.log.StudyLogs.read`; the thick line
    is the mean over seeds at the steps that every seed has logged, of few arms the thin ones are single seeds, the band is
    their range. ``log`` draws losses and gradients on a logarithmic axis.
    """
    found = [column for column in columns if column in training and training[column].notna().any()]
    columns = found[:PANELS]
    if not columns:
        return empty_figure("No training log.")
    names = arm_order(training["arm"])
    arms = arm_order(arms or names)
    titles = [_training_words(column) for column in columns]
    figure, places, down = _panels([title for title, _ in titles])
    legend: set[Any] = set()
    hidden, several = 0, False
    shown = MARKERS if len(names) <= FEW_ARMS else FEW_MARKERS
    for column, words, (row, at) in zip(columns, titles, places, strict=True):
        digits = ".1%" if column in PERCENT else ".4s" if column.startswith(PEAK) else ".4g"
        flat = not (log and is_loss(column) and (training[column] > 0).any())
        drawn = []
        for arm in names:
            mine = training[(training["arm"] == arm) & training[column].notna()]
            if not flat:
                hidden += int((mine[column] <= 0).sum())
                mine = mine[mine[column] > 0]
            if mine.empty:
                continue
            colour = arm_colour(arm, arms)
            runs = list(mine.groupby("seed", dropna=False))
            line = mine.groupby("step")[column].agg(["mean", "min", "max", "size"])
            # A run in progress must not bend the mean: only steps that all seeds have reached count.
            line = line[line["size"] == len(runs)]
            where: dict[str, Any] = {"legendgroup": str(arm), "row": row, "col": at}
            several = several or len(runs) > 1
            if len(runs) > 1 and len(names) <= FEW_ARMS:
                _band(figure, line.index, line["min"], line["max"], colour, **where)
                if len(runs) <= THIN_LINES:
                    figure.add_scatter(
                        **strands((one["step"], one[column]) for _, one in runs),
                        mode="lines",
                        line={"color": colour, "width": 1},
                        opacity=0.4,
                        hoverinfo="skip",
                        showlegend=False,
                        **where,
                    )
            few = len(line) <= 40
            figure.add_scatter(
                x=line.index,
                y=line["mean"],
                mode="lines+markers" if few else "lines",
                name=safe_text(arm),
                line={"color": colour, "width": 2.2},
                showlegend=arm not in legend,
                marker={"color": colour, "size": 5, "symbol": arm_symbol(arm, arms), "maxdisplayed": shown},
                meta={"column": column},
                hovertemplate=f"<b>{safe_text(arm)}</b>, step %{{x}}: %{{y:{digits}}}<extra></extra>",
                **where,
            )
            drawn.append(line["mean"])
            legend.add(arm)
        if flat:
            ticks = SHARE if column in PERCENT else "~s" if column.startswith(PEAK) else None
            axis: dict[str, Any] = {"tickformat": ticks, "rangemode": "tozero"}
        else:
            axis = {"type": "log", **log_ticks(go.Figure([go.Scatter(y=values) for values in drawn]))}
        figure.update_yaxes(title=words[1] if flat else f"{words[1]}, log", row=row, col=at, **axis)
    figure.update_xaxes(title="training step", zeroline=False, matches="x")
    place_legend(figure)
    text = _log_caption(training, columns, several, len(names))
    if hidden:
        text += f" On a logarithmic axis {hidden} values of 0 or less have no place."
    if len(found) > len(columns):
        text += f" The first {len(columns)} of {len(found)} columns are drawn."
    return finish(figure, text, _log_alt(figure, columns, names), height=100 + 245 * down)


def _log_caption(training: pd.DataFrame, columns: Sequence[str], several: bool, arms: int) -> str:
    seeds = listed_seeds(training["seed"]) or "runs"
    how = (
        f"Thick: mean over {seeds}, at the steps that each of an arm's runs has reached; "
        + (
            "thin: each seed; band: from the lowest to the highest seed, not a confidence interval."
            if arms <= FEW_ARMS
            else f"with {FEW_ARMS} arms or fewer chosen, each seed and their range are drawn, too."
        )
        if several
        else f"Line: {seeds}, without an interval."
    )
    rows = training[training[list(columns)].notna().any(axis=1)]
    most = int(rows["averaged"].max()) if "averaged" in rows and len(rows) else 1
    point = (
        f" A point is the mean of up to {most} logged steps, drawn at the last of them."
        if most > 1
        else " One point a logged step."
    )
    measured = any(column in METRICS for column in columns) and "n" in rows and rows["n"].notna().any()
    n = whole_range(rows["n"].dropna()) if measured else ""
    told = f" Metrics are measured during training on n = {n} examples, without intervals." if n else ""
    return how + point + told


def _log_alt(figure: go.Figure, columns: Sequence[str], names: Sequence[Any]) -> str:
    last = [
        f"{trace.meta['column']} of {trace.name} at step {trace.x[-1]:g}: {trace.y[-1]:.4g}."
        for trace in figure.data
        if trace.meta and len(trace.x)
    ]
    return f"{', '.join(columns)} over training steps for {', '.join(map(str, names))}. " + " ".join(last[:40])


def _training_words(column: str) -> tuple[str, str]:
    if column in METRICS:
        return METRICS[column].title, METRICS[column].axis
    if column.startswith("terms."):
        # Long names of an objective of somebody's own would run into the next panel.
        name = column.removeprefix("terms.").replace("||", "‖")
        return safe_text(name if len(name) <= 34 else name[:33] + "…"), "nats per token"
    if column.startswith("topk_mass."):
        return f"Mass in the support, {safe_text(column.removeprefix('topk_mass.'))}", "share"
    return TRAINING.get(column, (safe_text(column), safe_text(column)))


# -- metrics of several checkpoints ------------------------------------------------------------------------------


def metrics_over_steps(
    metrics: pd.DataFrame,
    names: Sequence[str] = ("acc_x", "acc_xc", "harm", "delta_len"),
    arms: Sequence[str] | None = None,
    level: float = 0.95,
    control: str = "exact",
) -> go.Figure:
    """Draw metrics of checkpoints over their steps, a panel a metric, with their intervals.

    ``metrics`` is :func:`cr_interp.tables.behaviour.metrics_by_step` under this ``control``, which only the caption needs;
    drawn are the values over seeds. An arm that was measured once, as the base model is, is a marker.
    """
    rows = metrics[metrics["seed"].isna() & metrics["estimate"].notna()]
    names = [name for name in names if name in set(rows["metric"])]
    if not names:
        return empty_figure("No checkpoint was evaluated.")
    arms = arm_order(arms or rows["arm"])
    figure, places, down = _panels([METRICS[name][0] for name in names])
    legend: set[Any] = set()
    for name, (row, at) in zip(names, places, strict=True):
        for arm in arm_order(rows["arm"]):
            mine = rows[(rows["metric"] == name) & (rows["arm"] == arm)].sort_values("step")
            if mine.empty:
                continue
            colour = arm_colour(arm, arms)
            where: dict[str, Any] = {"legendgroup": str(arm), "row": row, "col": at}
            _band(figure, mine["step"], mine["low"], mine["high"], colour, **where)
            figure.add_scatter(
                x=mine["step"],
                y=mine["estimate"],
                mode="lines+markers",
                name=safe_text(arm),
                showlegend=arm not in legend,
                line={"color": colour, "width": 2.2},
                marker={"color": colour, "size": 7, "symbol": arm_symbol(arm, arms)},
                customdata=hover_columns(mine, "low", "high", "n"),
                hovertemplate=f"<b>{safe_text(arm)}</b>, step %{{x}}: %{{y:.1%}} [%{{customdata[0]:.1%}}, "
                "%{customdata[1]:.1%}], n = %{customdata[2]}<extra></extra>",
                **where,
            )
            legend.add(arm)
        figure.update_yaxes(title=METRICS[name][1], tickformat=SHARE, rangemode="tozero", row=row, col=at)
    figure.update_xaxes(title="training step", zeroline=False, matches="x")
    place_legend(figure)
    pairs = rows.loc[rows["metric"] == names[0], "n"]
    text = (
        f"Line: value over {listed_seeds(metrics['seed']) or 'runs'} at each checkpoint that was evaluated; band: "
        f"{100 * level:g} % interval, {said_intervals(rows)}. n = {whole_range(pairs)} pairs of responses to the "
        f"same example, without and with the context ({control})."
    )
    last = rows[rows["metric"].isin(names)].sort_values("step").groupby(["arm", "metric"], sort=False).tail(1)
    alt = "Metrics over training steps. " + " ".join(
        f"{row.metric} of {row.arm} at step {row.step:g}: {row.estimate:.1%}." for row in last.itertuples()
    )
    return finish(figure, text, alt, height=100 + 245 * down)


# -- drift over steps ----------------------------------------------------------------------------------------------


def drift_steps(drift: pd.DataFrame) -> list[int]:
    """Return the steps at which an arm that was trained was measured."""
    return sorted({int(step) for step in drift.loc[~_untrained(drift), "step"].dropna()})


def at_step(drift: pd.DataFrame, step: int) -> pd.DataFrame:
    """Return the rows of one step; those of an arm that was not trained, as the base model, always count."""
    return drift[(drift["step"] == step) | _untrained(drift)]


def _untrained(drift: pd.DataFrame) -> pd.Series:
    return drift["step"].fillna(0).groupby(drift["arm"]).transform("max") == 0


def step_table(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """Return :func:`cr_interp.tables.drift.layer_table` of every step, with ``step`` in front."""
    drift = drift[(drift["measure"] == measure) & (drift["control"] == control)]
    parts = []
    if _untrained(drift).any():
        parts.append(layer_table(drift[_untrained(drift)], measure, control).assign(step=0))
    for step in drift_steps(drift):
        here = drift[(drift["step"] == step) & ~_untrained(drift)]
        parts.append(layer_table(here, measure, control).assign(step=step))
    parts = [part for part in parts if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else layer_table(drift, measure, control).assign(step=0)
    return table[["step", *(name for name in table if name != "step")]]


def drift_at_step(
    drift: pd.DataFrame,
    step: int,
    measure: str = "cosine",
    control: str = "exact",
    movement: bool = False,
    arms: Sequence[str] | None = None,
) -> go.Figure:
    """Draw :func:`cr_interp.figures.drift.drift_by_layer` at one step. The axis fits all steps, so that moving from one to
    the next moves the curves only.
    """
    here = at_step(drift, step)
    figure = drift_by_layer(here, measure, control, movement, arms=arms)
    if not figure.data:
        return figure
    every = step_table(drift, measure, control)
    ends = (as_movement(every, measure) if movement else every)[["estimate", "low", "high"]].to_numpy(dtype=float)
    grey = [np.asarray(trace.y, dtype=float) for trace in figure.data if trace.name == "chance"]
    ends = np.concatenate([ends.ravel(), *grey])
    ends = ends[np.isfinite(ends) & (ends >= NOISE)] if movement else ends[np.isfinite(ends)]
    if len(ends):
        low, high = np.log10([ends.min(), ends.max()]) if movement else (ends.min(), ends.max())
        room = 0.04 * (high - low) or 0.01
        figure.update_yaxes(range=[float(low - room), float(high + room)])
    untrained = arm_order(here.loc[_untrained(here), "arm"]) if len(drift_steps(drift)) else []
    text = f"Step {step}. {caption(figure)}"
    if untrained:
        text += f" {', '.join(map(str, untrained))} was not trained and is the same at every step."
    meta = {**figure.layout.meta, "caption": text, "alt": f"At step {step}: {figure.layout.meta['alt']}"}
    return figure.update_layout(meta=meta)


def extremes_by_step(drift: pd.DataFrame, measure: str, control: str = "exact") -> pd.DataFrame:
    """Return :func:`cr_interp.tables.drift.extreme_layer` at every step, with ``step`` in front; untrained arms are step 0."""
    drift = drift[(drift["measure"] == measure) & (drift["control"] == control)]
    steps = drift["step"].fillna(0)
    # Without a row in the table there is one part, which has the columns.
    parts = [
        extreme_layer(drift[steps == step], measure, control).assign(step=int(step))
        for step in sorted(set(steps)) or [0]
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["step", *(name for name in table if name != "step")]]


def drift_over_steps(
    drift: pd.DataFrame,
    measure: str = "cosine",
    control: str = "exact",
    movement: bool = False,
    step: int | None = None,
    arms: Sequence[str] | None = None,
) -> go.Figure:
    """Draw the layer that drifts most, over steps: a line an arm, and level ones for arms that were not trained.

    ``step`` is marked. Markers can be clicked: they carry ``meta = {"panel": arm}``.
    """
    table = extremes_by_step(drift, measure, control)
    table = table[table["estimate"].notna()]
    if movement:
        table = as_movement(table, measure)
        table = table[table["estimate"] >= NOISE]
    if table.empty:
        return empty_figure(f"No {safe_text(measure)} was measured under the {safe_text(control)} context.")
    untrained = set(drift.loc[_untrained(drift), "arm"])
    names, arms = arm_order(table["arm"]), arm_order(arms or table["arm"])
    last = int(table["step"].max())
    digits = ".3g" if movement else ".4f"
    figure = go.Figure()
    for arm in names:
        mine = table[table["arm"] == arm]
        colour, level = arm_colour(arm, arms), arm in untrained
        if level:
            mine = pd.concat([mine, mine.assign(step=last)])
        low = mine["low"].clip(lower=NOISE) if movement else mine["low"]
        strength = 0.08 if level else 0.16
        _band(figure, mine["step"], low, mine["high"], colour, strength, legendgroup=str(arm))
        figure.add_scatter(
            x=mine["step"],
            y=mine["estimate"],
            mode="lines" if level else "lines+markers",
            name=safe_text(arm),
            legendgroup=str(arm),
            line={"color": colour, "width": 2, "dash": "dash" if level else "solid"},
            marker={"color": colour, "size": 8, "symbol": arm_symbol(arm, arms)},
            meta={"panel": str(arm)},
            unselected=UNCHANGED,
            customdata=hover_columns(mine, "layer", "low", "high"),
            hovertemplate=f"<b>{safe_text(arm)}</b>, step %{{x}}: %{{y:{digits}}} [%{{customdata[1]:{digits}}}, "
            f"%{{customdata[2]:{digits}}}], layer %{{customdata[0]}}<extra></extra>",
        )
    if step is not None:
        figure.add_vline(x=step, line={"color": ZERO, "width": 1.6, "dash": "dot"}, layer="below")
    name, plain, moved = measure_words(measure)[:3]
    figure.update_xaxes(title="training step", zeroline=False)
    if movement:
        figure.update_yaxes(title=f"{moved} (log scale)", type="log", **log_ticks(figure))
    else:
        figure.update_yaxes(title=plain)
    place_legend(figure)
    rows = drift[(drift["measure"] == measure) & (drift["control"] == control)]
    text = (
        f"The layer that drifts most ({name} {extreme_word(measure)}, {control} context), mean over "
        f"{listed_seeds(rows['seed']) or 'runs'}, each with its own layer; band: 95 % interval, {said_intervals(table)}. "
        f"n = {whole_range(rows['n_tokens'])} tokens of "
        f"{whole_range(rows['n_examples'])} examples per seed and step."
    )
    if untrained:
        text += f" Dashed: {', '.join(map(str, arm_order(untrained)))}, not trained."
    alt = f"{name} at the layer that drifts most, over training steps. " + " ".join(
        f"{row.arm} at step {row.step}: {row.estimate:.4f}." for row in table.itertuples()
    )
    return finish(figure, text, alt, height=310, top=44)


# -- helpers -------------------------------------------------------------------------------------------------------


def _panels(titles: Sequence[str]) -> tuple[go.Figure, list[tuple[int, int]], int]:
    """Lay out panels, at most three abreast. Return the figure, where each panel is, and how many rows there are."""
    across = min(3, len(titles))
    down = -(-len(titles) // across)
    figure = make_subplots(
        down,
        across,
        horizontal_spacing=0.1,
        vertical_spacing=0.34 / down + 0.03 if down > 1 else 0,
        subplot_titles=list(titles),
    )
    return figure, [(index // across + 1, index % across + 1) for index in range(len(titles))], down


def _band(
    figure: go.Figure, x: Any, low: pd.Series, high: pd.Series, colour: str, strength: float = 0.16, **where: Any
) -> None:
    keep = (low.notna() & high.notna()).to_numpy()
    x, low, high = np.asarray(x)[keep], low[keep], high[keep]
    add_band(figure, x, low, high, translucent(colour, strength), **where)
