"""What a reader chooses, kept in the URL: :func:`linked` says what is chosen, :func:`publish` writes it down.

Mental model: ``main.py`` calls :func:`begin` with the page, the sidebar and the page ask for each of their choices and draw
the widgets, ``main.py`` calls :func:`publish`. A choice has a *key*, which is its widget's and belongs to one page or to the
sidebar. It also has a *name* in the URL, which pages may share: a link to another page says ``layer=3``, and every page that
has layers understands it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class _Kept:
    """A choice as it was in the last run, what the URL said of it (nothing if it was the default), and its name there."""

    value: Any
    text: str | tuple[str, ...] | None
    name: str
    options: tuple[Any, ...] = ()


@overload
def linked(key: str, options: Sequence[T], default: None, always: bool = False, name: str = "") -> T | None: ...
@overload
def linked(key: str, options: Sequence[T], default: T, always: bool = False, name: str = "") -> T: ...
def linked(key: str, options: Sequence[T], default: T | None, always: bool = False, name: str = "") -> T | None:
    """Return what ``key`` is set to, kept in step between its widget, the URL and the pages visited before.

    Call it before the widget ``key`` is drawn; :func:`publish` then writes the URL, under ``name`` (the key, if none is
    given). Streamlit's own binding fails where the default depends on the data: a choice that nobody made would stay when its
    default changes, and the URL, which leaves defaults out, would not show it. Here what the URL leaves out is the default as
    it is now. A value in the URL that is no option is ignored, and one that happens to be the default stays.

    A choice whose widget is not drawn on this page is kept likewise. With the default None nothing need be chosen; ``always``
    puts the default into the URL too.
    """
    name = name or key
    kept: dict[str, _Kept] = st.session_state.setdefault("kept", {})
    before = kept.get(key)
    asked = st.query_params.get(name)
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
    _set(key, value, st.session_state.get(key) == value)
    said = str(value)
    text = None if value is None or (value == default and not always and asked != said) else said
    kept[key] = _Kept(value, text, name)
    st.session_state.setdefault("linked", set()).add(key)
    return value


def linked_some(key: str, options: Sequence[T], default: Sequence[T] | None = None) -> list[T]:
    """Do as :func:`linked` for a choice of several: at first ``default`` (all ``options``, if none is given), as no URL says.

    Taken along to another study, what was all is all again, and so is what that study has none of: otherwise the arms or
    seeds that both happen to have would be a choice that nobody made.
    """
    kept: dict[str, _Kept] = st.session_state.setdefault("kept", {})
    before = kept.get(key)
    asked = tuple(st.query_params.get_all(key))
    by_text = {str(option): option for option in options}
    first = list(options if default is None else default)
    own = st.session_state.get(key, before.value if before else first)
    named = [by_text[text] for text in asked if text in by_text]
    if (named or asked == ("",)) and (before is None or asked != before.text):
        chosen = named
    elif _went_back() and not asked:
        chosen = first
    elif before is not None and before.options != tuple(options):
        chosen = [option for option in options if option in own]
        if set(own) >= set(before.options) or not chosen:
            chosen = first
    else:
        chosen = [option for option in options if option in own]
    _set(key, chosen, sorted(map(str, own)) == sorted(map(str, chosen)))
    text = None if set(chosen) == set(first) else tuple(map(str, chosen)) or ("",)
    kept[key] = _Kept(chosen, text, key, tuple(options))
    st.session_state.setdefault("linked", set()).add(key)
    return chosen


def linked_text(key: str, name: str = "") -> str:
    """Do as :func:`linked` for a text that a reader types; at first empty, which the URL leaves out."""
    name = name or key
    kept: dict[str, _Kept] = st.session_state.setdefault("kept", {})
    before = kept.get(key)
    asked = st.query_params.get(name)
    value = str(st.session_state.get(key, before.value if before else ""))
    if asked is not None and (before is None or asked != before.text):
        value = asked
    elif _went_back() and asked is None:
        value = ""
    _set(key, value, st.session_state.get(key) == value)
    kept[key] = _Kept(value, value or None, name)
    st.session_state.setdefault("linked", set()).add(key)
    return value


def _set(key: str, value: Any, same: bool) -> None:
    """Give the widget its value. On a page's first run always: a widget that another page drew under this key may have had the
    same value, and the new one would start with its own default."""
    if key not in st.session_state or not same or st.session_state.get("page is new"):
        st.session_state[key] = value


def begin(page: str) -> None:
    """Begin a run of a page: no choice has been made yet."""
    st.session_state["linked"] = set()
    st.session_state["page is new"] = st.session_state.get("page before") != page
    st.session_state["page before"] = page


def chosen_of(*keys: str) -> dict[str, list[str]]:
    """Return what the URL says of these choices, for a link that takes them along; without those at their default."""
    kept: dict[str, _Kept] = st.session_state.get("kept", {})
    found = {kept[key].name: kept[key].text for key in keys if key in kept}
    return {name: [text] if isinstance(text, str) else list(text) for name, text in found.items() if text}


def publish() -> None:
    """Write to the URL what the choices of this run are, all at once: each time is a step of the browser's history."""
    kept: dict[str, _Kept] = st.session_state.get("kept", {})
    wanted = {kept[key].name: kept[key].text for key in st.session_state.get("linked", ())}
    for name, text in wanted.items():
        if text is None and name in st.query_params:
            del st.query_params[name]
    changed = {name: text for name, text in wanted.items() if text is not None and _said(name) != text}
    if changed:
        st.query_params.update(changed)


def _said(name: str) -> str | tuple[str, ...] | None:
    found = tuple(st.query_params.get_all(name))
    kept: dict[str, _Kept] = st.session_state.get("kept", {})
    several = name in kept and isinstance(kept[name].text, tuple)
    return found if several else (found[-1] if found else None)


def _went_back() -> bool:
    """Tell whether this run answers the browser's back or forward button."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))
