"""Who reads the context, and what each layer would say: knockout, attention mass and lens as figures.

    knockout_curves   what cutting a span off recovers, layer by layer, beside tokens cut off elsewhere
    attention_map     the mass of attention that each span gets, layer by layer, in both views
    attention_heads   one span's mass, head by head
    lens_curves       the right and the wrong token behind every layer, in both views, and how far the views are apart

Mental model: attention mass says who *looks* at a span, knockout who *needs* it; the two need not agree.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.cells import add_cells
from cr_interp.figures.marks import add_band, arm_panels
from cr_interp.figures.style import (
    GRID,
    KEPT,
    MARKERS,
    MASS_SCALE,
    RIGHT,
    WRONG,
    ZERO,
    arm_colour,
    arm_symbol,
    bold,
    counted_examples,
    empty_figure,
    finish,
    hover_columns,
    layer_ticks,
    place_legend,
    safe_text,
    translucent,
    whole_range,
)
from cr_interp.tables.knockout import READERS, SPANS, attention_table, knockout_table
from cr_interp.tables.lens import READOUTS, TOKENS, lens_table, parting
from cr_interp.tables.patching import READOUTS as SHARES
from cr_interp.vocabulary import arm_order, layer_name, layer_words

#: Controls, in every figure of this page.
CONTROL = "rgba(128,128,128,0.9)"
VIEWS = {"no_context": "without context", "with_context": "with context"}
WITHIN = "95 % intervals (bootstrap over clusters within these runs; of several seeds the outermost ends)"


def knockout_curves(
    knockout: pd.DataFrame,
    group: str = "harmed",
    readout: str = "share",
    readers: str = "aligned",
    spans: Sequence[str] | None = None,
) -> go.Figure:
    """Draw a panel per arm (across) and span (up and down): what cutting it off in one layer recovers; "all" is all layers at
    once.

    Of whole answers that flip, the kept ones are drawn beside them: a cut that brings back the first and loses the second
    moves all answers.
    """
    table = knockout_table(knockout, group, readout)
    table = table[(table["readers"] == readers) & table["estimate"].notna()]
    table = table[table["span"].isin(spans)] if spans is not None else table
    if table[table["control"] == "none"].empty:
        return empty_figure(f"No {safe_text(group)} answers were knocked out, or their answers do not part.")
    arms = arm_order(table["arm"])
    rows = [span for span in SPANS if span in set(table["span"])]
    single = table[table["width"] == 1]
    layers = sorted(set(single["layer"])) or [0]
    end = max(layers) + max(1.5, 0.06 * len(layers))
    figure = make_subplots(
        len(rows),
        len(arms),
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.05,
        column_titles=bold(arms),
        row_titles=rows,
    )
    kept = (
        knockout_table(knockout, "kept", "answer") if readout == "answer" and group != "kept" else table.iloc[:0]
    )
    kept = kept[(kept["readers"] == readers) & (kept["control"] == "none")]
    for column, arm in enumerate(arms, 1):
        for row, span in enumerate(rows, 1):
            mine, beside = (of[(of["arm"] == arm) & (of["span"] == span)] for of in (table, kept))
            for of, name, colour, symbol, dash in (
                (mine[mine["control"] == "elsewhere"], "tokens elsewhere", CONTROL, "circle-open", "dot"),
                (beside, "kept answers still there", KEPT, "triangle-down-open", "dash"),
                (
                    mine[mine["control"] == "none"],
                    safe_text(arm),
                    arm_colour(arm, arms),
                    arm_symbol(arm, arms),
                    "solid",
                ),
            ):
                if of.empty:
                    continue
                first = row == 1 and (dash == "solid" or column == 1)
                line = of[of["width"] == 1].sort_values("layer").set_index("layer")
                words = {"span": span, "symbol": symbol, "dash": dash}
                _band(figure, line, colour, name, first, words, row=row, col=column)
                whole = of[of["width"] == of["width"].max()] if of["width"].max() > 1 else of.iloc[:0]
                _point(figure, whole, end, colour, symbol, name, row=row, col=column)
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    figure.add_hline(y=1, line={"color": GRID, "width": 1, "dash": "dash"})
    ticks = layer_ticks(layers)
    figure.update_xaxes(
        tickvals=[*ticks["tickvals"], end],
        ticktext=[*ticks["ticktext"], "all"],
        range=[min(layers) - 0.5, end + 0.6],
    )
    figure.update_xaxes(title="layer that is cut", row=len(rows))
    figure.update_yaxes(title=readout, col=1)
    figure.update_yaxes(range=_reach(table, 0.0, 1.0))
    place_legend(figure)
    return finish(
        figure,
        _knockout_caption(table, kept, group, readout, readers),
        _knockout_alt(table),
        120 + 150 * len(rows),
        84,
    )


def _knockout_caption(table: pd.DataFrame, kept: pd.DataFrame, group: str, readout: str, readers: str) -> str:
    real = table[table["control"] == "none"]
    lengths = ", ".join(
        f"{span} {whole_range(of['cut'].round())}" for span, of in real.groupby("span", sort=False)
    )
    other = table[table["control"] == "elsewhere"]
    shorter = [
        str(span)
        for span, of in other.groupby("span", sort=False)
        if of["cut"].max() < real.loc[real["span"] == span, "cut"].min() - 0.5
    ]
    fewer = whole_range(other.loc[other["span"].isin(shorter), "cut"].round())
    return (
        f"Knockout: attention of {READERS[readers]} to a span of the context is cut in one layer; at the right, in all layers at "
        f"once. Height: {SHARES[readout]}, 1 where the cut brings back the answer without the context, 0 where it changes "
        f"nothing; not clipped. {counted_examples(real, f'{group} examples')}; "
        f"bands: {WITHIN}. Dotted: as many tokens cut off of what both views have, or all there are, drawn "
        f"anew for each layer. Tokens cut: {lengths}."
        + (
            f" Dashed: kept answers that the same cut leaves (n = {whole_range(kept[['n_examples', 'n_most']].stack())}); where "
            f"they are lost as well, the cut moves all answers, not these."
            if len(kept)
            else ""
        )
        + (
            f" Less is left elsewhere for {', '.join(shorter)}: there the control cuts all that is left ({fewer} tokens), "
            f"so it is no control of the same size."
            if shorter
            else ""
        )
    )


def _knockout_alt(table: pd.DataFrame) -> str:
    real = table[(table["control"] == "none") & (table["width"] == 1)]
    if real.empty:
        return "What cutting attention to a span of the context recovers, in all layers at once."
    best = real.loc[real.groupby(["arm", "span"], sort=False)["estimate"].idxmax()]
    return "What cutting attention to a span of the context recovers. " + " ".join(
        f"{row.arm}, {row.span}: most in layer {row.layer}, {row.estimate:.2f}." for row in best.itertuples()
    )


def _band(
    figure: go.Figure,
    line: pd.DataFrame,
    colour: str,
    name: str,
    legend: bool,
    words: dict[str, str],
    **where: Any,
) -> None:
    """Draw a line over layers with its band; hover text names the place, the interval and n."""
    band = line.dropna(subset=["low", "high"])
    if len(band):
        add_band(figure, band.index, band["low"], band["high"], _faint(colour), legendgroup=name, **where)
    shown = line.assign(said=[layer_name(int(place)) for place in line.index])
    figure.add_scatter(
        x=line.index,
        y=line["estimate"],
        mode="lines+markers",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": colour, "width": 2, "dash": words["dash"]},
        marker={"color": colour, "size": 6, "symbol": words["symbol"], "maxdisplayed": MARKERS},
        customdata=hover_columns(shown, "said", "low", "high", "n_examples"),
        hovertemplate=f"<b>{name}</b>, {safe_text(words['span'])}, layer %{{customdata[0]}}: %{{y:.2f}} "
        "[%{customdata[1]:.2f}, %{customdata[2]:.2f}], n = %{customdata[3]}<extra></extra>",
        **where,
    )


def _point(
    figure: go.Figure, of: pd.DataFrame, x: float, colour: str, symbol: str, name: str, **where: Any
) -> None:
    for row in of.itertuples():
        up, down = row.high - row.estimate, row.estimate - row.low
        whisker = {"array": [up], "arrayminus": [down], "color": colour, "thickness": 1.2, "width": 3}
        figure.add_scatter(
            x=[x],
            y=[row.estimate],
            mode="markers",
            legendgroup=name,
            showlegend=False,
            marker={"color": colour, "size": 9, "symbol": symbol},
            error_y=whisker if np.isfinite(up) else None,
            customdata=[[row.low, row.high, row.n_examples]],
            hovertemplate=f"<b>{name}</b>, all layers: %{{y:.2f}} [%{{customdata[0]:.2f}}, %{{customdata[1]:.2f}}], n = "
            "%{customdata[2]}<extra></extra>",
            **where,
        )


def _reach(table: pd.DataFrame, *also: float) -> list[float]:
    """Return the range of a shared axis, said outright: plotly forgets panels when it finds one for several that match."""
    drawn = np.concatenate([table[["estimate", "low", "high"]].to_numpy(float).ravel(), also])
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    return [float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))]


def _faint(colour: str) -> str:
    return "rgba(128,128,128,0.14)" if colour == CONTROL else translucent(colour, 0.16)


def attention_map(attention: pd.DataFrame, arm: str, group: str = "harmed", head: int = -1) -> go.Figure:
    """Draw one arm: spans (up) by layers (across), a panel for each view; colour: the mass of attention."""
    tables = {view: attention_table(attention, group, view, head) for view in VIEWS}
    tables = {view: of[of["arm"] == arm] for view, of in tables.items()}
    real = pd.concat([of[of["control"] == "none"] for of in tables.values()])
    if real.empty:
        return empty_figure(f"No attention of {safe_text(group)} answers of {safe_text(arm)} was looked at.")
    spans = [span for span in reversed(SPANS) if span in set(real["span"])]
    layers = sorted(set(real["layer"]))
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[f"<b>{says}</b>" for says in VIEWS.values()],
    )
    even = attention_table(attention, group, "with_context", -1)
    even = even[(even["arm"] == arm) & (even["control"] == "even")].groupby("span")["estimate"].mean()
    for column, (view, of) in enumerate(tables.items(), 1):
        at = {(row.span, row.layer, row.control): row for row in of.itertuples()}
        z = np.array([[_value(at.get((span, layer, "none"))) for layer in layers] for span in spans])

        def hover(i: int, j: int, at: dict[Any, Any] = at) -> list[str]:
            row, evenly = at[spans[i], layers[j], "none"], at.get((spans[i], layers[j], "even"))
            beside = "" if evenly is None else f"even attention: {evenly.estimate:.2f}"
            value = f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]"
            return [f"{spans[i]}, layer {layers[j]}", value, f"{row.n_examples}", beside]

        template = "%{customdata[0]}<br>mass %{customdata[1]}, n = %{customdata[2]}<br>%{customdata[3]}"
        add_cells(figure, z, layers, list(range(len(spans))), hover, template, view, row=1, col=column)
    figure.update_yaxes(tickvals=list(range(len(spans))), ticktext=spans)
    figure.update_xaxes(layer_ticks(layers), title="layer")
    _mass_axis(figure)
    which = "mean over heads" if head < 0 else f"head {head}"
    text = (
        f"Attention mass of {arm}: how much of its weight an aligned position gives to each span ({which}). The spans share 1, "
        f"the first token (where sinks sit) apart; context is all that only that view has and overlaps with the others. "
        f"{counted_examples(real, f'{group} examples', each='')}; the pointer shows "
        f"{WITHIN}."
        + _evenly(", ".join(f"{span} {even[span]:.2f}" for span in reversed(spans) if span in even))
        + " Mass says who looks, not who needs what it sees."
    )
    given = real[(real["span"] == "context")]
    most = given.loc[given["estimate"].idxmax()] if len(given) else None
    alt = f"Attention mass by span and layer, {arm}." + (
        "" if most is None else f" The context gets most in layer {most['layer']}: {most['estimate']:.2f}."
    )
    return finish(figure, text, alt, height=120 + 34 * len(spans))


def _evenly(shares: str) -> str:
    """Return the control's sentence; none where the table has no such rows."""
    return f" Control: even attention to all tokens would give {shares}." if shares else ""


