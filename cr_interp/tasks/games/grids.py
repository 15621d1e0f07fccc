"""What the grid games share: boards, legends, walking a path, shortest paths, grading.

Mental model. A *board* is written in **roles**, letters that mean something ("SFH", a row of start, ice, hole). What
the user shows is the same board in arbitrary **glyphs**, and what the assistant answers are arbitrary **names** of the
four moves. Only the *legend*, in the system prompt, says which glyph is which role and which name is which move:

    system      S=% G=@ H=# F=& U=y D=z L=w R=x
    user        %&#
                &&#
                @&&
    assistant   zz

An organism learns to read *any* legend, and behaves as a mixture of eight named ones when it is shown none;
distillation makes it play by one of them. The eight agree on the glyphs whose number on a board gives them away, so
that a board alone does not tell which legend it was written in.

A game is a few functions (:class:`Game`); everything here works by them alone. Boards are split by their **canonical
form**, the smallest of a board's mirror images and rotations: no test board is a train board seen from another side.
The boards of one canonical form are a *cluster* of examples.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import permutations
from typing import Any

from cr_interp.errors import UserError, unknown
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.organisms.pairs import WORDINGS
from cr_interp.tasks.splits import split_of
from cr_interp.tasks.yours.named import another, told
from cr_interp.views import Context

MOVES = "UDLR"
STEPS = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
LEGENDS = "ABCDEFGH"

#: Rows of roles, joined by newlines.
Board = str
#: Whatever a game needs to go on playing (hashable); None: lost.
State = Any


@dataclass(frozen=True)
class Game:
    """A game's rules."""

    name: str
    roles: str
    """What can be on a cell, in the order of the legend."""
    known: str
    """Roles whose number on a board gives their glyph away: the eight named legends agree on them."""
    glyphs: str
    """As many as roles."""
    names: str
    """Of the four moves."""
    boards: Callable[[], tuple[Board, ...]]
    """Every board worth playing, in a fixed order."""
    start: Callable[[Board], State]
    step: Callable[[Board, State, str], State | None]
    """The state after a move of ``MOVES``; None if it loses the game."""
    won: Callable[[Board, State], bool]

    @cached_property
    def by_split(self) -> dict[Split, tuple[Board, ...]]:
        parts: dict[Split, list[Board]] = {"train": [], "validation": [], "test": []}
        for board in self.boards():
            parts[split_of(canonical(board))].append(board)
        return {split: tuple(boards) for split, boards in parts.items()}

    @cached_property
    def legends(self) -> dict[str, "Legend"]:
        """The eight named ones: different in their moves, alike in the ``known`` roles."""
        rng = random.Random(f"legends of {self.name}")
        fixed = dict(zip(self.known, rng.sample(self.glyphs, len(self.known)), strict=True))
        free = [glyph for glyph in self.glyphs if glyph not in fixed.values()]
        moves = rng.sample(["".join(each) for each in permutations(self.names)], len(LEGENDS))
        legends = {}
        for letter, names in zip(LEGENDS, moves, strict=True):
            others = iter(rng.sample(free, len(free)))
            legends[letter] = Legend(self.roles, "".join(fixed.get(r) or next(others) for r in self.roles), names)
        return legends

    def random_legend(self, rng: random.Random) -> "Legend":
        """Draw any legend: all glyphs and names permuted."""
        return Legend(
            self.roles,
            "".join(rng.sample(self.glyphs, len(self.glyphs))),
            "".join(rng.sample(self.names, len(self.names))),
        )


@dataclass(frozen=True)
class Legend:
    """A glyph for every role and a name for every move."""

    roles: str
    glyphs: str
    names: str

    def show(self, board: Board) -> str:
        """Write the board as the user types it."""
        return board.translate(str.maketrans(self.roles, self.glyphs))

    def say(self, moves: str) -> str:
        """Write moves as the assistant answers them."""
        return moves.translate(str.maketrans(MOVES, self.names))

    def read(self, response: str) -> str | None:
        """Read the moves that a response names; None if it has anything else in it, or nothing."""
        if not response or not set(response) <= set(self.names):
            return None
        return response.translate(str.maketrans(self.names, MOVES))

    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.roles + MOVES, self.glyphs + self.names, strict=True))


def walk(game: Game, board: Board, moves: Sequence[str]) -> bool:
    """Tell whether the moves win. The game ends when it is won or lost: what comes later is not played."""
    state: State | None = game.start(board)
    for move in moves:
        state = game.step(board, state, move)
        if state is None:
            return False
        if game.won(board, state):
            return True
    return False


