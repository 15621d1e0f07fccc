"""What a report is made of, before it is HTML or Markdown: sections of texts, figures, tables, pairs of answers.

Mental model: ``sections.py`` says *what* stands in a report, ``page.py`` and ``appendix.py`` say how it looks. A part holds plain
text only; whoever writes it into a page escapes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go


@dataclass(frozen=True)
class Words:
    """A paragraph. ``kind``: ``plain``, ``lead`` (what a section says first) or ``note`` (small)."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """A question, a word that answers it (``yes``, ``partly``, ``no``, ``open``), a sentence, and the numbers behind it."""

    question: str
    verdict: str
    sentence: str
    numbers: Sequence[str]


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption and alternative text, which it carries itself; never drawn narrower than ``least`` pixels."""

    figure: go.Figure
    least: int = 0


@dataclass(frozen=True)
class Numbers:
    """A table of texts; the first ``heads`` columns name the row, the others are aligned to the right."""

    table: pd.DataFrame
    note: str = ""
    heads: int = 1


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers to one prompt, rows of :func:`~cr_interp.tables.example_pairs.paired`; ``title`` of each above it.

    ``contexts``: what stood before each prompt, where examples have contexts of their own; else empty."""

    rows: Sequence[Any]
    titles: Sequence[str]
    contexts: Sequence[str] = ()


@dataclass(frozen=True)
class Code:
    """Text as it is, in lines: a command, a context."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Folded:
    """Parts that are read by few: closed on a page, open in print."""

    title: str
    parts: Sequence[Any]


@dataclass(frozen=True)
class Section:
    """A part of the report with its own heading; ``anchor`` is its address in the page."""

    anchor: str
    title: str
    parts: Sequence[Any] = field(default_factory=list)
