"""The drift of single responses, layer by layer: the figure of the Layers page for what somebody has just tried."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.drift import drift_by_layer, mark_layers
from cr_interp.figures.style import (
    NOISE,
    WITH,
    alt_text,
    arm_colour,
    caption,
    empty_figure,
    finish,
    layer_ticks,
    place_legend,
    safe_text,
    whole_range,
)
from cr_interp.tables.token_view import visible
from cr_interp.vocabulary import measure_words

#: The control of the rows that :meth:`cr_interp.measure.tryout.Tryout.layer_rows` makes.
GIVEN = "given"
#: The least that a linear axis spans.
LEAST_SPAN = 0.01


def response_drift(
    layers: pd.DataFrame,
    measure: str,
    movement: bool = False,
    arms: Sequence[str] | None = None,
    place: int | None = None,
) -> go.Figure:
    """Draw one curve a checkpoint over the layers, the band from its nearest to its farthest token; ``place`` is marked."""
    figure = drift_by_layer(layers, measure, GIVEN, movement=movement, arms=arms)
    if place is not None and figure.data:
        mark_layers(figure, [place])
    if not movement:
        # Of one width: a live figure that is drawn again keeps the margin that its first ticks needed.
        figure.update_yaxes(tickformat=".3f", title_standoff=14)
    mine = layers[layers["measure"] == measure]
    low, high = mine["low"].min(), mine["high"].max()
    if not movement and high - low < LEAST_SPAN / 10:
        # Nothing moves: an axis of its own would show the last digits of float32 as if they were drift.
        room = (0.9, 0.1) if measure == "cosine" else (0.1, 0.9)
        figure.update_yaxes(range=[low - room[0] * LEAST_SPAN, high + room[1] * LEAST_SPAN])
    name = measure_words(measure).name
    text = (
        f"{name[0].upper() + name[1:]} between a response token's state without and with the context as it is typed above. "
        f"Line: mean over the tokens of one response; band, and the brackets at the pointer: its outermost tokens, not a "
        f"confidence interval. n = {whole_range(mine['n_tokens'])} tokens of 1 prompt."
    )
    if "Movements below" in caption(figure):
        text += f" Movements below {NOISE:g} (float noise; usually the embedding) are not drawn."
    return figure.update_layout(meta={"caption": text, "alt": alt_text(figure)})


def parting_lens(rows: pd.DataFrame, arm: str, arms: Sequence[str] | None = None) -> go.Figure:
    """Draw where two answers part, read off every layer's state: each answer's next token, in both views.

    ``rows`` is :func:`cr_interp.mechanism.tried_lens.parting` of one checkpoint.
    """
    if rows.empty:
        return empty_figure("The two answers do not part: there is nothing to read off.")
    figure = go.Figure()
    colours = {"without": arm_colour(arm, arms or [arm]), "with": WITH}
    for (token, text), of_token in rows.groupby(["token", "text"], sort=False):
        for view, dash in (("no_context", "solid"), ("with_context", "dash")):
            mine = of_token[of_token["view"] == view].sort_values("layer")
            said = "without" if view == "no_context" else "with"
            figure.add_scatter(
                x=mine["layer"],
                y=mine["logprob"],
                mode="lines+markers",
                name=f"{safe_text(visible(text))}, read {said} the context",
                line={"color": colours[token], "dash": dash, "width": 2},
                marker={"color": colours[token], "size": 6},
                hovertemplate=f"{safe_text(visible(text))}, {said} the context, layer %{{x}}: %{{y:.2f}} nats<extra></extra>",
            )
    figure.update_xaxes(title="layer (emb: embedding)", zeroline=False, **layer_ticks(sorted(set(rows["layer"]))))
    figure.update_yaxes(title="log-probability (nats)")
    place_legend(figure)
    texts = dict(rows.drop_duplicates("token")[["token", "text"]].itertuples(index=False))
    text = (
        f"Logit lens of {arm}: what the model's own final norm and head read off every layer's state at the place where the two "
        f"answers part, {visible(texts['without'])} (the answer without the context) or {visible(texts['with'])} (with it). "
        "One prompt, n = 1 token; no interval."
    )
    last = rows[rows["layer"] == rows["layer"].max()]
    alt = "Logit lens where the answers part. Behind the last layer: " + " ".join(
        f"{visible(row.text)}, {row.view}: {row.logprob:.2f}." for row in last.itertuples()
    )
    return finish(figure, text, alt, height=330, top=64)
