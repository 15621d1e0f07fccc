"""A game without a package, and a player that says what it is told to: what a loop over turns does, step by step."""

from dataclasses import dataclass, replace

from cr_interp.errors import UserError
from cr_interp.models.generation import Response
from cr_interp.tasks.base import Example
from cr_interp.tasks.games.transcript import replay
from cr_interp.views import Context, EachOwn


@dataclass(frozen=True)
class Guess:
    """Say the secret letter within ``max_turns``; every prompt lists the guesses so far. A ``q`` gives up."""

    max_new_tokens: int = 4
    max_turns: int = 3
    name: str = "guess"

    def examples(self, split, n=None, seed=0):
        found = [Example(f"{split}:{letter}", "Guess:", letter) for letter in "abcdefgh"]
        if n is not None and n > len(found):
            raise UserError(f"There are {len(found)} letters.")
        return found[:n]

    def contexts(self, count_tokens):
        return {
            "exact": Context(splice="It is a letter.\n{prompt}"),
            "irrelevant": Context.system("It is raining."),
        }

    def start(self, example):
        return _Guessing(example.answer, self.max_turns)

    def grade(self, example, response, truncated):
        return replay(self.start(example), response, truncated)


class Uneven(Guess):
    """Nobody gets it right: ``a`` and ``b`` are over after a turn, the others after all of them."""

    def start(self, example):
        return _Guessing("", 1 if example.answer in "ab" else self.max_turns)


class Hinted(Guess):
    """Each letter brings a hint of its own, the next letter."""

    def examples(self, split, n=None, seed=0):
        return [
            replace(each, context=Context.system(f"Before {chr(ord(each.answer) + 1)}."))
            for each in super().examples(split, n, seed)
        ]

    def contexts(self, count_tokens):
        return {"exact": EachOwn(lambda example: example.context, "hint of a letter")}


class _Guessing:
    def __init__(self, secret, max_turns):
        self.secret, self.max_turns, self.said, self.cut = secret, max_turns, [], False

    @property
    def prompt(self):
        return "Guess:" + "".join(f"\nnot {said}" for said in self.said)

    @property
    def done(self):
        return len(self.said) == self.max_turns or bool({self.secret, "q"} & set(self.said))

    @property
    def outcome(self):
        return "right" if self.said[-1] == self.secret else "truncated" if self.cut else "wrong"

    def act(self, response, truncated):
        self.said.append(response)
        self.cut |= truncated


class Told:
    """Rollouts that answer by a function of (the student's reading of the prompt, row, step), and remember what was asked."""

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def sample(self, student, prompts, step, rows=None):
        self.calls.append((step, list(rows)))
        texts = [
            self.answer(student.tokenizer.decode(p), row, step) for p, row in zip(prompts, rows, strict=True)
        ]
        ids = [student.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [Response((*each, student.eos_ids[0]), truncated=False) for each in ids]
