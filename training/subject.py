"""What a configuration trains on: its task, its models as its chat template is fixed, and its context within the cap.

Mental model: the rest of ``training`` asks here and not ``get_task`` and ``load``, because a configuration may shorten
the task's responses, fix variables of the chat template, and forbid contexts that are too long.
"""

import dataclasses
from itertools import count

import torch

from cr_interp.errors import UserError
from cr_interp.models import Loaded, load
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example, TakesTurns, Task
from cr_interp.templates import fix_template
from cr_interp.views import Context, context_length, render
from training.config import StudyConfig


def study_task(config: StudyConfig) -> Task:
    """The task, with the configuration's response length. A Python file is executed: whoever gave the configuration named it.

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
    """``n`` training examples: distinct ones if the split has as many, else epochs, each in its own order."""
    try:
        return task.examples("train", n, seed)
    except UserError:
        stream: list[Example] = []
        for epoch in count():
            if len(stream) >= n:
                break
            stream += task.examples("train", None, seed * 1000 + epoch)
        return stream[:n]


def exact_context(task: Task, loaded: Loaded, config: StudyConfig) -> Context:
    """The context that is internalised; :class:`UserError` if it is longer than ``context_cap``."""
    context = task.contexts(lambda each: context_length(loaded.tokenizer, each, config.no_context))["exact"]
    check_cap(context, loaded, config)
    return context


def check_cap(context: Context, loaded: Loaded, config: StudyConfig) -> None:
    if config.context_cap is None:
        return
    without = len(render(loaded.tokenizer, "x", None, config.no_context))
    found = context_length(loaded.tokenizer, context, config.no_context) - without
    if found > config.context_cap:
        raise UserError(
            f"The context of '{config.task}' adds {found} tokens to a prompt, more than context_cap = "
            f"{config.context_cap}. Nothing is cut here: shorten the context, or raise context_cap."
        )


def load_for(config: StudyConfig, name: str, dtype: torch.dtype = torch.float32) -> Loaded:
    """Load a model of the study, its chat template with the configuration's variables fixed."""
    loaded = load(name, dtype)
    fix_template(loaded, config.template)
    return loaded
