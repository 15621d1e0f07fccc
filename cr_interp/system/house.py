"""Where the project's other two packages live: ``training`` and ``app``, at the checkout's root or inside the wheel.

Mental model: a checkout has ``training/`` and ``app/`` beside ``cr_interp/``. A wheel must not take such names in everybody's
site-packages, so there they lie in ``cr_interp/_house/``. :func:`put_first` puts the folder that has them in front of the import
path: a folder of the same name in the working directory is not taken for them.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def house() -> Path:
    """Return the folder that holds ``training`` and ``app``."""
    inside = HERE / "_house"
    return inside if inside.is_dir() else HERE.parent


def put_first() -> None:
    """Make ``import training`` and ``import app`` mean this project's."""
    place = str(house())
    if sys.path[:1] != [place]:
        sys.path.insert(0, place)
