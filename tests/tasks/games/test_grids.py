"""Both games: dynamics against independent references, legends, splits, grading."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.base import SPLITS, GivesNewInstruction, Task
from cr_interp.tasks.games.frozenlake import frozenlake
from cr_interp.tasks.games.grids import LEGENDS, MOVES, best_moves, canonical, shortest_path, walk
from cr_interp.tasks.games.sokoban import sokoban
from cr_interp.tasks.organisms.pairs import WORDINGS
from cr_interp.tasks.splits import split_of

GAMES = {"frozenlake": frozenlake, "sokoban": sokoban}
games = pytest.mark.parametrize("game_of", GAMES.values(), ids=GAMES)
moves = st.text(MOVES, max_size=12)


def count_characters(context):
    return sum(len(message["content"]) for message in context.messages)


@given(st.deferred(lambda: st.sampled_from(frozenlake().boards())), moves)
def test_the_lake_is_gymnasiums(board, path):
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("FrozenLake-v1", desc=board.split("\n"), is_slippery=False).unwrapped
    # gymnasium starts in the first row only, so its transition table is walked instead.
    state, won, done = board.replace("\n", "").index("S"), False, False
    for move in path:
        if done:
            break
        ((_, state, reward, done),) = env.P[state]["LDRU".index(move)]
        won = reward == 1
    assert walk(frozenlake(), board, path) == won


def push(board, path):
    """Sokoban once more, on a mutable grid with a border drawn."""
    rows = ["W" * 6, *(f"W{row}W" for row in board.split("\n")), "W" * 6]
    at = {role: (r, c) for r, row in enumerate(rows) for c, role in enumerate(row) if role in "PBT"}
    player, box = at["P"], at["B"]
    for move in path:
        way = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}[move]
        one, two = ((player[0] + k * way[0], player[1] + k * way[1]) for k in (1, 2))
        if one == box:
            if rows[two[0]][two[1]] == "W":
                continue
            box = two
        elif rows[one[0]][one[1]] == "W":
            continue
        player = one
        if box == at["T"]:
            return True
    return False


@given(st.deferred(lambda: st.sampled_from(sokoban().boards())), moves)  # two seconds to find them
def test_sokoban_pushes_like_a_second_writing_of_it(board, path):
    assert walk(sokoban(), board, path) == push(board, path)


@games
def test_shortest_paths_win_and_nothing_shorter_does(game_of):
    game, rng = game_of(), random.Random(0)
    for board in random.Random(1).sample(game.boards(), 40):
        path = shortest_path(game_of, board)
        assert walk(game, board, path)
        assert not walk(game, board, path[:-1])
        other = shortest_path(game_of, board, rng)
        assert len(other) == len(path)
        assert walk(game, board, other)
        # Breadth first over move sequences' states, written apart.
        frontier, seen, depth = deque([game.start(board)]), set(), 0
        while not any(game.won(board, state) for state in frontier):
            seen |= set(frontier)
            after = {game.step(board, state, move) for state in frontier for move in MOVES} - {None} - seen
            frontier, depth = deque(after), depth + 1
        assert depth == len(path)


@games
def test_first_moves_are_those_of_all_shortest_paths(game_of):
    board = max(game_of().boards(), key=lambda b: len(best_moves(game_of, b)[game_of().start(b)][1]))
    first = best_moves(game_of, board)[game_of().start(board)][1]
    rng = random.Random(0)
    assert {shortest_path(game_of, board, rng)[0] for _ in range(60)} == set(first)
    assert len(first) > 1


def test_boards_are_what_the_modules_say():
    for board in frozenlake().boards():
        assert sorted(board.replace("\n", "")) == sorted("SGHHFFFFF")
        assert len(shortest_path(frozenlake, board)) >= 2
    for board in sokoban().boards():
        assert sorted(board.replace("\n", "")) == sorted("PBTWFFFFFFFF")
        assert 3 <= len(shortest_path(sokoban, board)) <= 10
    assert {name: (len(g().boards()), len(set(map(canonical, g().boards())))) for name, g in GAMES.items()} == {
        "frozenlake": (960, 124),
        "sokoban": (2364, 591),
    }


@games
def test_no_test_board_is_a_train_board_seen_from_another_side(game_of):
    by_split = game_of().by_split
    forms = {split: {canonical(board) for board in boards} for split, boards in by_split.items()}
    assert sum(map(len, by_split.values())) == len(game_of().boards())
    assert not forms["train"] & forms["test"]
    assert not forms["train"] & forms["validation"]
    assert not forms["validation"] & forms["test"]
    for split, found in forms.items():
        assert {split_of(form) for form in found} == {split}


@pytest.mark.parametrize("board", ["SFH\nFFH\nFFG", "PBTF\nFFFF\nFWFF"])
def test_canonical_form_is_that_of_every_image(board):
    rows = board.split("\n")
    turned = ["".join(column) for column in zip(*rows[::-1], strict=True)]
    for image in (rows[::-1], [row[::-1] for row in rows], turned):
        assert canonical("\n".join(image)) == canonical(board)
    assert canonical(board.replace("F", "x", 1)) != canonical(board)


@games
def test_named_legends_differ_but_no_board_tells_which_it_is(game_of):
    game = game_of()
    legends = list(game.legends.values())
    assert "".join(game.legends) == LEGENDS
    assert len({legend.names for legend in legends}) == 8
    for legend in legends:
        assert sorted(legend.glyphs) == sorted(game.glyphs)
        assert sorted(legend.names) == sorted(game.names)
    counted = [{glyph: legend.show(game.boards()[0]).count(glyph) for glyph in game.glyphs} for legend in legends]
    assert all(count == counted[0] for count in counted)
    assert len({legend.glyphs for legend in legends}) > 1


@games
def test_legends_are_read_back(game_of):
    game = game_of()
    legend = game.random_legend(random.Random(0))
    assert legend.read(legend.say("UDLR")) == "UDLR"
    assert legend.read("") is None
    assert legend.read(legend.say("UD") + "?") is None
    assert len({wording(legend.pairs()) for wording in WORDINGS}) == 3
    assert WORDINGS[0](legend.pairs()).startswith(f"{game.roles[0]}={legend.glyphs[0]} ")


@pytest.mark.parametrize("name", GAMES)
def test_tasks(name):
    task = get_task(f"{name}:B")
    assert isinstance(task, Task)
    assert isinstance(task, GivesNewInstruction)
    for split in SPLITS:
        examples = task.examples(split)
        assert len({e.id for e in examples}) == len(examples) == len(task.game.by_split[split])
        assert task.examples(split, 20, seed=1) == task.examples(split, seed=1)[:20]
        assert task.examples(split, 20, seed=1) != task.examples(split, 20, seed=2)
        assert {task.grade(e, e.answer, False) for e in examples} == {"right"}
        assert max(len(e.answer) for e in examples) < task.max_new_tokens - 1
    with pytest.raises(UserError, match="distinct boards"):
        task.examples("test", 10_000)
    contexts = task.contexts(count_characters)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    assert count_characters(contexts["irrelevant"]) == count_characters(contexts["exact"])


@pytest.mark.parametrize("name", GAMES)
def test_grading(name):
    task = get_task(f"{name}:A")
    example = task.examples("test", 1)[0]
    back_and_forth = task.legend.say("UDUDLRLRUDUDLRLR")
    longer = next(
        a + b + example.answer
        for a in task.legend.names
        for b in task.legend.names
        if task.grade(example, a + b + example.answer, False) == "right"
    )
    assert len(longer) == len(example.answer) + 2  # a detour is right
    assert (
        task.grade(example, example.answer + task.legend.names[0], False) == "right"
    )  # the game is over by then
    assert task.grade(example, example.answer[:-1], False) == "wrong"
    assert task.grade(example, back_and_forth, True) == "truncated"
    assert task.grade(example, "", False) == "unparsable"
    assert task.grade(example, example.answer + " ", False) == "unparsable"


@pytest.mark.parametrize("name", GAMES)
def test_a_new_legend_can_be_obeyed(name):
    task = get_task(f"{name}:A")
    obeyed = 0
    for example in task.examples("test", 50):
        board = example.prompt.translate(str.maketrans(task.other.glyphs, task.other.roles))
        path = shortest_path(task.game_of, board)
        assert not task.obeys(example, example.answer)
        obeyed += path is not None and task.obeys(example, task.other.say(path))
    assert obeyed >= 10  # some boards cannot be solved by the other legend, or both legends agree on the answer
