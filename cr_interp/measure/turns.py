"""Play tasks with turns: all unfinished episodes of a batch take each turn together.

Mental model. In an episode, prompts and responses alternate until the episode is done. A prompt holds everything said before
it, so each turn is a pair of prompt and response like any other: training, evaluation and capture read the pairs of an
episode as they read single answers. A question is an episode of one turn (:func:`as_turns`). The caller renders prompts and
samples responses; nothing here knows a model.

Each turn of a batch has a place of its own (:func:`places`), from which its random numbers come. They therefore depend on
nothing but the seed, the step, the row and the turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cr_interp.models.generation import Response
from cr_interp.tasks.base import Example, Outcome, TakesTurns, Task, known_outcome

Sample = Callable[[list[list[int]], list[int], int], list[Response]]
"""Prompts (ids), the rows they belong to and the number of the turn, from 0 → a response each."""


@dataclass(frozen=True)
class Turn:
    """One prompt and its response. ``prompt`` is the text without the context; ``ids`` are the prompt's ids in the view that
    was played.
    """

    prompt: str
    ids: list[int]
    response: Response
    text: str


@dataclass(frozen=True)
class Played:
    """An episode that is over, with one turn at least."""

    turns: tuple[Turn, ...]
    outcome: Outcome


def play(
    task: TakesTurns,
    examples: Sequence[Example],
    render: Callable[[str, int], list[int]],
    sample: Sample,
    decode: Callable[[Response], str],
    go_on: Callable[[bool], bool] = bool,
) -> list[Played]:
    """Play an episode of each example to its end, in at most ``max_turns`` calls of ``sample``.

    ``render`` gets a prompt and the row of its example, which may have a context of its own.

    ``go_on`` is told whether this process has an unfinished episode; it returns whether another turn is played. Several
    processes that can only sample together all play on while one of them has an unfinished episode; ``sample`` may then get
    no prompts.
    """
    episodes = [task.start(example) for example in examples]
    turns: list[list[Turn]] = [[] for _ in episodes]
    for number in range(task.max_turns):
        rows = [row for row, episode in enumerate(episodes) if not episode.done]
        if not go_on(bool(rows)):
            break
        prompts = [render(episodes[row].prompt, row) for row in rows]
        for row, ids, response in zip(rows, prompts, sample(prompts, rows, number), strict=True):
            turn = Turn(episodes[row].prompt, ids, response, decode(response))
            turns[row].append(turn)
            episodes[row].act(turn.text, response.truncated)
    outcomes = [
        known_outcome(episode.outcome, example) for episode, example in zip(episodes, examples, strict=True)
    ]
    return [Played(tuple(t), outcome) for t, outcome in zip(turns, outcomes, strict=True)]


def places(rows: Sequence[int], turn: int, batch: int) -> list[int]:
    """Place the random numbers of a turn behind those of all rows' earlier turns. In the first turn a row's place is its
    number.

    >>> places([0, 2], turn=1, batch=4)
    [4, 6]
    """
    return [row + turn * batch for row in rows]


def as_turns(task: Task) -> TakesTurns:
    """Give a task that has turns: the task itself, or one that makes each question an episode of one turn."""
    return task if isinstance(task, TakesTurns) else _Questions(task)


@dataclass(frozen=True)
class _Questions:
    task: Task
    max_turns: int = 1

    def start(self, example: Example) -> "_Question":
        return _Question(self.task, example)


class _Question:
    """One question as an episode of one turn (:class:`cr_interp.tasks.base.Episode`)."""

    def __init__(self, task: Task, example: Example):
        self.task, self.example, self.prompt, self.done = task, example, example.prompt, False
        self.outcome: Outcome = "unparsable"

    def act(self, response: str, truncated: bool) -> None:
        self.done, self.outcome = True, self.task.grade(self.example, response, truncated)