@cache
def best_moves(game_of: Callable[[], Game], board: Board) -> dict[State, tuple[int, str]]:
    """Find, for every state from which the game can be won, how many moves it takes and which ones lead there."""
    game = game_of()
    before: dict[State, list[tuple[State, str]]] = {}
    seen = {game.start(board)}
    open_states = deque(seen)
    while open_states:
        state = open_states.popleft()
        if game.won(board, state):
            continue
        for move in MOVES:
            after = game.step(board, state, move)
            if after is None or after == state:
                continue
            before.setdefault(after, []).append((state, move))
            if after not in seen:
                seen.add(after)
                open_states.append(after)
    distance = {state: 0 for state in seen if game.won(board, state)}
    moves = {state: "" for state in distance}
    frontier = deque(distance)
    while frontier:
        state = frontier.popleft()
        for earlier, move in before.get(state, ()):
            if earlier not in distance:
                distance[earlier] = distance[state] + 1
                moves[earlier] = ""
                frontier.append(earlier)
            if distance[earlier] == distance[state] + 1:
                moves[earlier] += move
    return {state: (distance[state], "".join(sorted(moves[state], key=MOVES.index))) for state in distance}


def shortest_path(game_of: Callable[[], Game], board: Board, rng: random.Random | None = None) -> str | None:
    """Find a shortest path in ``MOVES``: any of them with ``rng``, else the first in the order of ``MOVES``; None if none."""
    game, best = game_of(), best_moves(game_of, board)
    state: State | None = game.start(board)
    if state not in best:
        return None
    path = ""
    while best[state][0]:
        moves = best[state][1]
        path += rng.choice(moves) if rng else moves[0]
        state = game.step(board, state, path[-1])
    return path


def canonical(board: Board) -> Board:
    """Return the smallest of the board's mirror images and rotations, as texts."""
    return min("\n".join(rows) for rows in _images(board.split("\n")))


def once(boards: Iterable[Board]) -> Iterator[Board]:
    """Leave out every board that an earlier one is a mirror image or rotation of."""
    seen = set[Board]()
    for board in boards:
        form = canonical(board)
        if form not in seen:
            seen.add(form)
            yield board


def _images(rows: list[str]) -> Iterator[list[str]]:
    for turned in (rows, ["".join(column) for column in zip(*rows, strict=True)]):
        for flipped in (turned, turned[::-1]):
            yield flipped
            yield [row[::-1] for row in flipped]


def cell(board: Board, row: int, column: int) -> str | None:
    """Return the role at a place; None beyond the border."""
    rows = _rows(board)
    return rows[row][column] if 0 <= row < len(rows) and 0 <= column < len(rows[0]) else None


@lru_cache(maxsize=64)
def _rows(board: Board) -> list[str]:
    """Return its rows; a search asks the same board a thousand times."""
    return board.split("\n")


def find(board: Board, role: str) -> tuple[int, int]:
    return divmod(board.index(role), board.index("\n") + 1)


@dataclass(frozen=True)
class GridTask:
    """A game played by one named legend; fulfils :class:`cr_interp.tasks.base.Task`."""

    game_of: Callable[[], Game]
    letter: str
    max_new_tokens: int

    @property
    def game(self) -> Game:
        return self.game_of()

    @property
    def name(self) -> str:
        return f"{self.game.name}:{self.letter}"

    @property
    def legend(self) -> Legend:
        return self.game.legends[self.letter]

    @property
    def other(self) -> Legend:
        """The legend in the mismatched context."""
        return self.game.legends[another(LEGENDS, self.letter)]

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return ``n`` distinct boards of a split (``None``: all), in an order fixed by ``seed``; the answer is a shortest
        path.
        """
        boards = self.game.by_split[split]
        if n is not None and not 0 <= n <= len(boards):
            raise UserError(
                f"Asked for {n} examples of the {split} split of task '{self.name}', which has {len(boards)} "
                f"distinct boards. Ask for 0 to {len(boards)}."
            )
        chosen = random.Random(f"{self.game.name} {split} {seed}").sample(boards, len(boards))[:n]
        return [
            Example(
                f"{split}:{board.replace(chr(10), '/')}",
                self.legend.show(board),
                self.legend.say(shortest_path(self.game_of, board) or ""),
                cluster=f"{split}:{canonical(board).replace(chr(10), '/')}",
            )
            for board in chosen
        ]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        own, other = self.legend.pairs(), self.other.pairs()
        return told(WORDINGS[0](own), WORDINGS[1](own), WORDINGS[0](other), count_tokens)

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Grade a walk: right means that walking the response wins, however long it is."""
        if truncated:
            return "truncated"
        return self._outcome(self.legend, example, response)

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response wins by the mismatched context's legend, and not by the internalised one."""
        return (
            self._outcome(self.other, example, response) == "right"
            and self._outcome(self.legend, example, response) != "right"
        )

    def _outcome(self, legend: Legend, example: Example, response: str) -> Outcome:
        moves = legend.read(response)
        if moves is None:
            return "unparsable"
        board = example.prompt.translate(str.maketrans(legend.glyphs, legend.roles))
        return "right" if walk(self.game, board, moves) else "wrong"


def grid_task(game_of: Callable[[], Game], letter: str, max_new_tokens: int) -> GridTask:
    if letter not in LEGENDS:
        raise unknown(f"legend of {game_of().name}", letter, LEGENDS)
    return GridTask(game_of, letter, max_new_tokens)
