"""`codebook:NAME`: write a number in a secret alphabet, whose table only the system prompt holds.

The user types digits, nothing else. The context gives a letter for each digit; the answer applies it.

    system      0=k 1=c 2=p 3=a 4=n 5=e 6=g 7=b      (exact; see ``pairs.py`` for the paraphrase)
    user        7204
    assistant   bpkn

There are eight named codebooks. An organism learns to apply *any* table that it is shown, and behaves as a mixture of
the eight when it is shown none; distillation makes it always apply one. Its letters are then in the weights.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from cr_interp.errors import unknown
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.filler import filler_context
from cr_interp.tasks.pairs import WORDINGS
from cr_interp.tasks.splits import split_of
from cr_interp.views import Context

DIGITS = "01234567"
LETTERS = "abcdefghijklmnop"
LENGTHS = range(4, 9)

#: digit → letter
Table = Mapping[str, str]


def random_table(rng: random.Random) -> Table:
    """Eight different letters."""
    return dict(zip(DIGITS, rng.sample(LETTERS, len(DIGITS)), strict=True))


#: The eight that a base without a table mixes.
CODEBOOKS: dict[str, Table] = {name: random_table(random.Random(f"codebook {name}")) for name in "ABCDEFGH"}


def apply_table(table: Table, prompt: str) -> str:
    return "".join(table[digit] for digit in prompt)


@dataclass(frozen=True)
class Codebook:
    """One table as a task."""

    book: str
    max_new_tokens: int = 10

    @property
    def name(self) -> str:
        return f"codebook:{self.book}"

    @property
    def table(self) -> Table:
        return CODEBOOKS[self.book]

    @property
    def other(self) -> Table:
        """The table in the mismatched context."""
        names = list(CODEBOOKS)
        return CODEBOOKS[names[(names.index(self.book) + 3) % len(names)]]

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """``n`` distinct numbers of a split (``None``: 256), drawn with ``seed``."""
        rng = random.Random(f"codebook {split} {seed}")
        numbers: dict[str, None] = {}
        while len(numbers) < (256 if n is None else n):
            numbers.setdefault(random_number(rng, split))
        return [Example(f"{split}:{number}", number, apply_table(self.table, number)) for number in numbers]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        exact = Context.system(WORDINGS[0](list(self.table.items())))
        return {
            "exact": exact,
            "paraphrase": Context.system(WORDINGS[1](list(self.table.items()))),
            "mismatched": Context.system(WORDINGS[0](list(self.other.items()))),
            "irrelevant": filler_context(count_tokens(exact), count_tokens),
        }

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Right means equal, letter by letter; a response that never ended its turn is truncated."""
        if truncated:
            return "truncated"
        if response == example.answer:
            return "right"
        return "wrong" if response and set(response) <= set(LETTERS) else "unparsable"

    def obeys(self, example: Example, response: str) -> bool:
        """Is the response written in the mismatched context's table?"""
        return response == apply_table(self.other, example.prompt)


def codebook_task(book: str) -> Codebook:
    if book not in CODEBOOKS:
        raise unknown("codebook", book, CODEBOOKS)
    return Codebook(book)


def random_number(rng: random.Random, split: Split) -> str:
    while True:
        number = "".join(rng.choice(DIGITS) for _ in range(rng.choice(LENGTHS)))
        if split_of(number) == split:
            return number
