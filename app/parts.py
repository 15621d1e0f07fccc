"""Pieces that pages are built from: a figure with its caption and downloads, a section that may fail alone."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.words import plain
from cr_interp import figures
from cr_interp.errors import UserError


@contextmanager
def guard(what: str) -> Iterator[None]:
    """A table that is missing or damaged costs its own section, never the page."""
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


def show_figure(figure: go.Figure, name: str, table: pd.DataFrame, image: str = "svg") -> None:
    """Draw a figure with its caption below; ``name`` is unique on the page and names the downloads."""
    st.plotly_chart(
        figure,
        key=f"figure-{name}",
        alt=figures.alt_text(figure),
        config={
            "displaylogo": False,
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
            "toImageButtonOptions": {"format": image, "filename": name, "scale": 2},
        },
    )
    with below(figures.caption(figure)):
        download_table(table, name)
        st.download_button(
            "Figure, interactive (HTML)", lambda: figures.to_page(figure), f"{name}.html", "text/html",
            key=f"html-{name}", on_click="ignore", width="stretch",
        )  # fmt: skip
        st.caption(f"{image.upper()}: the camera at the figure's top right.")


def below(text: str) -> DeltaGenerator:
    """A caption, and at its right the popover for downloads, which is returned."""
    left, right = st.columns([6, 1])
    left.caption(plain(text))
    return right.popover("Save", icon=":material/download:", type="tertiary", width="stretch")


def download_table(table: pd.DataFrame, name: str) -> None:
    """A button for the numbers behind a figure or table."""
    st.download_button(
        "Numbers (CSV)", lambda: table.to_csv(index=False), f"{name}.csv", "text/csv", key=f"csv-{name}",
        on_click="ignore", width="stretch",
    )  # fmt: skip
