"""The button that saves a study's report: the file that ``cr-interp report`` writes, made when it is pressed."""

import streamlit as st

from cr_interp.report.sending import report_text
from cr_interp.study.study import Study


def report_button(study: Study, key: str = "report") -> None:
    """Draw the button; what it saves needs no network and no package to be opened."""
    st.download_button(
        "Report (HTML)",
        lambda: report_text(study),
        f"{study.name}-report.html",
        "text/html",
        key=key,
        icon=":material/description:",
        on_click="ignore",
        help="One file to keep or to send: the verdict with its limits, figures, answers that flip, where it comes from.",
    )
