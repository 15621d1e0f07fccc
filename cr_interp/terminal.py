"""The terminal that commands print to. Names and answers may hold anything; a terminal is never made to act on it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from cr_interp.names import printable


class PlainConsole(Console):
    """rich's console, with control characters in what is printed written out; its own colours stay."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