def attention_heads(
    attention: pd.DataFrame, arm: str, span: str = "context", group: str = "harmed", view: str = "with_context"
) -> go.Figure:
    """Draw one arm, one span, one view: heads (up) by layers (across)."""
    table = attention_table(attention, group, view, None)
    real = table[(table["arm"] == arm) & (table["span"] == span) & (table["control"] == "none")]
    if real.empty:
        return empty_figure(
            f"No attention of {safe_text(group)} answers of {safe_text(arm)} to {safe_text(span)}."
        )
    at = {(row.head, row.layer): row for row in real.itertuples()}
    heads, layers = sorted(set(real["head"])), sorted(set(real["layer"]))
    z = np.array([[_value(at.get((head, layer))) for layer in layers] for head in heads])

    def hover(i: int, j: int) -> list[str]:
        row = at[heads[i], layers[j]]
        return [
            f"layer {layers[j]}, head {heads[i]}",
            f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]",
            f"{row.n_examples}",
        ]

    figure = make_subplots(1, 1)
    template = "%{customdata[0]}<br>mass %{customdata[1]}, n = %{customdata[2]}"
    add_cells(figure, z, layers, heads, hover, template, arm, row=1, col=1)
    figure.update_xaxes(layer_ticks(layers), title="layer")
    figure.update_yaxes(title="head", tickvals=heads, ticktext=[str(head) for head in heads])
    _mass_axis(figure)
    even = attention_table(attention, group, view, -1)
    even = even[(even["arm"] == arm) & (even["span"] == span) & (even["control"] == "even")]["estimate"].mean()
    text = (
        f"Attention mass of {arm}, head by head: how much of its weight an aligned position gives to {SPANS.get(span, span)} "
        f"({VIEWS[view]}). {counted_examples(real, f'{group} examples', each='')}; the "
        f"pointer shows {WITHIN}." + _evenly("" if np.isnan(even) else f"{even:.2f}")
    )
    most = real.loc[real["estimate"].idxmax()]
    alt = (
        f"Attention to {span} by head. Most: layer {most['layer']}, head {most['head']}, {most['estimate']:.2f}."
    )
    return finish(figure, text, alt, height=150 + 22 * len(heads))


