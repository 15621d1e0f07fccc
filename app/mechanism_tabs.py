"""The tabs of the page Mechanism: which table each is made of, and what it says.

Mental model: a tab is a table of ``cr-interp explain`` and a figure function of it. Where the table is missing, the tab says
what it would answer and the command that fills it. :data:`TABS` is the one list; *Where it is decided* has a screen of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tab:
    """One tab."""

    title: str
    table: str
    """That it is drawn from; the study may lack it."""
    asks: str
    """The question that it answers, as a sentence."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """Subheading → the function of :mod:`cr_interp.figures` that draws it from the table."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Column whose values can be chosen → the argument of the function that it becomes."""


TABS: dict[str, Tab] = {
    "decided": Tab(
        "Where it is decided", "patching",
        "At which layer and site does the state without the context, put into the run with it, bring the right answer back?",
    ),
}  # fmt: skip


def drawn(tab: Tab, name: str) -> Any:
    """The figure function of that name."""
    from cr_interp import figures

    return getattr(figures, name)
