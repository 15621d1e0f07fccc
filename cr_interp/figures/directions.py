"""The double dose as figures: does training go where the context goes, and does taking that out repair answers?

directions          by layer: cosine of u and v_base, with the controls' range
direction_effects   by layer: answers that return (or are lost) when v is moved, beside both controls
"""

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.beside import WITHIN, counted, ends_words, panels
from cr_interp.figures.style import empty_figure, safe_text
from cr_interp.tables.directions import ACTIONS, CONTROLS, MEASURES, direction_table, effect_table
from cr_interp.tables.patching import READOUTS

VECTORS = {"base": "v of the base", "student": "v of the student itself"}
GREY = (
    " Grey: the same of a random direction and of the difference of two unrelated prompts; "
    "bands: where 95 % of these lie."
)


def directions(table: pd.DataFrame, measure: str = "cos_u_v") -> go.Figure:
    """Draw one measure of the table ``directions``, layer by layer."""
    drawn = direction_table(table, measure)
    if drawn.empty:
        return empty_figure("No directions were computed for a trained arm.")
    drawn = drawn.assign(place=drawn["layer"].astype(int))
    beside = GREY if measure in ("cos_u_v", "share_along") else ""
    text = (
        f"{MEASURES[measure].capitalize()}, on training prompts, u and v from different halves of the clusters. "
        f"{counted(drawn, 'prompts')}; bands: {WITHIN}.{beside}"
    )
    alt = f"{MEASURES[measure].capitalize()}. {ends_words(drawn, list(drawn['arm'].unique()))}"
    names = {"none": "v itself", "random": CONTROLS["random"], "unrelated": CONTROLS["unrelated"]}
    return panels({measure: drawn}, names, text, alt, line=0.0)


def direction_effects(
    effects: pd.DataFrame, group: str = "harmed", action: str = "remove", readout: str = "answer"
) -> go.Figure:
    """Draw what moving v does to the answers of a group, layer by layer, for the base's v and the student's own."""
    tables = {says: effect_table(effects, group, action, vector, readout) for vector, says in VECTORS.items()}
    drawn = {says: each.assign(place=each["layer"].astype(int)) for says, each in tables.items() if len(each)}
    if not drawn:
        return empty_figure(f"No {safe_text(group)} answers were tried.")
    first = next(iter(drawn.values()))
    done = "are back" if action == "remove" else "are gone"
    number = READOUTS[readout] if readout == "share" else f"share of whole answers that {done}"
    text = (
        f"The direction {ACTIONS[action]}, at the aligned positions of one layer, on answers of other clusters than it was "
        f"computed on. Height: {number}. {counted(first, f'{group} answers')}; bands: {WITHIN}. Grey, likewise: "
        f"{CONTROLS['random']}, and {CONTROLS['unrelated']}."
    )
    alt = f"The direction {ACTIONS[action]}. {ends_words(first, list(first['arm'].unique()))}"
    return panels(drawn, CONTROLS, text, alt, line=0.0)
