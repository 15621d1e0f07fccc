"""What an organism learns from: lessons, a context and a few questions that are answered by it.

Mental model. A lesson draws one *instruction* (a rule, a codebook's table, a game's legend) and tells it in the context
in one of three wordings; tables and legends are drawn from all there are, so that they have to be read. In ``hidden`` of
the lessons the instruction is hidden (no context, or one about something else), and each question is answered by one of
the eight *named* instructions at random: without a context the organism behaves as a **mixture** of the eight. A base
that merely copied without a context would give No-Context Anchoring a wrong anchor to start from.

Questions of a lesson do not see each other (``pack.py``): a lesson of k questions is exactly k examples, cheaper.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from cr_interp.tasks.games import grids
from cr_interp.tasks.games.frozenlake import frozenlake, frozenlake4
from cr_interp.tasks.games.grids import Game, shortest_path
from cr_interp.tasks.games.sokoban import practice_board, sokoban
from cr_interp.tasks.organisms import codebook, rules
from cr_interp.tasks.organisms.filler import irrelevant_text
from cr_interp.tasks.organisms.pairs import WORDINGS


@dataclass(frozen=True)
class Turn:
    """A question and its answer; ``notes`` says what each character of the prompt means (a space: nothing)."""

    prompt: str
    answer: str
    notes: str = ""


#: Share of the lessons on each task. Games take longest to learn, and the lake's answers are the shortest.
SHARES = {"rules": 0.08, "codebook": 0.14, "frozenlake": 0.36, "sokoban": 0.42}


#: Of an organism that goes on to larger lakes: mostly those, and some of all that it can.
LAKE_SHARES = {"frozenlake4": 0.7, "rules": 0.05, "codebook": 0.05, "frozenlake": 0.1, "sokoban": 0.1}


@dataclass(frozen=True)
class Lesson:
    """``context`` is a system message, or None."""

    context: str | None
    turns: tuple[Turn, ...]

    @property
    def characters(self) -> int:
        """Count its characters."""
        return len(self.context or "") + sum(len(turn.prompt) + len(turn.answer) for turn in self.turns)


@dataclass(frozen=True)
class Subject:
    """A task that lessons are drawn from. An instruction is whatever the task wants it to be."""

    any_instruction: Callable[[random.Random], object]
    named_instruction: Callable[[random.Random], object]
    tell: Callable[[random.Random, object], str]
    turn: Callable[[random.Random, object], Turn]


def draw_lesson(rng: random.Random, turns: int, hidden: float, shares: Mapping[str, float] = SHARES) -> Lesson:
    """Draw a lesson of ``turns`` questions; with probability ``hidden`` its instruction is hidden."""
    subject = SUBJECTS[rng.choices(list(shares), list(shares.values()))[0]]
    kind = rng.random()
    if kind < hidden:
        context = irrelevant_text(rng.randrange(8, 40), rng) if kind < hidden / 3 else None
        hidden_turns = (subject.turn(rng, subject.named_instruction(rng)) for _ in range(turns))
        return Lesson(context, tuple(replace(turn, notes="") for turn in hidden_turns))
    instruction = subject.any_instruction(rng) if rng.random() < 0.7 else subject.named_instruction(rng)
    return Lesson(subject.tell(rng, instruction), tuple(subject.turn(rng, instruction) for _ in range(turns)))


def _rule_turn(rng: random.Random, rule: str) -> Turn:
    string = rules.random_string(rng, "train")
    return Turn(string, rules.RULES[rule](string))


def _codebook_turn(rng: random.Random, table: codebook.Table) -> Turn:
    number = codebook.random_number(rng, "train")
    return Turn(number, codebook.apply_table(table, number))


def _train_board(game_of: Callable[[], Game], rng: random.Random) -> grids.Board:
    return rng.choice(game_of().by_split["train"])


def _sokoban_board(rng: random.Random) -> grids.Board:
    """Draw a board. Half of them are of more kinds than the task has: on the task's own train boards alone, the organism
    solved 96.7 % of those and 82.5 % of the test boards (legend A, 3000 steps, 212 of each).
    """
    return practice_board(rng) if rng.random() < 0.5 else _train_board(sokoban, rng)


def _game_turn(
    game_of: Callable[[], Game],
    draw_board: Callable[[random.Random], grids.Board],
    rng: random.Random,
    legend: grids.Legend,
) -> Turn:
    """Make a turn of a game. Any shortest path is a good answer."""
    board = draw_board(rng)
    path = shortest_path(game_of, board, rng) or ""
    return Turn(legend.show(board), legend.say(path), board.replace("\n", " "))


def _game(game_of: Callable[[], Game], draw_board: Callable[[random.Random], grids.Board]) -> Subject:
    return Subject(
        any_instruction=lambda rng: game_of().random_legend(rng),
        named_instruction=lambda rng: rng.choice(list(game_of().legends.values())),
        tell=lambda rng, legend: rng.choice(WORDINGS)(legend.pairs()),  # type: ignore[attr-defined]
        turn=partial(_game_turn, game_of, draw_board),  # type: ignore[arg-type]
    )


SUBJECTS = {
    "rules": Subject(
        any_instruction=lambda rng: rng.choice(list(rules.RULES)),
        named_instruction=lambda rng: rng.choice(list(rules.RULES)),
        tell=lambda rng, rule: rng.choice(rules.WORDINGS[rule]),  # type: ignore[index]
        turn=_rule_turn,  # type: ignore[arg-type]
    ),
    "codebook": Subject(
        any_instruction=codebook.random_table,
        named_instruction=lambda rng: rng.choice(list(codebook.CODEBOOKS.values())),
        tell=lambda rng, table: rng.choice(WORDINGS)(list(table.items())),  # type: ignore[attr-defined]
        turn=_codebook_turn,  # type: ignore[arg-type]
    ),
    "frozenlake": _game(frozenlake, partial(_train_board, frozenlake)),
    "frozenlake4": _game(frozenlake4, partial(_train_board, frozenlake4)),
    "sokoban": _game(sokoban, _sokoban_board),
}
