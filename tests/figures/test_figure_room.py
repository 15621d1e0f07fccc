"""Figures leave room for their labels and titles without Plotly having to draw them twice."""

import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from cr_interp.figures.style import finish


def margins(figure: go.Figure) -> tuple[float, float]:
    finished = finish(figure, "caption", "alt", height=300)
    assert not any(axis.automargin for axis in (*finished.select_xaxes(), *finished.select_yaxes()))
    return finished.layout.margin.l, finished.layout.margin.b


def test_longer_names_and_titles_take_more_room():
    plain = go.Figure(go.Scatter(x=[0, 1], y=[0, 1]))
    named = go.Figure(plain).update_yaxes(tickvals=[0, 1], ticktext=["a", "codebook-gpt-neox"])
    titled = go.Figure(plain).update_yaxes(title="a title").update_xaxes(title="another")
    left, below = margins(plain)
    assert margins(named)[0] >= left + 6 * (len("codebook-gpt-neox") - 5)
    assert margins(titled)[0] > left
    assert margins(titled)[1] > below


def test_mark_up_takes_no_room_and_entities_take_a_letter():
    of = {}
    for text in ("<b>name</b>", "name", "n&amp;me"):
        of[text] = margins(go.Figure(go.Scatter(y=[0])).update_yaxes(tickvals=[0], ticktext=[text]))
    assert len(set(of.values())) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_only_axes_at_the_edge_count(shared):
    """The inner axes' labels stand between the panels, whose distance is the figure's own matter."""
    figure = make_subplots(1, 2, shared_yaxes=shared)
    for column in (1, 2):
        figure.add_scatter(y=[0, 1], row=1, col=column)
    left, _ = margins(go.Figure(figure))
    figure.update_yaxes(tickvals=[0], ticktext=["a very long name of a panel"], row=1, col=2)
    assert margins(figure)[0] == left
