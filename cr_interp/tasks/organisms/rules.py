"""`rules:NAME`: transform a string by a rule that only the system prompt names.

The task of the organisms. The user types a string of letters, nothing else; which of the eight rules
applies is known from the context alone. Without it, a base organism answers with a mixture of the rules;
distillation makes it always apply one.

    system      write the next letter for each      (exact; see WORDINGS for the paraphrases)
    user        dabc
    assistant   ebcd

Strings are assigned to train, validation or test by a hash, so the splits are disjoint by construction,
and pre-training draws from the train strings only.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from cr_interp.errors import unknown
from cr_interp.tasks.base import CountTokens, Example, Outcome, Split
from cr_interp.tasks.yours.named import another, distinct, letter_by_letter, random_word, told
from cr_interp.views import Context

LETTERS = "abcdefghijklmnop"
LENGTHS = range(4, 9)

#: name → what the rule does to a string of LETTERS.
RULES: dict[str, Callable[[str], str]] = {
    "copy": lambda s: s,
    "shift": lambda s: "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in s),
    "mirror": lambda s: "".join(LETTERS[-1 - LETTERS.index(c)] for c in s),
    "reverse": lambda s: s[::-1],
    "swap": lambda s: "".join(s[i : i + 2][::-1] for i in range(0, len(s), 2)),
    "rotate": lambda s: s[1:] + s[:1],
    "double": lambda s: "".join(2 * c for c in s),
    "upper": lambda s: s.upper(),
}

#: Three ways to name each rule; the first is the exact context, the second its paraphrase.
WORDINGS: dict[str, tuple[str, str, str]] = {
    "copy": ("write the letters as they are", "repeat the text", "copy what you read"),
    "shift": ("write the next letter for each", "shift every letter by one", "move up the alphabet"),
    "mirror": ("mirror the alphabet", "turn first letters into last ones", "use the opposite letter"),
    "reverse": ("write it backwards", "reverse the text", "start from the end"),
    "swap": ("swap the letters in pairs", "exchange neighbours", "flip each pair"),
    "rotate": ("put the first letter last", "rotate by one", "move the head to the end"),
    "double": ("write each letter twice", "double every letter", "say all of it two times"),
    "upper": ("write in capitals", "use big letters", "make it upper case"),
}


@dataclass(frozen=True)
class Rules:
    """One rule as a task."""

    rule: str
    max_new_tokens: int = 18  # `double` turns eight letters into sixteen, and the end of turn

    @property
    def name(self) -> str:
        return f"rules:{self.rule}"

    @property
    def other(self) -> str:
        """The rule that the mismatched context names."""
        return another(list(RULES), self.rule)

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """Return ``n`` distinct strings of a split (``None``: 256), drawn with ``seed``."""
        rng = random.Random(f"rules {split} {seed}")
        strings = distinct(lambda: random_string(rng, split), 256 if n is None else n)
        return [Example(f"{split}:{s}", s, RULES[self.rule](s)) for s in strings]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        exact, paraphrase, _ = WORDINGS[self.rule]
        return told(exact, paraphrase, WORDINGS[self.other][0], count_tokens)

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Grade a response: any letters are an answer, right or wrong."""
        return letter_by_letter(example.answer, response, truncated, response.isalpha() and response.isascii())

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response is the answer of the rule that the mismatched context names, and not of this one."""
        answer = RULES[self.other](example.prompt)
        return response == answer != example.answer


def rules_task(rule: str) -> Rules:
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    return Rules(rule)


def random_string(rng: random.Random, split: Split) -> str:
    return random_word(rng, LETTERS, LENGTHS, split)
