"""Progress bars: over items, and for captures with tokens per second and the time that is left.

In a notebook they are one line at the end: what rich draws there is a new line for every refresh.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn, track
from rich.text import Text

Item = TypeVar("Item")


def plain_console() -> Console:
    in_notebook = Console().is_jupyter
    return Console(force_jupyter=False, force_terminal=False if in_notebook else None)


def tracked(items: Sequence[Item], description: str) -> Iterator[Item]:
    """The items, with a bar if there are any."""
    if items:
        yield from track(items, description, console=plain_console())


class TokensPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("– tok/s" if speed is None else f"{speed:,.0f} tok/s")


@contextmanager
def tokens_progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Gives a function that opens a bar by its description and returns ``update(done, total)`` in tokens."""
    columns = (TextColumn("{task.description}"), BarColumn(), TokensPerSecond(), TimeRemainingColumn())
    with Progress(*columns, console=plain_console(), speed_estimate_period=120) as progress:

        def bar(description: str) -> Callable[[int, int], None]:
            task = progress.add_task(description, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
