"""Three ways to write down what stands for what: a codebook's table, a game's legend.

The meaning always comes before its sign, so that one circuit (a sign looks back for its meaning) can read them all.
"""

from collections.abc import Callable, Sequence

#: (what is meant, what stands for it), in the order in which they are told.
Pairs = Sequence[tuple[str, str]]

#: The first is the exact context; the second, told from the end, its paraphrase.
WORDINGS: tuple[Callable[[Pairs], str], ...] = (
    lambda pairs: " ".join(f"{meaning}={sign}" for meaning, sign in pairs),
    lambda pairs: " ".join(f"{meaning}:{sign}" for meaning, sign in reversed(pairs)),
    lambda pairs: ", ".join(f"{meaning}{sign}" for meaning, sign in pairs),
)
