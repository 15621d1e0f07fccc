"""`textarena:frozenlake` and `textarena:sokoban`: TextArena's games as the paper plays them, in at most five turns.

FrozenLake on 3 × 3 with two holes, from the upper left corner to the lower right one; Sokoban on 6 × 6 with one box.
Settings and protocol are OPCD's (its functions ``_make_textgame_envs`` and ``generate_sequences_textgame``):

- A turn is one user message that holds everything since the start. The rules and the legend of the symbols are not in it;
  they are the context, which is spliced in front. Their words are TextArena's own, taken from the game when it starts.
- The move is the last one that a response writes in square brackets. Without one the game is told so, and it ends a game
  after the second invalid move in a row, as it does when the player walks into a wall twice.
- Only the full reward counts. What the game says about a move stays in the log ("hit a wall"), as there.

The wording around log and context is ours. Two things differ from OPCD, whose seeds draw the same boards for training and
testing: an example is a *board*, however many seeds give it, and the splits share no board, nor one seen in a mirror or
turned. FrozenLake then has 8 boards to train on, 4 to validate and 7 to test, which are all there are, each won in four
moves at best: play them repeatedly with ``samples``, for as examples they would count as independent. For Sokoban 2048
seeds are looked at, which draw 1378 boards: 962, 150 and 266. Of the boards of the first 250 seeds 14 % cannot be won in
five turns, and 30 % are won in one; no accuracy can be above the rest.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from cr_interp.errors import UserError, unknown
from cr_interp.tasks.base import SPLITS, CountTokens, Example, Outcome, Split
from cr_interp.tasks.games.arena import Arena, grid
from cr_interp.tasks.games.grids import canonical
from cr_interp.tasks.games.transcript import replay
from cr_interp.tasks.lengths import irrelevant_in_place
from cr_interp.views import Context

MAX_TURNS = 5

#: As TextArena reads moves, but for taking the last one: a response may weigh several before it decides.
MOVE = re.compile(r"\[\s*(up|down|left|right|w|a|s|d)\s*\]", re.IGNORECASE)
#: What is played when a response names no move.
NO_MOVE = "[no move]"

PROMPT = (
    "You are playing a game on a grid, and you are the P on it. At each turn you take one step; try to win in as few as "
    "possible. A step is written [up], [down], [left] or [right], or for short [w], [s], [a] or [d].\n\n"
    "The game so far:\n{log}\n\n"
    "Which step do you take? Write it in square brackets at the end of your answer."
)
SPLICE = "Somebody has told you the rules of this game:\n\n{rules}\n\n{prompt}"


@dataclass(frozen=True)
class Game:
    env_id: str
    options: tuple[tuple[str, Any], ...]
    seeds: int
    """Looked at for distinct boards."""
    shares: tuple[float, float]
    """Of the boards, up to symmetry, for training and validation; the rest is for testing."""
    retold: str
    """The rules in other words: the paraphrase."""


GAMES: dict[str, Game] = {
    "frozenlake": Game(
        "FrozenLake-v0-raw",
        (("size", 3), ("num_holes", 2), ("randomize_start_goal", False)),
        seeds=512,
        shares=(0.4, 0.2),
        retold="This is a frozen lake seen from above. The letter P is where you stand and G is where you want to get; "
        "whoever reaches G has won. A cell without a letter is ice that carries you. A cell with an H is open water: "
        "step on it and the game is lost. You begin in the upper left corner and G is in the lower right one. A step "
        "goes up, down, left or right, and you may also call these w, s, a and d.",
    ),
    "sokoban": Game(
        "Sokoban-v0-raw",
        (("dim_room", (6, 6)), ("num_boxes", 1)),
        seeds=2048,
        shares=(0.7, 0.1),
        retold="This is a warehouse seen from above, and P is you. An X is a box, an O is a place where a box belongs, and a "
        "√ is a box that has got there; when every box has, you have won. A # is a wall. If you step towards a box that "
        "is beside you, it is pushed one cell onward, unless a wall is behind it; boxes are never pulled. The steps "
        "up, left, down and right are also called w, a, s and d.",
    ),
}


def open_arena(game: str, seed: int) -> Arena:
    return Arena(GAMES[game].env_id, dict(GAMES[game].options), seed)


@cache
def boards(game: str) -> dict[Split, tuple[Example, ...]]:
    """Return the distinct boards of each split, each with the lowest seed that draws it. The answer is empty: a game is
    played, not compared.

    Boards that are images of one another go together, as a cluster that is named after its first board; the clusters' order,
    by a hash, decides the split.
    """
    first: dict[str, tuple[int, str]] = {}
    for seed in range(GAMES[game].seeds):
        arena = open_arena(game, seed)
        first.setdefault(grid(arena.log), (seed, ArenaEpisode(arena).prompt))
    kinds: dict[str, list[tuple[int, str]]] = {}
    for board, drawn in first.items():
        kinds.setdefault(canonical(board), []).append(drawn)
    order = sorted(kinds, key=lambda kind: hashlib.blake2b(kind.encode()).hexdigest())
    train, validation = (round(len(order) * share) for share in GAMES[game].shares)
    parts = order[:train], order[train : train + validation], order[train + validation :]
    return {
        split: tuple(
            Example(f"{split}:{seed}", prompt, "", cluster=f"{split}:{kinds[kind][0][0]}")
            for kind in part
            for seed, prompt in kinds[kind]
        )
        for split, part in zip(SPLITS, parts, strict=True)
    }


class ArenaEpisode:
    """Fulfils :class:`cr_interp.tasks.base.Episode`."""

    def __init__(self, arena: Arena):
        self._arena = arena
        self._turns = 0
        self._wordless: list[bool] = []
        """Of the turns that named no move: was the response cut off?"""

    @property
    def prompt(self) -> str:
        return PROMPT.format(log=self._arena.log.strip())

    @property
    def done(self) -> bool:
        return self._arena.over or self._turns == MAX_TURNS

    @property
    def outcome(self) -> Outcome:
        """A game that was not won is ``truncated`` if a response was cut off before it named a move, else ``unparsable``
        if one named none, else ``wrong``."""
        if self._arena.won:
            return "right"
        if not self._wordless:
            return "wrong"
        return "truncated" if any(self._wordless) else "unparsable"

    def act(self, response: str, truncated: bool) -> None:
        move = read_move(response)
        if move is None:
            self._wordless.append(truncated)
        self._turns += 1
        self._arena.step(move or NO_MOVE)


def read_move(response: str) -> str | None:
    """Read the last move that a response names, in brackets; None if it names none.

    >>> read_move("Not [left], there is a hole. So: [ Down ]")
    '[down]'
    >>> read_move("left") is None
    True
    """
    moves = MOVE.findall(response)
    return f"[{moves[-1].lower()}]" if moves else None


@dataclass(frozen=True)
class ArenaTask:
    """Fulfils :class:`cr_interp.tasks.base.Task` and ``TakesTurns``. ``max_new_tokens`` is of a turn."""

    game: str
    max_new_tokens: int = 1024

    @property
    def name(self) -> str:
        return f"textarena:{self.game}"

    @property
    def max_turns(self) -> int:
        return MAX_TURNS

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return ``n`` distinct boards of a split (``None``: all), in an order fixed by ``seed``."""
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        found = boards(self.game)[split]
        if n is not None and not 0 <= n <= len(found):
            raise UserError(
                f"Asked for {n} examples of the {split} split of task '{self.name}', which has {len(found)} distinct "
                f"boards. Ask for 0 to {len(found)}; for more episodes of each, set evaluation.samples."
            )
        return random.Random(f"{self.name} {split} {seed}").sample(found, len(found))[:n]

    def start(self, example: Example) -> ArenaEpisode:
        return ArenaEpisode(open_arena(self.game, int(example.id.rpartition(":")[2])))

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        """Return TextArena's rules, the same retold, the other game's rules, and filler; all spliced in front of the prompt."""
        other = next(name for name in GAMES if name != self.game)
        contexts = {
            "exact": in_front(open_arena(self.game, 0).rules),
            "paraphrase": in_front(GAMES[self.game].retold),
            "mismatched": in_front(open_arena(other, 0).rules),
        }
        irrelevant = irrelevant_in_place(in_front, contexts["exact"], count_tokens)
        return contexts if irrelevant is None else {**contexts, "irrelevant": irrelevant}

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Play the game that a transcript tells again, and return its outcome."""
        return replay(self.start(example), response, truncated)


def in_front(text: str) -> Context:
    return Context(splice=SPLICE.replace("{rules}", text.strip()))


def arena_task(game: str) -> ArenaTask:
    if game not in GAMES:
        raise unknown("game of textarena", game, GAMES)
    return ArenaTask(game)
