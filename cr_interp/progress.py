"""Progress bars: over items, and for captures with tokens per second and the time that is left.

In a notebook they are one line at the end: what rich draws there is a new line for every refresh.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cr_interp.system.shown import console, literal

Item = TypeVar("Item")


def bars(*columns: ProgressColumn, **options: Any) -> Progress:
    """Make a display of bars. Its columns of text are :class:`Words`."""
    return Progress(*columns, console=console(), **options)


class Words(ProgressColumn):
    """A column of text in which nothing is markup: names of arms and of models are shown as they are."""

    def __init__(self, field: str = "{task.description}") -> None:
        super().__init__()
        self.field = field

    def render(self, task: Task) -> Text:
        return literal(self.field.format(task=task))


def tracked(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yield the items, with a bar if there are any."""
    if items:
        with bars(Words(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) as progress:
            yield from progress.track(items, description=description)


class TokensPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("– tok/s" if speed is None else f"{speed:,.0f} tok/s")


@contextmanager
def tokens_progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Give a function that opens a bar by its description and returns ``update(done, total)`` in tokens."""
    columns = (Words(), BarColumn(), TokensPerSecond(), TimeRemainingColumn())
    with bars(*columns, speed_estimate_period=120) as progress:

        def bar(description: str) -> Callable[[int, int], None]:
            task = progress.add_task(description, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