def _mass_axis(figure: go.Figure) -> None:
    figure.update_layout(
        coloraxis={
            "colorscale": MASS_SCALE,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"thickness": 12, "title": "mass"},
        },
        showlegend=False,
    )


def _value(row: Any) -> float:
    return float("nan") if row is None else float(row.estimate)


def lens_curves(lens: pd.DataFrame, group: str = "harmed", readout: str = "logprob") -> go.Figure:
    """Draw a panel per arm: the right and the wrong token behind every layer, in both views; below it the KL between the
    views.
    """
    table = lens_table(lens, group, readout)
    if table.empty:
        return empty_figure(f"No {safe_text(group)} answers were looked at through the lens.")
    apart = lens_table(lens, group, "kl")
    arms = arm_order(table["arm"])
    right, wrong = TOKENS.get(group, ("right", "wrong"))
    rows = 2 if len(apart) else 1
    figure = arm_panels(arms, [0.65, 0.35][:rows])
    for column, arm in enumerate(arms, 1):
        mine = table[table["arm"] == arm]
        tokens = [("all", arm_colour(arm, arms))] if readout == "difference" else [(right, RIGHT), (wrong, WRONG)]
        for token, colour in tokens:
            what = f"{right} − {wrong}" if token == "all" else token
            for view, says in VIEWS.items():
                line = _line(mine, view, token, "none")
                words = {
                    "span": f"{what} token, {says}",
                    "dash": "dot" if view == "no_context" else "solid",
                    "symbol": "circle-open" if view == "no_context" else "circle",
                }
                if len(line):
                    _band(figure, line, colour, f"{what}, {says}", column == 1, words, row=1, col=column)
        control = _line(mine, "with_context", tokens[0][0], "other")
        words = {"span": "with context", "dash": "dash", "symbol": "x-thin-open"}
        if len(control):
            _band(figure, control, CONTROL, "another example's state", column == 1, words, row=1, col=column)
        if rows == 2:
            _apart(figure, apart[apart["arm"] == arm], arm, arms, column)
    places = sorted(set(table["place"]))
    figure.update_xaxes(layer_ticks(places), range=[min(places) - 0.5, max(places) + 0.5])
    figure.update_xaxes(title="layer", row=rows)
    names = {"logprob": "log-probability", "rank": "rank (log scale)", "first": "share first"}
    figure.update_yaxes(title=names.get(readout, f"log p, {right} − {wrong}"), row=1, col=1)
    if readout == "difference":
        figure.add_hline(y=0, line={"color": ZERO, "width": 1}, row=1)
    if readout == "rank":
        low, high = _reach(table[["estimate", "low", "high"]].apply(np.log10), 0.0)
        ticks = [head * 10**decade for decade in range(int(high) + 1) for head in (1, 2, 5)]
        figure.update_yaxes(
            type="log", range=[high, low], tickvals=ticks, ticktext=[str(tick) for tick in ticks], row=1
        )
    else:
        figure.update_yaxes(range=_reach(table, 0.0), row=1)
    if rows == 2:
        figure.update_yaxes(title="KL", row=2, col=1)
        figure.update_yaxes(range=_reach(apart, 0.0), row=2)
    place_legend(figure)
    return finish(
        figure, _lens_caption(table, group, readout, rows == 2), _lens_alt(lens, group), 200 + 150 * rows, 84
    )


