"""What a first page loads: SciPy's statistics take as long as drawing the page, and none of it shows."""

import subprocess
import sys

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
