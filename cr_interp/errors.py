"""The one exception that is meant for people.

Anything a user can cause (a misspelt key, a context that does not fit, a damaged study) is raised as
:class:`UserError`; its text says what was found, what was expected and what to do. The command line prints
it as one paragraph and exits with code 2; any other exception is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Found / expected / what to do, in one paragraph."""


class NotFinite(UserError):
    """A model gave NaN or infinity where numbers were expected."""


class Slower(UserWarning):
    """A short cut that is not exact for a model, and what is done instead: said once, and the numbers are right."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Make the error for a name that does not exist: it gives the nearest valid one and the list.

    >>> print(unknown("arm", "ncaa", ["opd", "nca"]))
    There is no arm 'ncaa'. Did you mean 'nca'? Valid: nca, opd.
    """
    names = sorted(valid)
    name = name if len(name) <= 160 else f"{name[:160]}…"
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"There is no {kind} '{name}'.{hint} Valid: {', '.join(names)}.")
