"""Text that says nothing about a task: the organisms' irrelevant context, in pre-training and as a control."""

import random

from cr_interp.tasks.base import CountTokens
from cr_interp.views import Context

WORDS: list[str] = (  # noqa: SIM905
    "the sea is calm and a boat sails by while rain falls on green hills near our old house where "
    "dogs sleep all day under warm sun then wind blows"
).split()


def irrelevant_text(length: int, rng: random.Random | None = None) -> str:
    """Return ``length`` characters of filler; shuffled with ``rng``, in a fixed order without."""
    words = list(WORDS)
    if rng is not None:
        rng.shuffle(words)
    return " ".join(words)[:length].ljust(length, ".")


def filler_context(tokens: int, count_tokens: CountTokens) -> Context:
    """Return the shortest system message of filler that has at least so many tokens."""
    length = 1
    while count_tokens(Context.system(irrelevant_text(length))) < tokens:
        length += 1
    return Context.system(irrelevant_text(length))
