"""The edge to the package ``textarena`` (extra ``games``): an environment as texts that it says and a reward that it gives.

Mental model: an :class:`Arena` is a game that was reset with a seed. What it has said since is one growing text, the log;
the rules it begins with are kept apart, found by the kind of message that ``textarena`` calls a prompt and not by their
words. So the log holds boards, moves and what came of them, and no rules.

``textarena`` seeds Python's global random numbers and keeps variables in its modules. Every call goes through
:func:`_alone`: one at a time, and with the random state put back, so that neither another game nor a training run notices.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from cr_interp.errors import UserError

_LOCK = RLock()


class Arena:
    """One game of one player. ``options`` are what ``textarena.make`` takes; the same seed gives the same game."""

    def __init__(self, env_id: str, options: dict[str, Any], seed: int):
        with _alone():
            self._env = _textarena().make(env_id, **options)
            self._env.reset(num_players=1, seed=seed)
        self.rules = ""
        self.log = ""
        """All that was said since the rules, a line ``[GAME] …`` or ``[Player] …`` each."""
        self.over = False
        self._listen()

    def step(self, move: str) -> None:
        """Play ``move`` as the environment understands it, such as ``[up]``."""
        with _alone():
            self.over, _ = self._env.step(move)
        self._listen()

    @property
    def won(self) -> bool:
        """Only the full reward is a success: less says how near a lost game came."""
        with _alone():
            rewards, _ = self._env.close()
        return rewards is not None and rewards[0] >= 1

    def _listen(self) -> None:
        kinds, game = _textarena().ObservationType, _textarena().GAME_ID
        with _alone():
            _, messages = self._env.get_observation()
        for sender, message, kind in messages:
            if kind == kinds.PROMPT:
                self.rules += message
            else:
                self.log += f"\n[{'GAME' if sender == game else 'Player'}] {message.rstrip()}"


def grid(log: str) -> str:
    """Return the first board in a log, a character a cell (``_`` for an empty one) and a line a row, however it was drawn.

    >>> grid("[GAME] Current Board:\\n\\n+---+---+\\n| P |   |\\n+---+---+\\n| H | G |\\n+---+---+\\n\\nAvailable …")
    'P_\\nHG'
    >>> grid("[GAME] Current Board:\\n\\n# # #\\n# P _\\n\\nAvailable …")
    '###\\n#P_'
    """
    drawn = log.partition("Board:\n\n")[2].partition("\n\n")[0].splitlines()
    rows = [line for line in drawn if not line.startswith("+")]
    return "\n".join(
        "".join(cell.strip() or "_" for cell in row.strip("|").split("|")) if "|" in row else row.replace(" ", "")
        for row in rows
    )


@contextmanager
def _alone() -> Iterator[None]:
    with _LOCK:
        state = random.getstate()
        try:
            yield
        finally:
            random.setstate(state)


def _textarena() -> Any:
    try:
        with _alone():  # importing it draws random numbers, too
            import textarena
    except ImportError as error:
        raise UserError(
            f"This game comes from the package textarena, which cannot be imported ({error}). Install the extra 'games': "
            f"`pip install 'cr-interp[games]'`."
        ) from error
    return textarena
