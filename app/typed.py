"""A text that a reader types: it stays while pages change, and makes room when what it was typed over changes."""

import streamlit as st


def typed(key: str, default: str) -> str:
    """Return what the text ``key`` is now; call it before its widget is drawn.

    Another default (the next example, another study) replaces what was typed over the one before.
    """
    kept: dict[str, tuple[str, str]] = st.session_state.setdefault("typed", {})
    over, before = kept.get(key, (None, default))
    text = str(st.session_state.get(key, before)) if over == default else default
    if key not in st.session_state or st.session_state[key] != text:
        st.session_state[key] = text
    kept[key] = (default, text)
    return text


def put_back(key: str, default: str) -> None:
    """Drop what was typed: for a button."""
    st.session_state[key] = default
