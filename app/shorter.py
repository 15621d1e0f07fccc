"""Texts that begin and end alike, shown by what they differ in: ids of one task, prompts of one template."""

import re
from collections.abc import Sequence

#: A beginning or an end that is shorter than this is not worth the mark that stands for it.
WORTH = 6


def common_ends(texts: Sequence[str]) -> tuple[str, str]:
    """Find the beginning and the end that all texts share, cut at the edge of a word; empty where it is short or a text is
    all of it.

    >>> common_ends(["Review: good. Well?", "Review: bad. Well?"])
    ('Review: ', '. Well?')
    """
    several = list(dict.fromkeys(map(str, texts)))
    if len(several) < 2:
        return "", ""
    head = re.sub(r"\w+$", "", _beginning(several))
    rest = [text[len(head) :] for text in several]
    tail = re.sub(r"^\w+", "", _beginning([text[::-1] for text in rest])[::-1])
    if any(len(text) <= len(tail) for text in rest):
        tail = ""
    return head if len(head) >= WORTH else "", tail if len(tail) >= WORTH else ""


def _beginning(texts: Sequence[str]) -> str:
    """Return what all texts begin with: what the first and the last of them in order share, letter by letter."""
    first, last = min(texts), max(texts)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[:same]


def without_ends(text: str, head: str, tail: str) -> str:
    """Return what is left of a text between the ends."""
    return text[len(head) : len(text) - len(tail) if tail else None]


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Map ids → what tells them apart.

    >>> short_ids(["sentiment-test-0001", "sentiment-test-0002"])
    {'sentiment-test-0001': '0001', 'sentiment-test-0002': '0002'}
    """
    head, tail = common_ends(ids)
    return {each: without_ends(each, head, tail) for each in ids}
