"""Which examples of a study belong together, where its table does not say: studies that are older than the column.

Mental model: an example's ``cluster`` (see :class:`~cr_interp.tasks.base.Example`) is written beside its answers. Older tables
lack it, but the ids of the built-in tasks say what an example was made of: a sentiment id ends with its frame, a board's id
*is* the board. Every other example is a cluster of its own, as it is in a table that says so.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache

from cr_interp.tasks.games.grids import canonical

_REVIEW = re.compile(r"(sentiment-\w+-\w+-\d+)-\d+")
_BOARD = re.compile(r"(train|validation|test):([A-Z]+(?:/[A-Z]+)+)")


def clusters_of(task: str, example_ids: Iterable[str]) -> list[str]:
    """Return the cluster of each example of a built-in task, from its id alone.

    >>> clusters_of("sentiment", ["sentiment-test-positive-03-05"])
    ['sentiment-test-positive-03']
    >>> clusters_of("rules:shift", ["test:abc"])
    ['test:abc']
    """
    family = task.partition(":")[0]
    families: dict[str, Callable[[str], str]] = {"sentiment": _phrase, "frozenlake": _orbit, "sokoban": _orbit}
    of = families.get(family, str)
    return [of(str(each)) for each in example_ids]


def _phrase(example_id: str) -> str:
    found = _REVIEW.fullmatch(example_id)
    return found[1] if found else example_id


@cache
def _orbit(example_id: str) -> str:
    """Return the board's canonical form; boards of other games, whose ids are numbers, stay alone."""
    found = _BOARD.fullmatch(example_id)
    if not found:
        return example_id
    return f"{found[1]}:{canonical(found[2].replace('/', chr(10))).replace(chr(10), '/')}"
