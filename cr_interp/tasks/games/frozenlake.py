"""`frozenlake:LEGEND`: walk over the ice from start to goal; two of the nine cells are holes. `frozenlake4:LEGEND`: 4 of 16.

The dynamics are those of gymnasium's FrozenLake without slipping: a move against the border stays, a hole ends the
game, and so does the goal. Boards are every placing of start, goal and two holes on 3 × 3 that can be solved and where
the goal is not next to the start. On 4 × 4 there are too many to list, so boards are a fixed draw of those with three to
six moves, one of each set of mirror images. Symbols and their legend: ``grids.py``.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations, islice, permutations

from cr_interp.tasks.games.grids import (
    STEPS,
    Board,
    Game,
    GridTask,
    State,
    cell,
    find,
    grid_task,
    once,
    shortest_path,
)

SIZE, HOLES, SHORTEST = 3, 2, 2
START, GOAL, HOLE, ICE = "SGHF"
#: Of 4 × 4: boards drawn, holes of each, fewest and most moves.
DRAWN, HOLES_4, SHORTEST_4, LONGEST_4 = 4000, 4, 3, 6


@cache
def boards() -> tuple[Board, ...]:
    found = []
    for start, goal in permutations(range(SIZE**2), 2):
        for holes in combinations([i for i in range(SIZE**2) if i not in (start, goal)], HOLES):
            board = _board(SIZE, start, goal, holes)
            path = shortest_path(frozenlake, board)
            if path is not None and len(path) >= SHORTEST:
                found.append(board)
    return tuple(found)


@cache
def larger_boards() -> tuple[Board, ...]:
    """Return boards of 4 × 4, each seen from a random side."""
    rng = random.Random("boards of frozenlake4")
    drawn = (_board(4, start, goal, holes) for start, goal, *holes in _places(rng))
    moved = (b for b in drawn if SHORTEST_4 <= len(shortest_path(frozenlake4, b) or "") <= LONGEST_4)
    return tuple(islice(once(moved), DRAWN))


def _places(rng: random.Random) -> Iterator[list[int]]:
    while True:
        yield rng.sample(range(16), 2 + HOLES_4)


def _board(size: int, start: int, goal: int, holes: Sequence[int]) -> Board:
    roles = {start: START, goal: GOAL, **dict.fromkeys(holes, HOLE)}
    cells = [roles.get(i, ICE) for i in range(size**2)]
    return "\n".join("".join(cells[i : i + size]) for i in range(0, size**2, size))


def step(board: Board, state: State, move: str) -> State | None:
    row, column = state
    down, right = STEPS[move]
    role = cell(board, row + down, column + right)
    return None if role == HOLE else state if role is None else (row + down, column + right)


def _game(name: str, boards: Callable[[], tuple[Board, ...]]) -> Game:
    return Game(
        name=name,
        roles=START + GOAL + HOLE + ICE,
        known=HOLE + ICE,
        glyphs="#@%&",
        names="wxyz",
        boards=boards,
        start=lambda board: find(board, START),
        step=step,
        won=lambda board, state: state == find(board, GOAL),
    )


@cache
def frozenlake() -> Game:
    return _game("frozenlake", boards)


@cache
def frozenlake4() -> Game:
    return _game("frozenlake4", larger_boards)


def frozenlake4_task(letter: str) -> GridTask:
    return grid_task(frozenlake4, letter, max_new_tokens=12)


def frozenlake_task(letter: str) -> GridTask:
    return grid_task(frozenlake, letter, max_new_tokens=12)
