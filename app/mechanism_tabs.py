"""The tabs of the page Mechanism: which table each is made of, what it asks, and what draws it.

Mental model: a tab is a table of ``cr-interp explain`` and the figure functions of it. Where the table is missing, the tab says
what it would answer and the command that fills it. :data:`TABS` is the one list; *Where it is decided* has a screen of its
own, and *Does drift matter?* is made of what every study has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cr_interp.study.analyses import analysis_of


@dataclass(frozen=True)
class Tab:
    """One tab."""

    title: str
    table: str
    """That it is drawn from; the study may lack it."""
    asks: str
    """The question that it answers, as a sentence."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """Subheading → ``module:function`` that draws it from the table."""
    choices: tuple[str, ...] = ()
    """Columns of which one value is shown, each an argument under its own name of those functions that have it."""
    without: tuple[str, ...] = ()
    """Values that are not among the choices: they are drawn with every one of them."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Argument of the functions → a further table that they draw, if the study has it."""


TABS: dict[str, Tab] = {
    "decided": Tab(
        "Where it is decided", "patching",
        "At which layer and site does the state without the context, put into the run with it, bring the right answer back?",
    ),
    "flips": Tab(
        "Does drift matter?", "token_drift",
        "Do the examples whose states move farther have the answers that flip? An AUROC of one half says: no.",
        {"Drift and flips": "cr_interp.figures.flips:flips"},
    ),
    "windows": Tab(
        "Windows", "patching_windows",
        "What do several layers at once recover, where none of them does alone?",
        {"Several layers at once": "cr_interp.figures.heads:window_map"}, ("site", "group", "direction", "readout"),
        beside={"patching": "patching"},
    ),
    "heads": Tab(
        "Heads", "attribution",
        "Which attention heads carry it? All are attributed to first order; the strongest are then exchanged one by one.",
        {"Attributed, and exchanged": "cr_interp.figures.heads:head_map"}, ("group", "direction"),
        beside={"heads": "patching_heads"},
    ),
    "knockout": Tab(
        "Cutting the context", "knockout",
        "If the answer may no longer attend to the context, in which layers does it have to be cut for the answer to come back?",
        {"What is recovered when attention is cut": "cr_interp.figures.why:knockout_curves"}, ("group", "readout", "readers"),
    ),
    "attention": Tab(
        "Attention", "attention",
        "How much of its attention does the answer give to each part of what stands before it?",
        {
            "Attention by layer": "cr_interp.figures.why:attention_map",
            "Attention by head": "cr_interp.figures.why:attention_heads",
        },
        ("arm", "group", "span", "view"),
    ),
    "lens": Tab(
        "Lens", "lens",
        "Read through the model's own head, at which layer does the right answer lead in one view and lose in the other?",
        {"The right and the wrong token by layer": "cr_interp.figures.why:lens_curves"}, ("group", "readout"), ("kl",),
    ),
    "directions": Tab(
        "Directions", "directions",
        "Does training move states as the context does, so that the returning context is a second dose?",
        {"Directions by layer": "cr_interp.figures.directions:directions"}, ("measure",),
    ),
    "doses": Tab(
        "Double dose", "direction_effects",
        "What happens to answers if the context's direction is taken out of the run with it, or put into the run without it?",
        {"Removing and adding the direction": "cr_interp.figures.directions:direction_effects"}, ("group", "action", "readout"),
    ),
    "updates": Tab(
        "Updates", "updates", "Which weights did the training change, and by how much?",
        {"Change of the weights": "cr_interp.figures.updates:updates"}, ("measure",), ("weight_norm",),
    ),
    "overlaps": Tab(
        "Overlaps", "update_overlaps", "Do two arms change the same weights in the same way?",
        {"Overlap of the updates": "cr_interp.figures.updates:overlaps"}, ("measure",),
    ),
    "gradients": Tab(
        "Gradients", "gradients",
        "Do the terms of the loss pull in one direction? Beside each cosine stands that of a term with itself on other examples.",
        {
            "Gradients of two terms": "cr_interp.figures.gradients:gradients",
            "Along training": "cr_interp.figures.gradients:along",
        },
    ),
    "probes": Tab(
        "Probes", "probes", "Is the context still there to be read off the state? What can be decoded need not be used.",
        {"What a linear probe reads": "cr_interp.figures.probes:probes"},
    ),
}  # fmt: skip


def there() -> dict[str, Tab]:
    """Return the tabs whose analysis this version has."""
    return {name: tab for name, tab in TABS.items() if analysis_of(tab.table) is not None}


def drawing(address: str) -> Callable[..., Any] | None:
    """Find the figure function at ``module:function``; None if this version has none."""
    module, _, name = address.partition(":")
    try:
        found: Callable[..., Any] | None = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        return None
    return found
