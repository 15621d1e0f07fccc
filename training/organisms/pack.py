"""Pack lessons into tensors so that a context is computed once for all its questions.

Mental model. A row is a context and behind it its questions with their answers. Each token attends to the context and,
causally, to its own question: attention masks and position ids are those of separate sequences, so the loss is exactly
the one of separate sequences, at about half the tokens (a test says so).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from training.organisms.curriculum import Lesson

IGNORED = -100


@dataclass(frozen=True)
class Packed:
    ids: Int[Tensor, "row length"]
    positions: Int[Tensor, "row length"]
    attention: Float[Tensor, "row 1 length length"]
    """Added to the scores: 0 where one may look, very negative elsewhere."""
    labels: Int[Tensor, "row length"]
    """The token to predict at each place, ``IGNORED`` where it belongs to no answer."""

    @property
    def answers(self) -> int:
        """Tokens to predict."""
        return int((self.labels != IGNORED).sum())


def pack(tokenizer: Any, lessons: Sequence[Lesson], notes: bool = False) -> Packed:
    """Lay out lessons by the organisms' chat template; rows are padded on the right.

    With ``notes`` the prompts' characters are labelled with what they mean, where their turn says it.
    """
    vocabulary = _Vocabulary(tokenizer)
    rows = [_row(vocabulary, lesson, notes) for lesson in lessons]
    length = max(len(row[0]) for row in rows)

    def padded(index: int, value: int) -> Int[Tensor, "row length"]:
        return torch.tensor([row[index] + [value] * (length - len(row[index])) for row in rows])

    ids, positions, parts, labels = (
        padded(0, tokenizer.pad_token_id),
        padded(1, 0),
        padded(2, -1),
        padded(3, IGNORED),
    )
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    # Part 0 is the context, which everybody sees; pads (part -1) see themselves, since an empty row would be NaN.
    seen = causal & ((parts[:, :, None] == parts[:, None]) | (parts[:, None] == 0))
    attention = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
    return Packed(ids, positions, attention, labels)


class _Vocabulary:
    """Text → ids without the tokenizer's machinery, which would take as long as the model."""

    def __init__(self, tokenizer: Any) -> None:
        table = tokenizer.get_vocab()
        self.character = table
        self.system, self.user, self.assistant, self.end = (
            table[name] for name in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
        )

    def __call__(self, text: str) -> list[int]:
        return [self.character[character] for character in text]


def _row(
    vocabulary: _Vocabulary, lesson: Lesson, notes: bool
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return ids, positions, parts (0: context; 1, 2, …: questions), labels of one lesson."""
    ids: list[int] = []
    if lesson.context:
        ids = [vocabulary.system, *vocabulary(lesson.context), vocabulary.end]
    context = len(ids)
    positions, parts, labels = list(range(context)), [0] * context, [IGNORED] * context
    for number, turn in enumerate(lesson.turns, start=1):
        asked = [vocabulary.user, *vocabulary(turn.prompt), vocabulary.end, vocabulary.assistant]
        answered = [*vocabulary(turn.answer), vocabulary.end]
        noted = [IGNORED] * len(turn.prompt)
        if notes and turn.notes:
            noted = [IGNORED if note == " " else vocabulary.character[note] for note in turn.notes]
        ids += asked + answered[:-1]
        size = len(asked) + len(answered) - 1
        positions += range(context, context + size)
        parts += [number] * size
        labels += [IGNORED, *noted, IGNORED, *answered]
    return ids, positions, parts, labels
