"""A task in Python, for prompts that are made by a program or a grader of one's own.

Try it as it is:   cr-interp reproduce study.yaml
The file is run when you name it (in a configuration, or with --task); task() at its end is what is asked for.
"""

import random
from dataclasses import dataclass

from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.lengths import FILLER, equal_length
from cr_interp.tasks.splits import split_of
from cr_interp.views import Context

LETTERS = "abcdefghijklmnop"


def swapped(text: str) -> str:
    return "".join(text[i : i + 2][::-1] for i in range(0, len(text), 2))


@dataclass(frozen=True)
class Mine:
    """Strings of letters, to be answered with each pair swapped; the context says so, and nothing else does."""

    name: str = "NAME"
    max_new_tokens: int = 18  # the end of turn included; a response that reaches it is graded as truncated

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return n prompts of a split, in an order that the seed fixes. The splits have to be disjoint: here by a hash."""
        rng = random.Random(f"{split} {seed}")
        found: dict[str, Example] = {}
        while len(found) < (256 if n is None else n):
            text = "".join(rng.choices(LETTERS, k=rng.randint(4, 8)))
            if split_of(text) == split:
                found[text] = Example(id=f"{split}:{text}", prompt=text, answer=swapped(text))
        return list(found.values())

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        """Give what the teacher sees, and the controls; only "exact" has to be there."""
        exact = Context.system("swap the letters in pairs")
        return {
            "exact": exact,
            "paraphrase": Context.system("exchange neighbours"),
            "mismatched": Context.system("write in capitals"),
            "irrelevant": equal_length(Context.system("the"), count_tokens(exact), FILLER, count_tokens),
        }

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Grade a response: right, wrong, unparsable (no answer at all) or truncated (cut off before there was one)."""
        if truncated:
            return "truncated"
        if response == example.answer:
            return "right"
        return "wrong" if response.isalpha() else "unparsable"


def task() -> Mine:
    return Mine()
