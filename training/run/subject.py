"""What a configuration trains on: its task, its models as its chat template is fixed, and its context within the cap.

Mental model: the rest of ``training`` asks here and not ``get_task`` and ``load``, because a configuration may shorten
the task's responses, fix variables of the chat template, and forbid contexts that are too long.
"""

from collections.abc import Sequence

import torch

from cr_interp.errors import UserError
from cr_interp.models.loading import Loaded, open_model
from cr_interp.models.templates import fix_template
from cr_interp.tasks.base import Example, Task
from cr_interp.views import EachOwn, Given, context_length, render
from training.settings import StudyConfig


def exact_context(task: Task, loaded: Loaded, config: StudyConfig) -> Given:
    """Return the context that is internalised, or that of each example; :class:`UserError` if it is longer than
    ``context_cap``.
    """
    context = task.contexts(lambda each: context_length(loaded.tokenizer, each, config.no_context))["exact"]
    check_cap(context, loaded, config)
    return context


def check_cap(context: Given, loaded: Loaded, config: StudyConfig, examples: Sequence[Example] = ()) -> None:
    """Refuse a context that is longer than ``context_cap``; where each example brings one, those of these ``examples``."""
    if config.context_cap is None:
        return
    without = len(render(loaded.tokenizer, "x", None, config.no_context))
    each = (
        {example.id: context.of(example) for example in examples}
        if isinstance(context, EachOwn)
        else {"": context}
    )
    lengths = {name: context_length(loaded.tokenizer, one, config.no_context) for name, one in each.items()}
    longest = max(lengths, key=lambda name: lengths[name], default="")
    found = lengths.get(longest, without) - without
    if found > config.context_cap:
        raise UserError(
            f"The context of '{config.task}'{f', example {longest},' if longest else ''} adds {found} tokens to a prompt, more "
            f"than context_cap = {config.context_cap}. Nothing is cut here: shorten the context, or raise context_cap."
        )


def load_for(config: StudyConfig, name: str, dtype: torch.dtype = torch.float32) -> Loaded:
    """Load a model of the study, its chat template with the configuration's variables fixed."""
    loaded = open_model(name, dtype)
    fix_template(loaded, config.template)
    return loaded
