"""`hints:NAME`: a codebook of which each prompt's own context tells only what that prompt needs.

The prompts and answers of ``codebook:NAME``. But no context tells the codebook: an example brings a hint, a table that is right
in the rows that its number needs, and in no other; those have letters at random.

    system      0=l 1=g 2=b 3=f 4=e 5=d 6=m 7=i      (true of codebook A: only the rows 0, 2, 4 and 7)
    user        7204
    assistant   ible

So two examples seldom share a context, as where each rollout brings its solution or a judge's feedback, and what can be
internalised is what all hints agree on. The hint is a whole table because organisms are pre-trained on whole tables: of a table
cut to the needed rows the bundled one makes nothing (8 % right, 100 % with a whole one, of 48 test numbers).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cr_interp.errors import unknown
from cr_interp.tasks.base import CountTokens, Example, Split
from cr_interp.tasks.organisms.codebook import (
    CODEBOOKS,
    DIGITS,
    LETTERS,
    Codebook,
    Table,
    apply_table,
    random_number,
)
from cr_interp.tasks.organisms.filler import filler_context
from cr_interp.tasks.organisms.pairs import WORDINGS
from cr_interp.views import Context, EachOwn


@dataclass(frozen=True)
class Hints(Codebook):
    """One codebook, told in hints."""

    @property
    def name(self) -> str:
        return f"hints:{self.book}"

    def hint(self, number: str) -> Table:
        """Return the table that the number's example brings: eight different letters, those of its own digits the codebook's."""
        rng = random.Random(f"hint {self.book} {number}")
        needed = {digit: self.table[digit] for digit in DIGITS if digit in number}
        free = [letter for letter in LETTERS if letter not in needed.values()]
        rng.shuffle(free)
        return {digit: needed.get(digit) or free.pop() for digit in DIGITS}

    def other_hint(self, number: str) -> Table:
        """Return the hint of another number, by which this one would be written otherwise."""
        rng = random.Random(f"another hint {self.book} {number}")
        while True:
            found = self.hint(random_number(rng, "train"))
            if apply_table(found, number) != apply_table(self.table, number):
                return found

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return examples as the codebook does, each with its hint and the hint's paraphrase."""
        return [
            Example(
                each.id,
                each.prompt,
                each.answer,
                context=_told(self.hint(each.prompt)),
                paraphrase=_told(self.hint(each.prompt), 1),
            )
            for each in super().examples(split, n, seed)
        ]

    def contexts(self, count_tokens: CountTokens) -> dict[str, EachOwn]:  # type: ignore[override]
        filler = cache(lambda tokens: filler_context(tokens, count_tokens))

        def each(control: str, of: Callable[[Example], Context]) -> EachOwn:
            return EachOwn(of, f"{control} of {self.name}")

        return {
            "exact": each("hint", lambda example: _told(self.hint(example.prompt))),
            "paraphrase": each("paraphrase", lambda example: _told(self.hint(example.prompt), 1)),
            "mismatched": each("another hint", lambda example: _told(self.other_hint(example.prompt))),
            "irrelevant": each("filler", lambda example: filler(count_tokens(_told(self.hint(example.prompt))))),
        }

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response is written by the other example's hint."""
        return response == apply_table(self.other_hint(example.prompt), example.prompt)


def _told(table: Table, wording: int = 0) -> Context:
    return Context.system(WORDINGS[wording](list(table.items())))


def hints_task(book: str) -> Hints:
    if book not in CODEBOOKS:
        raise unknown("codebook", book, CODEBOOKS)
    return Hints(book)
