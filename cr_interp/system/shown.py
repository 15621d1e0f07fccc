"""Names and texts that others chose, shown as they are: one place for every terminal, table, bar, error and Markdown.

Mental model. An arm, a folder or a response may hold anything: ``opd[a]`` is markup for rich, ``\\x1b[2J`` clears a screen,
``\\u202e`` turns a line around, a folder's undecodable byte cannot be printed at all. So nothing here reads markup (styles are
given as styles), and characters that act instead of being seen are written out, as Python would write them.

    console()            where every command prints to; no markup, no control characters
    PlainTable           a rich table whose cells are texts, whatever console prints it

Text without rich: ``visible.py``.
"""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cr_interp.system.visible import ACTING, visible


def literal(text: object, style: str = "") -> Text:
    """Make a text that rich shows as it is, in a style."""
    return Text(visible(text), style=style)


class PlainTable(Table):
    """A table that takes every text as it is; what should have a style is given as :class:`rich.text.Text`."""

    def __init__(self, title: object = None, caption: object = None, **options: Any) -> None:
        super().__init__(
            title=None if title is None else literal(title, "table.title"),
            caption=None if caption is None else literal(caption, "table.caption"),
            **{"box": SIMPLE_HEAD, **options},
        )

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        super().add_column(_as_text(header), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_as_text, cells), **options)


class _PlainConsole(Console):
    """Reads no markup in any text, and lets no acting character through, wherever it was put."""

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(
            visible(text), **{**options, "markup": False, "emoji": False, "highlight": False}
        )

    def render(self, renderable: RenderableType, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and ACTING.search(segment.text):
                segment = Segment(visible(segment.text), segment.style)
            yield segment


def console(**options: Any) -> Console:
    """Make a terminal to print to; in a notebook rich's own display is left out, which is a new line for every refresh."""
    if Console().is_jupyter:
        options = {"force_terminal": False, **options}
    return _PlainConsole(markup=False, emoji=False, highlight=False, force_jupyter=False, **options)


def _as_text(cell: Any) -> Any:
    return literal(cell) if isinstance(cell, str) else cell
