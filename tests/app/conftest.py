"""``synthetic.py`` lies one folder up; pytest puts only a test's own folder on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
