"""Pieces that pages are built from: a figure with its caption and downloads, a section that may fail alone."""

import shlex
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.queries.state import Selection, Stamp
from app.words import plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import cells
from cr_interp.figures.table_html import table_html
from cr_interp.study.analyses import command_for


@contextmanager
def guard(what: str) -> Iterator[None]:
    """Guard a section: a table that is missing or damaged costs its own section, never the page."""
    try:
        yield
    except UserError as error:
        st.error(plain(error), icon=":material/error:")
    except Exception as error:  # a table can be damaged in ways nobody foresaw
        st.error(
            f"{what} cannot be shown: {plain(type(error).__name__)}. A table of this study does not hold what "
            "was expected; make it again, or choose another study.",
            icon=":material/error:",
        )
        with st.expander("Details for a bug report"):
            st.code("".join(traceback.format_exception_only(error)), language=None, wrap_lines=True)


def show_figure(
    figure: go.Figure | Callable[[], go.Figure],
    name: str,
    table: pd.DataFrame,
    image: str = "svg",
    on_click: Callable[[str, Any, Any], None] | None = None,
    wide: int = 0,
    code: str = "",
    files: Stamp = (),
) -> None:
    """Draw a figure with its caption below; ``name`` is unique on the page and names the downloads.

    ``on_click`` gets the panel, x and y of a cell that is clicked (see :mod:`cr_interp.figures.cells`) before the page runs
    again. ``wide`` pixels is how narrow the figure may get; in a narrower window it scrolls sideways. ``code`` are the
    lines of Python that make the figure (``recipes/``). A figure given as a function is made once and kept, by what
    the code says of it, until one of the ``files`` that it is made from changes.
    """
    clicks = on_click is not None
    figure = _made(files, code, clicks, figure) if callable(figure) else _on_page(figure, clicks)
    key = f"figure-{name}"

    def report() -> None:
        found = cells.clicked(figure, st.session_state[key]["selection"]["points"])
        if found is not None and on_click is not None:
            on_click(*found)

    with st.container(key=f"wide-{name}") if wide else nullcontext():
        if wide:
            within = f".st-key-wide-{name}"
            st.html(
                f"<style>{within} {{overflow-x: auto}} {within} .stPlotlyChart, {within} .stElementContainer:has("
                f".stPlotlyChart), {within} .stElementContainer.st-key-{key} {{min-width: {wide}px}}"
                f"@media (max-width: {wide}px) {{{within}::before {{content: 'The figure scrolls sideways \\2192'; "
                "font-size: 0.82rem}}</style>"
            )
        st.plotly_chart(
            figure,
            key=key,
            alt=figures.alt_text(figure),
            on_select="ignore" if on_click is None else report,
            selection_mode="points",
            config={
                "displaylogo": False,
                "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
                "toImageButtonOptions": {"format": image, "filename": name, "scale": 2},
            },
        )
    with below(figures.caption(figure)):
        download_table(table, name)
        st.download_button(
            "Figure, interactive (HTML)",
            lambda: figures.to_page(figure),
            f"{name}.html",
            "text/html",
            key=f"html-{name}",
            on_click="ignore",
            width="stretch",
        )
        if code:
            st.download_button(
                "Figure, as Python",
                code,
                f"{name}.py",
                "text/x-python",
                key=f"py-{name}",
                on_click="ignore",
                width="stretch",
            )
        st.caption(f"{image.upper()}: the camera at the figure's top right.")
        if code:
            st.code(code, language="python", height=180)


@st.cache_resource(max_entries=256, show_spinner=False)
def _made(files: Stamp, code: str, clicks: bool, _make: Callable[[], go.Figure]) -> go.Figure:
    figure = _on_page(_make(), clicks)
    # Whenever a page runs, Streamlit asks for what the figure is as a dictionary. Plotly copies every list for it: half of a run.
    as_dict = figure.to_dict()
    figure.to_dict = lambda: dict(as_dict)
    return figure


def _on_page(figure: go.Figure, clicks: bool) -> go.Figure:
    """Lay the figure on the page's own background. The camera saves it too: a dark page's light text would stand on nothing."""
    return (reachable(figure) if clicks else figure).update_layout(paper_bgcolor=None)


def clickable(figure: go.Figure) -> go.Figure:
    """Let a click on a named line be reported under its name; what is not clicked does not turn pale."""
    for trace in figure.data:
        if trace.name:
            trace.update(meta={"panel": trace.name}, unselected={"marker": {"opacity": 1}})
    return figure


def reachable(figure: go.Figure) -> go.Figure:
    """Let every line that the pointer finds be clicked too: Streamlit reports markers only, so a line without any would swallow
    the click on what lies near it. The markers are not seen."""
    for trace in figure.data:
        line = trace.type in ("scatter", "scattergl") and "markers" not in (trace.mode or "")
        if line and trace.hoverinfo != "skip" and trace.x is not None and len(trace.x) > 0:
            none = {"marker": {"opacity": 0}}
            trace.update(
                mode="lines+markers",
                marker={"opacity": 0, "maxdisplayed": 1, "size": 6},
                selected=none,
                unselected=none,
            )
            if not isinstance(trace.meta, dict):
                trace.meta = {"panel": trace.name or ""}
    return figure


def show_table(table: pd.DataFrame, says: str, **how: Any) -> None:
    """Draw a table that is only read; ``how`` is what :func:`cr_interp.figures.table_html.table_html` takes. A data frame can be
    sorted and searched, and needs a canvas whose code takes the browser longer than all figures of a page."""
    st.html(table_html(table, says, **how))


def lacks(chosen: Selection, table: str, what: str) -> bool:
    """Tell whether the study lacks a table, as studies made before it was introduced do. Says so, and what to do."""
    if chosen.study.has_table(table):
        return False
    st.info(
        f"**This study has no {what}.** It was made without them, or before they could be measured. On the machine that has its "
        "checkpoints this measures them; or choose another study on the left.",
        icon=":material/grid_off:",
    )
    st.code(f"cr-interp {command_for(table)} {shlex.quote(chosen.name)}", language="bash")
    return True


def below(text: str) -> DeltaGenerator:
    """Draw a caption, and at its right the popover for downloads, which is returned."""
    left, right = st.columns([6, 1])
    left.caption(plain(text))
    return right.popover("Save", icon=":material/download:", type="tertiary", width="stretch")


def download_table(table: pd.DataFrame, name: str) -> None:
    """Draw a button for the numbers behind a figure or table."""
    st.download_button(
        "Numbers (CSV)",
        lambda: table.to_csv(index=False),
        f"{name}.csv",
        "text/csv",
        key=f"csv-{name}",
        on_click="ignore",
        width="stretch",
    )
