"""Play tasks with turns: all unfinished episodes of a batch take each turn together.

Mental model. An episode gives a prompt, the model a response, and so on until the episode is done. Every prompt holds all
that has happened, so a turn is a prompt and its response like any other, and an episode is a handful of such pairs:
training, evaluation and capture read them as they read single answers. A question is an episode of one turn
(:func:`as_turns`). Whoever plays says how prompts become ids and how responses are sampled; nothing here knows a model.

The random numbers of a turn are those of a place that no other turn of the batch has (:func:`places`), so that they
depend on the seed, the step, the row and the turn alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cr_interp.models.generation import Response
from cr_interp.tasks.base import Example, Outcome, TakesTurns, Task, known_outcome

Sample = Callable[[list[list[int]], list[int], int], list[Response]]
"""Prompts (ids), the rows they belong to and the number of the turn, from 0 → a response each."""


@dataclass(frozen=True)
class Turn:
    """One prompt and its response. ``prompt`` is without the context, ``ids`` are the prompt's in the view that was played."""

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

    ``go_on`` is told whether there are episodes to play on, and says whether there is another turn: processes that can
    only sample together go on for as long as one of them has to, and then ``sample`` may be given no prompts.
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
    """Place the random numbers of a turn: behind those of all rows' earlier turns. The first turn's are the rows'.

    >>> places([0, 2], turn=1, batch=4)
    [4, 6]
    """
    return [row + turn * batch for row in rows]


def as_turns(task: Task) -> TakesTurns:
    """Treat a task as one with turns: itself, or each question as an episode that is over after its answer."""
    return task if isinstance(task, TakesTurns) else _Questions(task)


@dataclass(frozen=True)
class _Questions:
    task: Task
    max_turns: int = 1

    def start(self, example: Example) -> "_Question":
        return _Question(self.task, example)


class _Question:
    """Fulfils :class:`cr_interp.tasks.base.Episode`."""

    def __init__(self, task: Task, example: Example):
        self.task, self.example, self.prompt, self.done = task, example, example.prompt, False
        self.outcome: Outcome = "unparsable"

    def act(self, response: str, truncated: bool) -> None:
        self.done, self.outcome = True, self.task.grade(self.example, response, truncated)
