"""`frozenlake:LEGEND`: walk over the ice from start to goal; two of the nine cells are holes.

The dynamics are those of gymnasium's FrozenLake without slipping: a move against the border stays, a hole ends the
game, and so does the goal. Boards are every placing of start, goal and two holes on 3 × 3 that can be solved and where
the goal is not next to the start. Symbols and their legend: ``grids.py``.
"""

from functools import cache
from itertools import combinations, permutations

from cr_interp.tasks.games.grids import STEPS, Board, Game, GridTask, State, cell, find, grid_task, shortest_path

SIZE, HOLES, SHORTEST = 3, 2, 2
START, GOAL, HOLE, ICE = "SGHF"


@cache
def boards() -> tuple[Board, ...]:
    found = []
    for start, goal in permutations(range(SIZE**2), 2):
        for holes in combinations([i for i in range(SIZE**2) if i not in (start, goal)], HOLES):
            cells = [
                START if i == start else GOAL if i == goal else HOLE if i in holes else ICE
                for i in range(SIZE**2)
            ]
            board = "\n".join("".join(cells[i : i + SIZE]) for i in range(0, SIZE**2, SIZE))
            path = shortest_path(frozenlake, board)
            if path is not None and len(path) >= SHORTEST:
                found.append(board)
    return tuple(found)


def step(board: Board, state: State, move: str) -> State | None:
    row, column = state
    down, right = STEPS[move]
    role = cell(board, row + down, column + right)
    return None if role == HOLE else state if role is None else (row + down, column + right)


@cache
def frozenlake() -> Game:
    return Game(
        name="frozenlake",
        roles=START + GOAL + HOLE + ICE,
        known=HOLE + ICE,
        glyphs="#@%&",
        names="wxyz",
        boards=boards,
        start=lambda board: find(board, START),
        step=step,
        won=lambda board, state: state == find(board, GOAL),
    )


def frozenlake_task(letter: str) -> GridTask:
    return grid_task(frozenlake, letter, max_new_tokens=12)
