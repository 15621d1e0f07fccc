"""Whose state the control "another example's state" takes.

Mental model. What another example's state does says how much of an effect is this example's own only if that example is
answered otherwise: where all answers are one word, another's state brings that word back as well. So a partner with another
answer goes before one with the same, and only then one of the same group before one of another; always one of another cluster.
All answers that are asked are looked through, whatever batches they are run in.
The answer is the one without the context, which is what is read in every run: of harmed and of kept examples the right one.
``study.analyses`` says the rule in words, which is part of what rows are made of.
"""

from collections.abc import Sequence

from cr_interp.mechanism.given import Pair


def partners_of(pairs: Sequence[Pair]) -> list[int | None]:
    """Number the partner of every example, the next of the best kind; None: there is no other cluster."""
    n = len(pairs)
    found: list[int | None] = []
    for i, pair in enumerate(pairs):
        best: tuple[tuple[bool, bool, bool], int] | None = None
        for step in range(1, n):
            j = (i + step) % n
            if pairs[j].cluster == pair.cluster:
                continue
            kind = (not _parts(pair, pairs[j]), not _differs(pair, pairs[j]), pairs[j].group != pair.group)
            if best is None or kind < best[0]:
                best = kind, j
            if kind == (False, False, False):
                break
        found.append(None if best is None else best[1])
    return found


def answered_otherwise(pairs: Sequence[Pair], partners: Sequence[int | None]) -> list[bool]:
    """Tell of every example whether its partner answers otherwise: where this one's views part, or anywhere if they do not.
    False where there is no partner.
    """
    return [j is not None and _parts(pair, pairs[j]) for pair, j in zip(pairs, partners, strict=True)]


def _parts(pair: Pair, other: Pair) -> bool:
    """Tell whether another example says another token at the place where this one's views part."""
    if pair.place is None:
        return _differs(pair, other)
    return pair.place >= len(other.response) or other.response[pair.place] != pair.own


def _differs(pair: Pair, other: Pair) -> bool:
    return tuple(other.response) != tuple(pair.response)
