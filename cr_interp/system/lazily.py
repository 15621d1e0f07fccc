"""Let a package name what is public in it without importing it: torch is loaded by whoever needs it.

Mental model: a package's ``__init__`` maps each public name to the module that has it; the first use imports that module.

    __getattr__, __dir__, __all__ = lazily(__name__, {"load": "loading", "fingerprint": "loading"})
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose ``names`` map a name to its module.

    A module without a dot lies inside the package; one with dots is a whole address.
    """
    public = sorted(names)

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        where = names[name]
        return getattr(import_module(where if "." in where else f"{package}.{where}"), name)

    return get, lambda: public, public
