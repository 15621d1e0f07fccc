"""What a task is: prompts by split, a context with its controls, and a grader.

Mental model: an :class:`Example` is what the user types, a :class:`~cr_interp.views.Context` is what the
teacher additionally sees. The student is distilled to answer the example without the context. A task never
sees a model; it needs a tokenizer only to make the irrelevant context as long as the exact one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from cr_interp.errors import UserError
from cr_interp.views import Context, EachOwn, Given, Message
from cr_interp.vocabulary import OUTCOMES, UNGRADED, ContextControl, Outcome

Split = Literal["train", "validation", "test"]
Control = Literal["none"] | ContextControl

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

#: Counts the tokens of a rendered context; lets a task match lengths without knowing a tokenizer.
CountTokens = Callable[[Context], int]


@dataclass(frozen=True)
class Example:
    """One prompt. ``answer`` is what the grader compares with; ``id`` is unique within a task.

    ``cluster`` names the examples that this one is not independent of: one phrase in eight frames, boards that are mirror
    images. A bootstrap draws whole clusters. An example that is given none is a cluster of its own.

    An empty ``answer`` is none: nobody says what is right. ``context`` (and ``paraphrase``, the same in other words) is what this
    example alone brings along, where a task has no context for all. ``history`` are the turns of a conversation before the
    prompt, in every view.
    """

    id: str
    prompt: str
    answer: str
    cluster: str = ""
    context: Context | None = None
    paraphrase: Context | None = None
    history: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.id)


def before(example: Example, given: Given | None) -> Context | None:
    """Give what stands before (or around) an example's prompt: its context under a control, then its history; None for nothing.

    ``given`` None is the view without a context.
    """
    context = given.of(example) if isinstance(given, EachOwn) else given
    if not example.history:
        return context
    if context is None:
        return Context(example.history)
    return Context((*context.messages, *example.history), context.splice)


def known_outcome(outcome: Any, example: Example) -> Outcome:
    """Check an outcome and return it. Raises :class:`UserError` for anything but the four and ``ungraded``, which every table
    would count as wrong.
    """
    if outcome not in (*OUTCOMES, UNGRADED):
        raise UserError(
            f"The task's grader called an answer to example {example.id} {outcome!r}. An outcome is one of the texts "
            f"{', '.join(OUTCOMES)}: let grade() return one of these."
        )
    return outcome


@runtime_checkable
class Task(Protocol):
    """The interface every task has; see ``rules.py`` for the shortest one."""

    @property
    def name(self) -> str: ...

    @property
    def max_new_tokens(self) -> int:
        """Longest response, end-of-turn token included; a response that reaches it is ``truncated``."""
        ...

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return ``n`` examples of a split (``None``: every distinct one), in an order fixed by ``seed``.

        Raises :class:`~cr_interp.errors.UserError` if ``n`` is larger than the split.
        """
        ...

    def contexts(self, count_tokens: CountTokens) -> Mapping[str, Given]:
        """Return the exact context and its controls: ``exact, paraphrase, mismatched, irrelevant``; each one for all, or an
        :class:`~cr_interp.views.EachOwn`.
        """
        ...

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Judge a decoded response (special tokens removed). ``truncated``: it hit ``max_new_tokens``."""
        ...


class Episode(Protocol):
    """One example being played, turn after turn: texts in, texts out, and the same answers lead to the same texts."""

    @property
    def prompt(self) -> str:
        """Say what is read at this turn, without the context: all that has happened so far."""
        ...

    @property
    def done(self) -> bool:
        """True once it is won, lost, or out of turns."""
        ...

    @property
    def outcome(self) -> Outcome:
        """Judge the whole episode, once it is ``done``."""
        ...

    def act(self, response: str, truncated: bool) -> None:
        """Take this turn with a decoded response."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A task whose examples are played: the environment answers a response with the next prompt.

    Beside that it is a :class:`Task`. The prompt of an example is its first turn's, ``max_new_tokens`` is of a turn, and
    ``grade`` judges a whole episode by its transcript (``transcript.py``). How it is played: ``cr_interp/measure/turns.py``.
    """

    @property
    def max_turns(self) -> int: ...

    def start(self, example: Example) -> Episode:
        """Start a fresh episode. It depends on the example alone, and on no episode beside it."""
        ...


@runtime_checkable
class GivesNewInstruction(Protocol):
    """A task whose ``mismatched`` context is an instruction of its own, so that one can see whether it is obeyed."""

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response does what the ``mismatched`` context asks for (and not what was internalised)."""
        ...
