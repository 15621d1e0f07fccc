"""The one list of analyses: what is computed from a checkpoint and stored as a table of a study.

Mental model. A study is a set of analyses of its checkpoints. An :class:`Analysis` names its table and that table's columns,
what it must be given, and the function that yields the rows. Whoever needs to know goes through :data:`ANALYSES`: the
pipelines, ``cr-interp evaluate``, ``capture`` and ``explain``, the check of a table that is read, what a page says when a table
is missing, and the schema in the documentation. To add one, write the function in a file of its own and an entry here.

    own        a checkpoint, its own answers and its teacher             cr_interp.measure.divergence.Own
    readings   a checkpoint's states in every view, on its responses     cr_interp.measure.readings.Readings
    answers    a checkpoint's answers without and with the context       cr_interp.mechanism.given.Answers
    weights    the files of a checkpoint and of its base                 cr_interp.mechanism.given.Weights
    material   a checkpoint, its base and teacher, on other prompts      cr_interp.mechanism.material.Material

Functions are named by their address and imported when first called, so this list loads no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import pandas as pd

from cr_interp.errors import unknown

Needs = Literal["own", "readings", "answers", "weights", "material"]
#: The command that gives what an analysis needs.
COMMANDS: dict[Needs, str] = {
    "own": "evaluate",
    "readings": "capture",
    "answers": "explain",
    "weights": "explain",
    "material": "explain",
}
#: Columns that say which checkpoint a row is of; whoever stores the rows puts them in front.
CHECKPOINT = ("arm", "seed", "step")


@dataclass(frozen=True)
class Analysis:
    """One analysis of a checkpoint."""

    name: str
    """As on the command line."""
    table: str
    about: str
    """What a row is, in a phrase that follows "a row per"."""
    columns: tuple[str, ...]
    """Of the table at least, without those of :data:`CHECKPOINT`."""
    needs: Needs
    rows: str
    """``module:function``, which takes what :attr:`needs` names and returns tables: name → rows. The analysis's own table
    comes last: its rows say that a checkpoint is done."""
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further tables that it fills: name → columns."""
    tells: Mapping[str, str] = field(default_factory=dict)
    """What a row of each further table is, in a sentence, for the documentation."""
    options: tuple[str, ...] = ()
    """Which of ``cr_interp.mechanism.given.Options`` decide its rows, beside those that choose the answers."""
    rules: Mapping[str, str] = field(default_factory=dict)
    """What else decides its rows, in words: name → rule. Rows that were made by another rule are not mixed with its own."""
    last_step: bool = False
    """Only of a run's last checkpoint, as the rows are many."""
    along: bool = False
    """Of ``explain``: also of the checkpoints that a run keeps on its way, if these are asked for."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What its columns hold, for the documentation: those whose names no other table has."""

    @property
    def command(self) -> str:
        """The command of ``cr-interp`` that fills the table."""
        return COMMANDS[self.needs]

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:
        """Every table that it fills: name → columns, those that name the checkpoint among them."""
        every = {**self.beside, self.table: self.columns}
        return {name: (*CHECKPOINT, *columns) for name, columns in every.items()}

    def compute(self, given: Any) -> dict[str, pd.DataFrame]:
        """Compute the rows of every table, from what :attr:`needs` names."""
        module, _, function = self.rows.partition(":")
        found: dict[str, pd.DataFrame] = getattr(import_module(module), function)(given)
        return found


#: Whose state the control "another example's state" takes.
_PARTNERS = {
    "partners": "of all answers: another token where the views part first, then another answer, then the same group"
}
_DRIFT = ("site", "layer", "measure", "control", "estimate", "low", "high", "n_tokens", "n_examples")
_MOVED = ("group", "action", "vector", "site", "layer", "control")
_UPDATED = ("module", "layer", "measure", "control", "estimate", "low", "high", "n_weights")
_PATCHED = ("group", "direction", "site", "layer", "control")
_CUT = ("group", "span", "readers", "layer", "width", "control")

