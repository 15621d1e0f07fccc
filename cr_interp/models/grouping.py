"""Which sequences of a batch are worth running apart, because they share more with each other than with the rest.

Mental model. With one context for all, a batch has one long common prefix, which is computed once (``forward.py``). Where
examples bring contexts of their own there is none: then several rollouts behind one hint, or hints behind one long preamble,
still share much with each other. :func:`sharing` finds these groups; each is a view of its own with a prefix of its own. If what
they save is little, all sequences stay together: a forward more costs more than a few tokens.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

#: Tokens that neighbours have to share beyond what all do, and the share of all tokens that has to be saved.
LEAST, WORTH = 32, 0.25


def sharing(sequences: Sequence[Sequence[int]], least: int = LEAST, worth: float = WORTH) -> list[list[int]]:
    """Group the places of the sequences that are run together; those that share with nobody are one group.

    >>> sharing([[1, 2, 3, 9], [7, 7, 7, 7], [1, 2, 3, 8]], least=2)
    [[0, 2], [1]]
    >>> sharing([[1, 2], [3, 4]])
    [[0, 1]]
    """
    everyone = [list(range(len(sequences)))]
    if len(sequences) < 3:
        return everyone
    order = sorted(range(len(sequences)), key=lambda place: list(sequences[place]))
    shared = [_common(sequences[a], sequences[b]) for a, b in pairwise(order)]
    by_all = min(shared)
    groups, alone, saved, start = [], [], 0, 0
    for end in range(1, len(order) + 1):
        if end < len(order) and shared[end - 1] - by_all >= least:
            continue
        if end - start > 1:
            groups.append(sorted(order[start:end]))
            saved += (end - start - 1) * (min(shared[start : end - 1]) - by_all)
        else:
            alone.append(order[start])
        start = end
    if saved < worth * sum(len(each) - by_all for each in sequences):
        return everyone
    return sorted(groups + ([sorted(alone)] if alone else []))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return length of the common prefix that leaves both at least one token of their own."""
    most = min(len(one), len(other)) - 1
    return next((i for i in range(most) if one[i] != other[i]), max(most, 0))


def put_together(
    groups: Sequence[Sequence[int]], lengths: Sequence[int], states: Sequence[Float[Tensor, "some width"]]
) -> Float[Tensor, "token width"]:
    """Put the states of all groups in the order of the rows; ``lengths`` are the aligned positions of each row."""
    pieces: dict[int, Tensor] = {}
    for group, found in zip(groups, states, strict=True):
        pieces |= dict(zip(group, found.split([lengths[row] for row in group]), strict=True))
    return torch.cat([pieces[row] for row in range(len(lengths))])
