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
from cr_interp.tasks.organisms.pairs import WORDINGS
from cr_interp.tasks.yours.named import another, distinct, letter_by_letter, random_word, told
from cr_interp.views import Context

DIGITS = "01234567"
LETTERS = "abcdefghijklmnop"
LENGTHS = range(4, 9)

#: digit → letter
Table = Mapping[str, str]


def random_table(rng: random.Random) -> Table:
    """Draw eight different letters."""
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
        return CODEBOOKS[another(list(CODEBOOKS), self.book)]

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return ``n`` distinct numbers of a split (``None``: 256), drawn with ``seed``."""
        rng = random.Random(f"codebook {split} {seed}")
        numbers = distinct(lambda: random_number(rng, split), 256 if n is None else n)
        return [Example(f"{split}:{number}", number, apply_table(self.table, number)) for number in numbers]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        own, other = list(self.table.items()), list(self.other.items())
        return told(WORDINGS[0](own), WORDINGS[1](own), WORDINGS[0](other), count_tokens)

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        readable = bool(response) and set(response) <= set(LETTERS)
        return letter_by_letter(example.answer, response, truncated, readable)

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response is written in the mismatched context's table."""
        return response == apply_table(self.other, example.prompt)


def codebook_task(book: str) -> Codebook:
    if book not in CODEBOOKS:
        raise unknown("codebook", book, CODEBOOKS)
    return Codebook(book)


def random_number(rng: random.Random, split: Split) -> str:
    return random_word(rng, DIGITS, LENGTHS, split)
