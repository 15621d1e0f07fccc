"""The task of a configuration, which may shorten the task's responses, and its training examples. No torch."""

import dataclasses
from itertools import count

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example, TakesTurns, Task
from training.settings import StudyConfig


def study_task(config: StudyConfig) -> Task:
    """Return the task, with the configuration's response length. A Python file is executed: whoever gave the configuration
    named it.

    Raises :class:`UserError` for an unknown task, a length that the task cannot take, or turns that it does not have.
    """
    task = get_task(config.task, run_code=True)
    turns = task.max_turns if isinstance(task, TakesTurns) else 1
    if config.max_turns != turns:
        raise UserError(
            f"The task '{config.task}' has {turns} turn{'s' if turns > 1 else ''} at most, but max_turns is "
            f"{config.max_turns}. Set max_turns={turns}, or take a task with turns."
        )
    if config.max_new_tokens is None or config.max_new_tokens == task.max_new_tokens:
        return task
    if not dataclasses.is_dataclass(task) or "max_new_tokens" not in {f.name for f in dataclasses.fields(task)}:
        raise UserError(
            f"The task '{config.task}' fixes its responses at {task.max_new_tokens} tokens itself. Change it there, or "
            f"leave max_new_tokens out of the configuration."
        )
    return dataclasses.replace(task, max_new_tokens=config.max_new_tokens)  # type: ignore[type-var, return-value]


def training_examples(task: Task, n: int, seed: int) -> list[Example]:
    """Return ``n`` training examples: distinct ones if the split has as many, else epochs, each in its own order."""
    try:
        return task.examples("train", n, seed)
    except UserError:
        stream: list[Example] = []
        for epoch in count():
            if len(stream) >= n:
                break
            stream += task.examples("train", None, seed * 1000 + epoch)
        return stream[:n]
