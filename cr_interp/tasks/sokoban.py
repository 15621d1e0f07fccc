"""`sokoban:LEGEND`: push the box onto the target; one cell is a wall.

A move against the border or the wall stays, and so does pushing the box against them; the box cannot be pulled, so a
push can make a board unsolvable. Boards are every placing of player, box, target and one wall on 3 × 4 whose shortest
solution has 3 to 10 moves: the smallest grid on which one has to walk around the box (on 3 × 3 without a wall there are
15 boards up to symmetry, here 600). Symbols and their legend: ``grids.py``.
"""

from functools import cache
from itertools import permutations

from cr_interp.tasks.grids import STEPS, Board, Game, GridTask, State, cell, find, grid_task, shortest_path

HEIGHT, WIDTH, SHORTEST, LONGEST = 3, 4, 3, 10
PLAYER, BOX, TARGET, WALL, FLOOR = "PBTWF"


@cache
def boards() -> tuple[Board, ...]:
    found = []
    for places in permutations(range(HEIGHT * WIDTH), 4):
        cells = [FLOOR] * (HEIGHT * WIDTH)
        for place, role in zip(places, (PLAYER, BOX, TARGET, WALL), strict=True):
            cells[place] = role
        board = "\n".join("".join(cells[i : i + WIDTH]) for i in range(0, HEIGHT * WIDTH, WIDTH))
        path = shortest_path(sokoban, board)
        if path is not None and SHORTEST <= len(path) <= LONGEST:
            found.append(board)
    return tuple(found)


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


@cache
def sokoban() -> Game:
    return Game(
        name="sokoban",
        roles=PLAYER + BOX + TARGET + WALL + FLOOR,
        known=FLOOR,
        glyphs="*+~^o",
        names="qrst",
        boards=boards,
        start=lambda board: (find(board, PLAYER), find(board, BOX)),
        step=step,
        won=lambda board, state: state[1] == find(board, TARGET),
    )


def sokoban_task(letter: str) -> GridTask:
    return grid_task(sokoban, letter, max_new_tokens=14)
