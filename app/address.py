"""What a page lets its reader choose, kept in the URL: :func:`linked` says what is chosen, :func:`publish` writes it down.

Mental model: ``main.py`` calls :func:`begin`, the page asks for each of its choices and draws the widget, ``main.py``
calls :func:`publish`. The sidebar's choices are bound to the URL by Streamlit itself; these are not, see :func:`linked`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class _Kept:
    """What a choice was in the last run, and what the URL said of it: nothing if it was the default."""

    value: Any
    text: str | None


@overload
def linked(key: str, options: Sequence[T], default: None, always: bool = False) -> T | None: ...
@overload
def linked(key: str, options: Sequence[T], default: T, always: bool = False) -> T: ...
def linked(key: str, options: Sequence[T], default: T | None, always: bool = False) -> T | None:
    """What ``key`` is set to, kept in step between its widget, the URL and the pages visited before.

    Call it before the widget ``key`` is drawn; :func:`publish` then writes the URL. Streamlit's own binding does not do
    where the default depends on the data: a choice that nobody made would stay when its default moves on, and the URL,
    which leaves defaults out, would not show it. Here what the URL leaves out is the default as it is now. A value in
    the URL that is no option is ignored, and one that happens to be the default stays.

    With the default None nothing need be chosen; ``always`` puts the default into the URL too.
    """
    kept: dict[str, _Kept] = st.session_state.setdefault("kept", {})
    before = kept.get(key)
    asked = st.query_params.get(key)
    by_text = {str(option): option for option in options}
    own = st.session_state.get(key, before.value if before else default)
    moved = before is None or own != before.value  # by the user, or by a click
    value: T | None = default
    if asked in by_text and (before is None or asked != before.text):
        value = by_text[asked]  # a link, a typed address, or the browser's way back
    elif _went_back() and asked is None:
        value = default
    elif (moved or (before is not None and before.text is not None)) and (own in options or own == default):
        value = own
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
    said = str(value)
    text = None if value is None or (value == default and not always and asked != said) else said
    kept[key] = _Kept(value, text)
    st.session_state.setdefault("linked", set()).add(key)
    return value


def begin() -> None:
    """A run starts: no choice has been made yet."""
    st.session_state["linked"] = set()


def publish() -> None:
    """Write to the URL what the choices of this run are, all at once: each time is a step of the browser's history."""
    kept: dict[str, _Kept] = st.session_state.get("kept", {})
    wanted = {key: kept[key].text for key in st.session_state.get("linked", ())}
    for key, text in wanted.items():
        if text is None and key in st.query_params:
            del st.query_params[key]
    changed = {key: text for key, text in wanted.items() if text is not None and st.query_params.get(key) != text}
    if changed:
        st.query_params.update(changed)


def _went_back() -> bool:
    """Whether this run answers the browser's back or forward button."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))
