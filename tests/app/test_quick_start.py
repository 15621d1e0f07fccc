"""What a first page loads: SciPy's statistics take as long as drawing the page, and none of it shows."""

import subprocess
import sys

import pytest
import streamlit as st

from app.queries import state
from cr_interp.study.study import Study

#: What the app imports before it draws, but for Streamlit itself.
LOADED = """
import pkgutil, sys
from importlib import import_module
import cr_interp.figures, cr_interp.report, cr_interp.tables
for package in (cr_interp.figures, cr_interp.report, cr_interp.tables):
    for each in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{each.name}")
print([name for name in ("scipy.stats", "scipy.special", "torch") if name in sys.modules])
"""


def test_looking_at_stored_answers_loads_no_statistics():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_can_be_chosen_is_known_without_reading_the_tables_again(good, monkeypatch):
    """A server that has just started: only what the page shows is read, not what names its arms, seeds and measures."""
    study = Study.open(good)
    asked = (state.arms_of, state.seeds_of, state.controls_of, state.measures_of)
    first = [ask(study) for ask in asked]
    assert first[0] == ["base", "opd", "nca"]
    assert first[1] == [0, 1, 2]
    st.cache_resource.clear()
    monkeypatch.setattr(Study, "table", lambda *_: pytest.fail("a table was read"))
    assert [ask(study) for ask in asked] == first
