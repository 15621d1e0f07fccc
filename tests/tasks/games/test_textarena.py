"""TextArena's games as tasks: what is told without the context, how moves are read, when a game ends, and that it is alone."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cr_interp.errors import UserError
from cr_interp.measure.turns import play
from cr_interp.models.generation import Response
from cr_interp.tasks import get_task
from cr_interp.tasks.base import SPLITS, TakesTurns, Task
from cr_interp.tasks.games.arena import grid
from cr_interp.tasks.games.grids import canonical
from cr_interp.tasks.games.textarena import GAMES, MAX_TURNS, open_arena, read_move
from cr_interp.tasks.games.transcript import transcript

pytest.importorskip("textarena", reason="the extra `games` is not installed")

MOVES = ("[up]", "[down]", "[left]", "[right]")


def task(game):
    return get_task(f"textarena:{game}")


def count(context):
    return len(context.splice.split())


def best_play(game, example, turns):
    """Moves that win in at most so many turns; None if none do."""
    frontier = [[]]
    for _ in range(turns):
        longer = []
        for moves in frontier:
            for move in MOVES:
                episode = task(game).start(example)
                for each in (*moves, move):
                    episode.act(each, truncated=False)
                if episode.outcome == "right":
                    return [*moves, move]
                if not episode.done:
                    longer.append([*moves, move])
        frontier = longer
    return None


@pytest.mark.parametrize("game", GAMES)
def test_it_is_a_task_with_turns(game):
    assert isinstance(task(game), Task)
    assert isinstance(task(game), TakesTurns)
    assert task(game).max_turns == MAX_TURNS == 5


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_rules_and_legend_are_in_the_context_and_nowhere_else(game):
    made = task(game)
    rules = open_arena(game, 0).rules
    context = made.contexts(count)["exact"]
    assert rules.strip() in context.splice
    lines = [line.strip() for line in rules.splitlines() if line.strip()]
    assert len(lines) > 6
    for example in made.examples("validation", 4):
        episode = made.start(example)
        assert episode.prompt == example.prompt
        for _ in range(3):
            said = episode.prompt
            assert not [line for line in lines if line in said]
            for word in ("hole", "goal", "ice", "wall", "box", "target", "puzzle", "lose"):
                # What the game answers to a move is part of the log; nothing before that may explain a symbol.
                assert word not in said.partition("[Player]")[0].lower()
            episode.act("[up]", truncated=False)
            if episode.done:
                break


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_turn_holds_everything_since_the_start(game):
    made = task(game)
    example = next(e for e in made.examples("train") if best_play(game, e, 2) is None)
    episode, log = made.start(example), ""
    for number, move in enumerate(MOVES):
        if episode.done:
            break
        now = episode.prompt.partition("The game so far:\n")[2].rpartition("\n\nWhich step")[0]
        assert now.startswith(log)
        assert now.count("[Player]") == number
        episode.act(f"I think {move}", truncated=False)
        log = now


def test_the_last_move_in_brackets_counts():
    assert read_move("[up]? No, a hole. [Left]") == "[left]"
    assert read_move("[ d ]") == "[d]"
    assert read_move("<think>[up]") == "[up]"
    for nothing in ("", "left", "[north]", "[left or right]", "(up)"):
        assert read_move(nothing) is None


def test_a_game_is_won_by_its_full_reward_only():
    made = task("frozenlake")
    example = made.examples("test", 1)[0]
    moves = best_play("frozenlake", example, 4)
    assert len(moves) == 4
    won = made.start(example)
    for move in moves:
        assert not won.done
        won.act(move, truncated=False)
    assert won.done
    assert won.outcome == "right"
    # One step from the goal is most of the way, which the game pays for; here it is nothing.
    near = open_arena("frozenlake", int(example.id.split(":")[1]))
    for move in moves[:-1]:
        near.step(move)
    against = next(m for m in MOVES if not walks(near, m))
    near.step(against), near.step(against)
    assert near.over
    assert 0 < near._env.state.rewards[0] < 1
    assert not near.won


def walks(arena, move):
    from copy import deepcopy

    env = deepcopy(arena._env)
    before = env.state.game_state["player_pos"]
    env.step(move)
    return env.state.game_state["player_pos"] != before


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_players_who_know_the_way_win_together(game):
    made = task(game)
    examples = [e for e in made.examples("train")[:8] if best_play(game, e, 4)]
    paths = [best_play(game, e, 4) for e in examples]

    def sample(prompts, rows, turn):
        return [Response(tuple(map(ord, paths[row][turn])), truncated=False) for row in rows]

    episodes = play(
        made, examples, lambda text, row: list(map(ord, text)), sample, lambda r: "".join(map(chr, r.ids))
    )
    assert len(episodes) > 3
    assert {episode.outcome for episode in episodes} == {"right"}
    assert [len(episode.turns) for episode in episodes] == list(map(len, paths))


@pytest.mark.parametrize("game", GAMES)
def test_five_turns_and_no_more(game):
    made = task(game)
    lengths, to_and_fro = (
        set(),
        (("[up]", "[down]"), ("[left]", "[right]"), ("[down]", "[up]"), ("[right]", "[left]")),
    )
    for example in made.examples("train", 4):
        for pair in to_and_fro:
            episode, turns = made.start(example), 0
            while not episode.done:
                episode.act(pair[turns % 2], truncated=False)
                turns += 1
            lengths.add((turns, episode._arena.over, episode.outcome))
    assert max(lengths)[0] == 5
    assert (5, False, "wrong") in lengths  # the game itself would have gone on


def test_what_kind_of_failure_it_was():
    made = task("frozenlake")
    example = made.examples("test", 1)[0]

    def outcome(*turns):
        episode = made.start(example)
        for text, truncated in turns:
            assert not episode.done
            episode.act(text, truncated)
        assert episode.done
        return episode.outcome

    assert outcome(("[up]", False), ("[up]", False)) == "wrong"
    assert outcome(("up", False), ("[up]", False)) == "unparsable"
    assert outcome(("let me think", True), ("up", False)) == "truncated"
    assert outcome(("[up] and then", True), ("[up]", False)) == "wrong"  # it had said its move


@pytest.mark.parametrize("game", GAMES)
def test_an_example_is_the_same_game_every_time(game):
    made = task(game)
    example = made.examples("train", 1)[0]

    def prompts():
        episode, seen = made.start(example), []
        while not episode.done:
            seen.append(episode.prompt)
            episode.act(MOVES[len(seen) % 4], truncated=False)
        return [*seen, episode.outcome]

    expected = prompts()
    random.seed(1)
    assert prompts() == expected
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(lambda _: prompts(), range(16)))


@pytest.mark.parametrize("game", GAMES)
def test_nobody_elses_random_numbers_move(game):
    random.seed(5)
    before = random.getstate()
    made = task(game)
    example = made.examples("test", 2)[0]
    episode = made.start(example)
    while not episode.done:
        episode.act("[down]", truncated=False)
    assert random.getstate() == before


@pytest.mark.slow
def test_not_even_by_the_import():
    code = (
        "import random; random.seed(3); s = random.getstate(); from cr_interp.tasks import get_task;"
        "get_task('textarena:frozenlake').examples('test'); assert random.getstate() == s;"
        "import sys; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("game", "expected"), [("frozenlake", [8, 4, 7]), ("sokoban", [962, 150, 266])])
def test_the_splits_share_no_board_however_it_is_turned(game, expected):
    kinds, boards = {}, set()
    for split in SPLITS:
        drawn = [grid(e.prompt) for e in task(game).examples(split)]
        assert len(set(drawn)) == len(drawn)
        kinds[split] = {canonical(board) for board in drawn}
        boards |= set(drawn)
    assert [len(task(game).examples(split)) for split in SPLITS] == expected
    assert len(boards) == sum(expected)
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not kinds[one] & kinds[other]


def test_all_boards_of_the_lake_are_found_and_can_be_won():
    # Two of seven cells are holes; two of the 21 ways cut off the start or the goal.
    made = task("frozenlake")
    every = [e for split in SPLITS for e in made.examples(split)]
    assert len(every) == 19
    assert all(len(best_play("frozenlake", e, 4)) == 4 for e in every[:6])


@pytest.mark.parametrize("game", GAMES)
def test_the_order_is_the_seeds_and_more_than_there_are_is_refused(game):
    made = task(game)
    assert made.examples("test", 5) == made.examples("test", 5)
    assert made.examples("test", 5, seed=1) != made.examples("test", 5)
    with pytest.raises(UserError, match=r"distinct boards. Ask for 0 to \d+; for more episodes of each"):
        made.examples("test", 100_000)


@pytest.mark.parametrize("game", GAMES)
def test_contexts_and_their_lengths(game):
    contexts = task(game).contexts(count)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    assert len({context.splice for context in contexts.values()}) == 4
    assert abs(count(contexts["irrelevant"]) - count(contexts["exact"])) <= 2
    other = next(name for name in GAMES if name != game)
    assert contexts["mismatched"] == task(other).contexts(count)["exact"]


def test_a_transcript_is_graded_as_the_game_it_tells():
    made = task("frozenlake")
    example = made.examples("test", 1)[0]
    moves = best_play("frozenlake", example, 4)
    assert made.grade(example, transcript(moves), truncated=False) == "right"
    assert made.grade(example, transcript(moves[:-1]), truncated=False) == "wrong"
    assert made.grade(example, "hm", truncated=True) == "truncated"


def test_without_the_package_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(UserError, match=r"pip install 'cr-interp\[games\]'"):
        open_arena("frozenlake", 0)
    with pytest.raises(UserError, match="Did you mean 'textarena:sokoban'"):
        get_task("textarena:sokobann")
