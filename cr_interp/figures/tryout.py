"""The drift of single responses, layer by layer: the figure of the Layers page for what somebody has just tried."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.drift import drift_by_layer, mark_layers
from cr_interp.figures.style import NOISE, alt_text, caption, whole_range
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
    """One curve a checkpoint over the layers, the band from its nearest to its farthest token; ``place`` is marked."""
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
