"""What each token of a rendered prompt is part of: the spans of a context that knockout cuts off and attention goes to.

Mental model. A chat template writes messages into one text, and a tokenizer cuts that into tokens. Each token is of

    system     a system message's text            turns      the context's further turns (few-shot examples)
    splice     a context's text around the prompt prompt     the user's own text
    template   what the template itself writes: role headers, ends of turns, a default message

A message's place is found by a mark that is rendered in its stead, so texts that occur twice are not confused. Where that
does not give the same text and ids (a template that rewrites what it is given), nothing is said. What one view has and the
other lacks (:func:`context_span`) needs no texts.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from cr_interp.views import Context, NoContext, chat_text, messages_of

#: In the order of a prompt.
LABELS = ("system", "turns", "splice", "prompt", "template")


def labels_of(
    tokenizer: Any,
    ids: Sequence[int],
    prompt: str,
    context: Context | None,
    no_context: NoContext = "empty_system",
) -> tuple[str, ...]:
    """Return a label per token of a prompt that was rendered to ``ids``; empty where it cannot be said."""
    text, letters = _lettered(tokenizer, prompt, context, no_context)
    if not getattr(tokenizer, "is_fast", False) or not letters:
        return ()
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if list(found["input_ids"]) != list(ids):  # a message that spells special tokens
        return ()
    return tuple(
        next((letter for letter in letters[first:end] if letter != "template"), "template")
        for first, end in found["offset_mapping"]
    )


def _lettered(
    tokenizer: Any, prompt: str, context: Context | None, no_context: NoContext
) -> tuple[str, list[str]]:
    """Return the rendered text and a label for each of its letters; no labels where messages cannot be found in it."""
    messages = messages_of(prompt, context, no_context)
    parts = [[(message["content"], "system" if message["role"] == "system" else "turns")] for message in messages]
    before, _, behind = ("{prompt}" if context is None else context.splice).partition("{prompt}")
    parts[-1] = [(before, "splice"), (prompt, "prompt"), (behind, "splice")]
    # Only what is not empty is marked: a template may leave out a message that says nothing.
    marked = [
        {**message, "content": "".join(_mark(n, i) for i, (text, _) in enumerate(own) if text)}
        for n, (message, own) in enumerate(zip(messages, parts, strict=True))
    ]
    text, pieces = chat_text(tokenizer, messages), re.split(_MARK, chat_text(tokenizer, marked))
    for told in (parts, [_trimmed(own) for own in parts]):
        written, letters = pieces[0], ["template"] * len(pieces[0])
        for n, i, piece in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            content, label = told[int(n)][int(i)]
            written += content + piece
            letters += [label] * len(content) + ["template"] * len(piece)
        if written == text:
            return text, letters
    return text, []


#: Private letters, which no template looks for.
_MARK = "\ue000([0-9]+)\ue001([0-9]+)\ue002"


def _mark(message: int, part: int) -> str:
    return f"\ue000{message}\ue001{part}\ue002"


def _trimmed(own: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a message's parts as a template that trims messages writes them."""
    filled = [i for i, (text, _) in enumerate(own) if text]
    return [
        (_cut(text, i == filled[0], i == filled[-1]) if i in filled else text, label)
        for i, (text, label) in enumerate(own)
    ]


def _cut(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def context_span(without: Sequence[int], given: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of the view with the context that the view without it lacks.

    A context in one place is what stands between a common beginning and a common end. One that is spliced around the prompt
    has the prompt in its midst, which is found as the longest run that both have.

    >>> context_span([1, 2, 7, 8], [1, 2, 5, 6, 7, 8])
    (2, 3)
    >>> context_span([1, 2, 7, 8], [1, 5, 2, 7, 6, 8])
    (1, 4)
    """
    shorter = min(len(without), len(given))
    start = next((i for i in range(shorter) if without[i] != given[i]), shorter)
    end = next((i for i in range(shorter - start) if without[-1 - i] != given[-1 - i]), shorter - start)
    between = range(start, len(given) - end)
    middle = list(without[start : len(without) - end])
    if not middle:
        return tuple(between)
    same = SequenceMatcher(None, middle, [given[i] for i in between], autojunk=False).get_matching_blocks()
    both = {start + block.b + i for block in same for i in range(block.size)}
    return tuple(i for i in between if i not in both)
