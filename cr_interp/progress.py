"""One progress bar for captures: how much is done, tokens per second, and the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class TokensPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("– tok/s" if speed is None else f"{speed:,.0f} tok/s")


@contextmanager
def tokens_progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Gives a function that opens a bar by its description and returns ``update(done, total)`` in tokens."""
    columns = (TextColumn("{task.description}"), BarColumn(), TokensPerSecond(), TimeRemainingColumn())
    with Progress(*columns, speed_estimate_period=120) as progress:

        def bar(description: str) -> Callable[[int, int], None]:
            task = progress.add_task(description, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
