"""The head of every page: its title, and one line that says what is shown, with a button that copies the link to it.

Mental model: a page says which of the shared choices it uses (``main.py``), and the line names exactly these, so that a
screenshot of a page says what it is about. In a narrow window, where the menu is hidden, the line leads to the other pages.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from app.queries.state import Selection
from app.words import measure_name

#: Below this width in pixels Streamlit hides the menu.
NARROW = 768
STYLE = f"""<style>
.ct-line {{ display: flex; flex-wrap: wrap; gap: 0.3rem 0.45rem; align-items: center; font-size: 0.9rem; }}
.ct-line span {{ border: 1px solid rgba(128,128,128,0.45); border-radius: 1rem; padding: 0.05rem 0.6rem;
  overflow-wrap: anywhere; }}
.ct-line span b {{ font-weight: 600; }}
.ct-line button {{ font: inherit; color: inherit; background: none; border: 1px solid rgba(128,128,128,0.7);
  border-radius: 1rem; padding: 0.05rem 0.7rem; cursor: pointer; }}
.ct-line button:focus-visible {{ outline: 2px solid currentColor; outline-offset: 2px; }}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {{ color: inherit; }}
[data-testid="stCaptionContainer"] {{ opacity: 0.82; }}
button[data-selected="true"], button[data-selected="true"] * {{ color: inherit !important; }}
input::placeholder, textarea::placeholder {{ color: inherit !important; opacity: 0.75 !important; }}
[data-testid="stMarkdownContainer"] p code,
[data-testid="stCaptionContainer"] p code {{ display: inline-block; max-width: 100%; }}
[data-testid="stCode"] .token {{ color: inherit !important; }}
[data-testid="stMetricDelta"] * {{ color: inherit !important; }}
@media (min-width: {NARROW}px) {{ .st-key-narrow-pages {{ display: none; }} }}
</style>"""
COPY = """<script>
for (const button of document.querySelectorAll('.ct-line button'))
    button.onclick = async () => {
        try { await navigator.clipboard.writeText(location.href); button.textContent = 'Copied' }
        catch { button.textContent = 'Copy it from the address bar' }
        setTimeout(() => { button.textContent = 'Copy link' }, 2000)
    }
</script>"""


def head(title: str, pages: Mapping[str, Any], chosen: Selection | None, parts: Sequence[str]) -> None:
    """Draw the title and the line. ``pages``: the other pages by their titles; ``parts``: the shared choices the page uses."""
    st.title(title, anchor=False)
    st.html(STYLE)
    if chosen is not None and "study" in parts:
        line(said(chosen, parts))
    with st.container(key="narrow-pages"):
        more = st.popover("Pages", icon=":material/menu:", key="pages", on_change="rerun")
        if more.open:
            with more:
                for page in pages.values():
                    st.page_link(page)


def line(words: Sequence[tuple[str, str]]) -> None:
    """Draw the line; a page that is about no single study draws its own."""
    st.html(f"{line_html(words)}{COPY}", unsafe_allow_javascript=True)


def said(chosen: Selection, parts: Sequence[str]) -> list[tuple[str, str]]:
    """Return what the line says: ``(what, of which value)``, of those choices only that the page uses."""
    found = [("study", chosen.name)]
    if "pair" in parts and chosen.arm != chosen.baseline:
        found.append(("compared", f"{chosen.arm} with {chosen.baseline}"))
    if "arms" in parts:
        found.append(("arms", ", ".join(chosen.arms)))
    if "control" in parts:
        found.append(("context", chosen.control))
    if "measure" in parts:
        found.append(("measure", measure_name(chosen.measure)))
    if "seeds" in parts and chosen.seeds:
        several = len(chosen.seeds) > 1
        found.append(("seeds" if several else "seed", ", ".join(map(str, chosen.seeds))))
    if "sinks" in parts and chosen.sinks:
        found.append(("with", "attention sinks"))
    return found


def line_html(words: Sequence[tuple[str, str]]) -> str:
    """Write the line as HTML; names come from files, so everything is escaped."""
    chips = "".join(f"<span>{escape(what)} <b>{escape(value)}</b></span>" for what, value in words)
    return f"<div class='ct-line'>{chips}<button type='button'>Copy link</button></div>"


def browser_title(title: str, chosen: Selection | None) -> str:
    """Title the browser's tab: which page, of which study."""
    return f"{title} · {chosen.name} · cr_interp" if chosen is not None else f"{title} · cr_interp"
