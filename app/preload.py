"""Let the browser load what draws figures while the server is still reading tables.

Streamlit's page asks for its Plotly, five megabytes of script, when the first figure arrives. On a first visit that is
after everything else; asked for at once, it is there by then. The same element says what a page may load (``policy.py``). Nothing
else is imported here, so that this is quick.
"""

from pathlib import Path

import streamlit as st

from app.policy import SCRIPT

#: Streamlit's own chunk, whose name changes with its version; without it, figures come a little later as they always did.
CHUNKS = sorted((Path(st.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js"))


def preload() -> None:
    """Draw an invisible element that asks for the chunk. It is there in every run, so that nothing below it moves up."""
    load = (
        f"import(new URL('{CHUNKS[-1].name}', document.querySelector('script[type=module][src]').src))"
        if CHUNKS
        else ""
    )
    with st.sidebar.container(key="preload"):
        st.html(
            f"<style>.st-key-preload {{display: none}}</style><script>{SCRIPT}\n{load}</script>",
            unsafe_allow_javascript=True,
        )