#: In the order in which they are stored. ``drift`` is the last of the readings: where it has rows, a checkpoint is measured.
ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        "divergence", "divergence", "example and context control",
        ("example_id", "cluster", "control", "n_tokens", "fidelity", "invariance"), "own",
        "cr_interp.measure.divergence:rows",
    ),
    Analysis(
        "tokens", "token_drift", "token of a response and site, under the exact context",
        ("example_id", "position", "token", "site", "layer", "cosine", "relative_l2", "kl"),
        "readings", "cr_interp.measure.readings:token_rows", last_step=True,
    ),
    Analysis(
        "maps", "cka_map", "map and pair of layers", ("map", "layer_x", "layer_y", "cka", "n_tokens"),
        "readings", "cr_interp.measure.readings:map_rows", last_step=True,
    ),
    Analysis(
        "drift", "drift", "site, layer, measure and control", _DRIFT, "readings",
        "cr_interp.measure.readings:drift_rows", beside={"drift_with_sinks": _DRIFT},
        tells={"drift_with_sinks": "As `drift`, with attention sinks, where that leaves some out."},
    ),
    Analysis(
        "patching", "patching", "group of answers, direction, site, layer, control and read-out",
        (*_PATCHED, "readout", "estimate", "low", "high", "n_examples"),
        "answers", "cr_interp.mechanism.patching:rows",
        beside={
            "patching_examples": (
                "example_id", "cluster", *_PATCHED, "received", "given", "patched", "before", "answer",
            )
        },
        tells={"patching_examples": "A row per example and patch, from which `patching` is made."},
        options=("sites",), rules=_PARTNERS,
    ),
    Analysis(
        "windows", "patching_windows", "group of answers, direction, site, window (first `layer`, `width`), control and read-out",
        (*_PATCHED, "width", "readout", "estimate", "low", "high", "n_examples"),
        "answers", "cr_interp.mechanism.patching:window_rows",
        beside={
            "patching_windows_examples": (
                "example_id", "cluster", *_PATCHED, "width", "received", "given", "patched", "before", "answer",
            )
        },
        tells={"patching_windows_examples": "A row per example and patch, from which `patching_windows` is made."},
        options=("sites", "windows"), rules=_PARTNERS,
    ),
    Analysis(
        "attribution", "attribution",
        "group of answers, direction, site, layer, `head` and control: the share of `patching`, to first order",
        (*_PATCHED, "head", "readout", "estimate", "low", "high", "n_examples"),
        "answers", "cr_interp.mechanism.attribution:rows",
        beside={
            "attribution_examples": ("example_id", "cluster", *_PATCHED, "head", "received", "given", "patched"),
        },
        tells={
            "attribution_examples": "A row per example and cell, from which `attribution` is made; `patched` is what is "
            "estimated."
        },
        options=("sites", "heads"), rules=_PARTNERS,
    ),
    Analysis(
        "heads", "patching_heads",
        "group of answers, direction, layer, `head`, control and read-out: heads that attribution names, and some drawn",
        (*_PATCHED, "head", "chosen", "readout", "estimate", "low", "high", "n_examples"),
        "answers", "cr_interp.mechanism.heads:rows",
        beside={
            "patching_heads_examples": (
                "example_id", "cluster", *_PATCHED, "head", "chosen", "received", "given", "patched", "before", "answer",
            )
        },
        tells={"patching_heads_examples": "A row per example and patch, from which `patching_heads` is made."},
        options=("heads",), rules=_PARTNERS,
    ),
    Analysis(
        "knockout", "knockout", "group of answers, span of the context, readers, window of layers, control and read-out",
        (*_CUT, "readout", "estimate", "low", "high", "n_examples", "cut"),
        "answers", "cr_interp.mechanism.knockout:rows",
        beside={
            "knockout_examples": ("example_id", "cluster", *_CUT, "cut", "received", "given", "patched", "before", "answer"),
            "attention": (
                "group", "view", "span", "layer", "head", "control", "estimate", "low", "high", "n_examples",
            ),
        },
        tells={
            "knockout_examples": "A row per example and cut, from which `knockout` is made.",
            "attention": "A row per group of answers, view, span, layer and head: the mean attention of the aligned positions. "
            "Control `even`: what even attention to all tokens would give.",
        },
        options=("spans", "readers", "cuts", "cuts_all"),
    ),
    Analysis(
        "lens", "lens", "group of answers, view, layer, token, control and read-out",
        ("group", "view", "site", "layer", "token", "control", "readout", "estimate", "low", "high", "n_examples"),
        "answers", "cr_interp.mechanism.lens:rows",
        beside={
            "lens_examples": (
                "example_id", "cluster", "group", "position", "parts", "view", "site", "layer", "control", "token", "other",
                "logprob", "rank", "other_logprob", "other_rank", "top", "kl",
            )
        },
        tells={
            "lens_examples": "A row per token of an answer, layer and view (every token of some examples, of the others where "
            "the answers part), from which `lens` is made."
        },
        rules=_PARTNERS,
    ),
    Analysis(
        "updates", "updates", "module, layer and measure", _UPDATED, "weights", "cr_interp.mechanism.updates:rows",
        beside={"update_overlaps": ("other_arm", "other_seed", *_UPDATED)}, along=True,
        tells={"update_overlaps": "A row per module, layer, measure and other run: how alike two runs' updates are."},
    ),
    Analysis(
        "directions", "directions", "site, layer, measure and control",
        ("site", "layer", "measure", "control", "estimate", "low", "high", "n_examples"),
        "material", "cr_interp.mechanism.directions:rows", options=("groups",),
        beside={
            "direction_examples": ("example_id", "cluster", *_MOVED, "received", "given", "patched", "before", "answer"),
            "direction_effects": (*_MOVED, "readout", "estimate", "low", "high", "n_examples"),
        },
        tells={
            "direction_examples": "A row per example and direction, from which `direction_effects` is made.",
            "direction_effects": "A row per group, action, vector, layer, control and read-out: what a direction does to the "
            "answers.",
        },
    ),
    Analysis(
        "gradients", "gradients", "module, layer, pair of terms and measure",
        ("module", "layer", "term", "other_term", "measure", "control", "estimate", "low", "high", "n_examples"),
        "material", "training.run.gradients:rows", along=True,
    ),
    Analysis(
        "probes", "probes", "site, layer, question, pair of contexts and control",
        ("site", "layer", "question", "tested", "control", "estimate", "low", "high", "n_examples"),
        "material", "cr_interp.mechanism.probes:rows",
    ),
)  # fmt: skip