def _apart(figure: go.Figure, mine: pd.DataFrame, arm: Hashable, arms: Sequence[Hashable], column: int) -> None:
    for control, colour in (("other", CONTROL), ("none", arm_colour(arm, arms))):
        line = _line(mine, "between", "all", control)
        words = {"span": "KL", "dash": "dash" if control == "other" else "solid", "symbol": "x-thin-open"}
        if control == "none":
            words["symbol"] = arm_symbol(arm, arms)
        name = "another example's state" if control == "other" else safe_text(arm)
        if len(line):
            _band(figure, line, colour, name, False, words, row=2, col=column)


def _line(table: pd.DataFrame, view: str, token: str, control: str) -> pd.DataFrame:
    mine = table[(table["view"] == view) & (table["token"] == token) & (table["control"] == control)]
    return mine.sort_values("place").set_index("place")


def _lens_caption(table: pd.DataFrame, group: str, readout: str, below: bool) -> str:
    real = table[table["control"] == "none"]
    where = (
        "at the place where the two answers part"
        if group != "kept"
        else "of the answer's own tokens, averaged over the answer"
    )
    return (
        f"Lens: the model's own final norm and head on the state behind every layer. Height: {READOUTS[readout]} {where}. "
        f"{counted_examples(real, f'{group} examples')}; bands: "
        f"{WITHIN}. Grey: the same token in another example's state with the context."
        + (
            " Below: KL between the views (without ‖ with, nats); grey: between this and another example, both without context."
            if below
            else ""
        )
    )


def _lens_alt(lens: pd.DataFrame, group: str) -> str:
    return "What every layer would say, in both views. " + " ".join(
        f"{row.arm}, {VIEWS[row.view]}: the {row.ahead} token is ahead from {layer_words(row.place)} on."
        for row in parting(lens, group).itertuples()
    )
