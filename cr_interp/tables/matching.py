"""Where two sequences agree: common beginning and end, and in between what ``difflib`` finds, as long as that is cheap.

``difflib`` compares every element with all of its equals on the other side: quick on prose, minutes on a long response of
a few letters. :func:`opcodes` counts these comparisons first and gives up on the middle rather than on the page.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

#: kind ("equal" or other), start and end in the first sequence, start and end in the second
Step = tuple[str, int, int, int, int]

#: Pairs of equal elements in the middle up to which it is matched; beyond, it counts as different as a whole.
PATIENCE = 60_000


def opcodes(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Step]:
    """Return steps that turn ``one`` into ``other``, as ``SequenceMatcher.get_opcodes`` gives them.

    >>> opcodes("abcd", "abd")
    [('equal', 0, 2, 0, 2), ('delete', 2, 3, 2, 2), ('equal', 3, 4, 2, 3)]
    """
    shorter = min(len(one), len(other))
    head = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    tail = next((i for i in range(shorter - head) if one[-1 - i] != other[-1 - i]), shorter - head)
    a, b = one[head : len(one) - tail], other[head : len(other) - tail]
    steps: list[Step] = [("equal", 0, head, 0, head)] if head else []
    if _pairs(a, b) > PATIENCE:
        steps.append(("replace", head, head + len(a), head, head + len(b)))
    else:
        for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            steps.append((kind, head + i, head + j, head + k, head + m))
    if tail:
        steps.append(("equal", len(one) - tail, len(one), len(other) - tail, len(other)))
    return steps


def agreement(steps: Sequence[Step], one: int, other: int) -> float:
    """Measure which share of both sequences, of these lengths, is equal: 1 if they are the same, also if both are empty."""
    equal = sum(j - i for kind, i, j, _, _ in steps if kind == "equal")
    return 2 * equal / (one + other) if one + other else 1.0


def _pairs(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    there = Counter(other)
    return sum(count * there[each] for each, count in Counter(one).items())
