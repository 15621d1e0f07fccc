"""`sokoban:LEGEND`: push the box onto the target; one cell is a wall. `sokoban2:LEGEND`: two are.

A move against the border or the wall stays, and so does pushing the box against them; the box cannot be pulled, so a
push can make a board unsolvable. Boards are every placing of player, box, target and one wall on 3 × 4 whose shortest
solution has 3 to 10 moves: the smallest grid on which one has to walk around the box (on 3 × 3 without a wall there are
15 boards up to symmetry, here 600). With two walls they are a fixed draw, one of each set of mirror images. Symbols and
their legend: ``grids.py``.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations

from cr_interp.tasks.games.grids import (
    STEPS,
    Board,
    Game,
    GridTask,
    State,
    canonical,
    cell,
    find,
    grid_task,
    once,
    shortest_path,
)
from cr_interp.tasks.splits import split_of

HEIGHT, WIDTH, SHORTEST, LONGEST = 3, 4, 3, 10
#: Boards with two walls that are looked at; some cannot be solved, or are seen from another side again.
DRAWN = 6000
PLAYER, BOX, TARGET, WALL, FLOOR = "PBTWF"


@cache
def boards() -> tuple[Board, ...]:
    placed = (_board(places) for places in permutations(range(HEIGHT * WIDTH), 4))
    return tuple(board for board in placed if SHORTEST <= _moves(board) <= LONGEST)


@cache
def two_walls() -> tuple[Board, ...]:
    """Return boards with two walls, each seen from a random side."""
    rng = random.Random("boards of sokoban2")
    drawn = (_board(rng.sample(range(HEIGHT * WIDTH), 5)) for _ in range(DRAWN))
    return tuple(once(board for board in drawn if SHORTEST <= _moves(board) <= LONGEST))


def practice_board(rng: random.Random) -> Board:
    """Draw a board to learn on before any distillation: none, one or two walls, 2 to 12 moves, and none that is held out."""
    while True:
        board = _board(rng.sample(range(HEIGHT * WIDTH), 3 + rng.randrange(3)))
        if 2 <= _moves(board) <= 12 and split_of(canonical(board)) == "train":
            return board


def _board(places: Sequence[int]) -> Board:
    """Place player, box and target on the first three places, walls on the others."""
    cells = [FLOOR] * (HEIGHT * WIDTH)
    for place, role in zip(places, PLAYER + BOX + TARGET + WALL * (len(places) - 3), strict=True):
        cells[place] = role
    return "\n".join("".join(cells[i : i + WIDTH]) for i in range(0, HEIGHT * WIDTH, WIDTH))


def _moves(board: Board) -> int:
    """Count the moves of the shortest solution; 0 if there is none. Mirror images have as many: one of them is solved."""
    return _moves_of(canonical(board))


@cache
def _moves_of(board: Board) -> int:
    return len(shortest_path(sokoban, board) or "")


def step(board: Board, state: State, move: str) -> State | None:
    player, box = state
    down, right = STEPS[move]
    ahead = (player[0] + down, player[1] + right)
    if cell(board, *ahead) in (None, WALL):
        return state
    if ahead == box:
        beyond = (box[0] + down, box[1] + right)
        return state if cell(board, *beyond) in (None, WALL) else (ahead, beyond)
    return (ahead, box)


def _game(name: str, boards: Callable[[], tuple[Board, ...]]) -> Game:
    return Game(
        name=name,
        roles=PLAYER + BOX + TARGET + WALL + FLOOR,
        known=FLOOR,
        glyphs="*+~^o",
        names="qrst",
        boards=boards,
        start=lambda board: (find(board, PLAYER), find(board, BOX)),
        step=step,
        won=lambda board, state: state[1] == find(board, TARGET),
    )


@cache
def sokoban() -> Game:
    return _game("sokoban", boards)


@cache
def sokoban2() -> Game:
    return _game("sokoban2", two_walls)


def sokoban2_task(letter: str) -> GridTask:
    return grid_task(sokoban2, letter, max_new_tokens=14)


def sokoban_task(letter: str) -> GridTask:
    return grid_task(sokoban, letter, max_new_tokens=14)
