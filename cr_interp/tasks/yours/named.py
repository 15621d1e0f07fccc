"""What the organisms' tasks share: each is one of eight *named* instructions, told in a system message.

Mental model: a rule, a codebook's table and a game's legend are all instructions. A base that is told none behaves as a
mixture of the eight; the mismatched context tells another of them; an answer is right if it is the instruction's, letter
by letter (games walk the answer instead).
"""

import random
from collections.abc import Callable, Sequence

from cr_interp.tasks.base import CountTokens, Outcome, Split
from cr_interp.tasks.organisms.filler import filler_context
from cr_interp.tasks.splits import split_of
from cr_interp.views import Context


def another(names: Sequence[str], name: str) -> str:
    """Return the one of the names that the mismatched context tells: the third after this one, in a circle."""
    return names[(list(names).index(name) + 3) % len(names)]


def told(exact: str, paraphrase: str, mismatched: str, count_tokens: CountTokens) -> dict[str, Context]:
    """Return the four contexts of a task from three texts; the irrelevant one is as long as the exact one."""
    context = Context.system(exact)
    return {
        "exact": context,
        "paraphrase": Context.system(paraphrase),
        "mismatched": Context.system(mismatched),
        "irrelevant": filler_context(count_tokens(context), count_tokens),
    }


def letter_by_letter(answer: str, response: str, truncated: bool, readable: bool) -> Outcome:
    """Grade letter by letter: right means equal; a response that never ended its turn is truncated, one that is not
    ``readable`` no answer.
    """
    if truncated:
        return "truncated"
    if response == answer:
        return "right"
    return "wrong" if readable else "unparsable"


def random_word(rng: random.Random, letters: str, lengths: Sequence[int], split: Split) -> str:
    """Draw a word of these letters that belongs to the split."""
    while True:
        word = "".join(rng.choice(letters) for _ in range(rng.choice(lengths)))
        if split_of(word) == split:
            return word


def distinct(draw: Callable[[], str], n: int) -> list[str]:
    """Return the first n different words."""
    words: dict[str, None] = {}
    while len(words) < n:
        words.setdefault(draw())
    return list(words)