def analyses(command: str | None = None, names: Sequence[str] | None = None) -> list[Analysis]:
    """Return the analyses of a command (all if none is named), or of these those with ``names``.

    Raises :class:`~cr_interp.errors.UserError` for a name that the command does not know.
    """
    found = {each.name: each for each in ANALYSES if command is None or each.command == command}
    for name in names or ():
        if name not in found:
            raise unknown("analysis", name, found)
    return [each for name, each in found.items() if not names or name in names]


def analysis_of(table: str) -> Analysis | None:
    """Return the analysis that fills a table; None for ``generations``, which is what all others read."""
    return next((each for each in ANALYSES if table in each.tables), None)


def command_for(table: str) -> str:
    """Return the command that fills a table.

    >>> command_for("generations"), command_for("divergence"), command_for("cka_map"), command_for("patching")
    ('evaluate', 'evaluate', 'capture', 'explain')
    """
    found = analysis_of(table)
    return "evaluate" if found is None else found.command


def fill(study: Any, chosen: Iterable[Analysis], given: Any, **columns: Any) -> None:
    """Compute analyses of one checkpoint and store them; ``columns`` (``arm``, ``seed``, ``step``, …) go in front of the rows.

    Earlier rows of the checkpoint are replaced, or removed where there are none this time.
    """
    for analysis in chosen:
        for table, rows in analysis.compute(given).items():
            if len(rows):
                study.put(table, pd.concat([_front(columns, rows), rows], axis=1))
            else:  # earlier rows would be those of another measurement
                study.drop(table, pd.DataFrame([columns]))


def _front(columns: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: [value] * len(rows) for name, value in columns.items()}, index=rows.index)
