"""Rollouts of tasks with turns: the episodes of a step, played without the context, as prompts and responses to learn from.

Mental model. A question gives one prompt and one response, an episode one of each for every turn. Both are *pairs*, and a
step is a list of pairs: the losses, and the mean over all tokens of the step, know nothing of who said them. A micro-batch
holds so many examples, with all their turns.
"""

from collections.abc import Callable, Sequence
from functools import cache

from cr_interp.measure.turns import places, play
from cr_interp.models.generation import Response, decode_text
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import all_agree
from cr_interp.tasks.base import Example, TakesTurns
from cr_interp.views import check_fits
from training.run import parallel
from training.run.rollouts import Rollouts
from training.run.step import Prompt

Pair = tuple[Prompt, list[int]]
"""A prompt in both views, and the ids of the response to it."""


def ask(
    student: Loaded,
    rollouts: Rollouts,
    prompts: Sequence[Prompt],
    step: int,
    rows: Sequence[int] | None = None,
) -> list[list[Pair]]:
    """Ask for one response to each prompt; ``rows`` as in :class:`~training.run.rollouts.Rollouts`."""
    sampled = rollouts.sample(student, [each.no_context for each in prompts], step, rows)
    return [[(prompt, list(response.ids))] for prompt, response in zip(prompts, sampled, strict=True)]


class Episodes:
    """Plays the examples of a run; ``examples[i]`` is what the run's prompt ``i`` begins.

    ``render`` puts a turn's prompt into both views, behind the context and the history that its example brings along;
    ``batch`` is the number of episodes of a whole step.
    """

    def __init__(
        self, task: TakesTurns, examples: Sequence[Example], render: Callable[[str, Example], Prompt], batch: int
    ):
        self.task, self.examples, self.render, self.batch = task, examples, render, batch

    @property
    def start(self) -> Prompt:
        """Give what is in front of every prompt of every turn: a prompt without a word of its own.

        Where each example brings a context it is the first one's; what all share lies before the first difference of any two.
        """
        return self.render("", self.examples[0])

    def play(
        self,
        student: Loaded,
        rollouts: Rollouts,
        indices: Sequence[int],
        step: int,
        rows: Sequence[int] | None = None,
    ) -> list[list[Pair]]:
        """Return the pairs of each episode, in the order of its turns. ``rows`` are the episodes' places in the step's batch.

        Raises :class:`~cr_interp.errors.UserError` if a turn no longer fits the model's positions in either view.
        """
        place = list(range(len(indices)) if rows is None else rows)

        @cache  # of a turn: once to play it, once to learn from it
        def render(text: str, row: int) -> Prompt:
            return self.render(text, self.examples[indices[row]])

        def sample(prompts: list[list[int]], playing: list[int], turn: int) -> list[Response]:
            if (
                not prompts
            ):  # the others may not be able to sample without this one: sharded weights, a server asked for all
                rollouts.sample(student, [self.start.no_context], step, place[:1])
                return []
            return rollouts.sample(
                student, prompts, step, places([place[row] for row in playing], turn, self.batch)
            )

        played = play(
            self.task,
            [self.examples[i] for i in indices],
            lambda prompt, row: render(prompt, row).no_context,
            sample,
            lambda response: decode_text(student, response),
            someone_plays if parallel.processes() > 1 else bool,
        )
        episodes = [
            [(render(t.prompt, row), list(t.response.ids)) for t in episode.turns]
            for row, episode in enumerate(played)
        ]
        longest = max(len(prompt.with_context) + len(said) for pairs in episodes for prompt, said in pairs)
        check_fits(longest, student.max_positions, "The longest with-context turn")
        return episodes


def someone_plays(here: bool) -> bool:
    """Tell whether any process has an episode to play on."""
    return not all_agree(not here)
