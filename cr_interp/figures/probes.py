"""Whether the context can be read from a state, layer by layer, beside shuffled labels: a panel per arm."""

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.beside import WITHIN, counted, ends_words, panels
from cr_interp.figures.style import empty_figure
from cr_interp.tables.probes import CONTROLS, QUESTIONS, probe_table


def probes(table: pd.DataFrame) -> go.Figure:
    """Draw both questions of the table ``probes``, each tried on contexts that the probe was not fitted on, where there are
    such.
    """
    drawn = {question: probe_table(table, question) for question in QUESTIONS}
    drawn = {question: each for question, each in drawn.items() if len(each)}
    if not drawn:
        return empty_figure("No probes were fitted: that takes prompts of at least four clusters, and a context.")
    tried = "; ".join(
        f"{question} ({QUESTIONS[question]}) on {each['tested'].iloc[0]}" for question, each in drawn.items()
    )
    first = next(iter(drawn.values()))
    text = (
        f"AUROC of a linear probe on mean states of an answer's aligned positions, prompts held out by cluster; ½ is chance. "
        f"Tried: {tried}. {counted(first, 'prompts')}; bands: {WITHIN}. Dotted: labels shuffled before fitting (band: 95 % of 50 "
        f"shuffles). What can be decoded need not be used."
    )
    alt = "Whether a linear probe finds the context. " + " ".join(
        f"{question}: {ends_words(each, list(each['arm'].unique()))}" for question, each in drawn.items()
    )
    return panels(drawn, CONTROLS, text, alt, line=0.5, at_most=dict.fromkeys(drawn, (-0.02, 1.05)))
