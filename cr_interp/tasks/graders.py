"""Read the answer out of a response and judge it: what described tasks and prompts of one's own are graded by.

Mental model: a grader first *reads* an answer (a tag, a box, a phrase), then compares it with the expected one. What
cannot be read is ``truncated`` if the response was cut off and ``unparsable`` if it was not; an answer that was given
before the cut counts as given. So the errors of a study divide into what ran out of space, what broke the format and
what is false. Only ``right`` counts for an accuracy, as in the published scoring, where a missing tag is wrong.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from cr_interp.tasks.base import Outcome

#: (expected answer, response, was it cut off) → outcome; never raises, whatever the response is.
Grader = Callable[[str, str, bool], Outcome]

TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
FRACTION = re.compile(r"(-?)\\[dt]?frac\{?(-?\d+)\}?\{?(\d+)\}?")


def last_tag(response: str) -> str | None:
    """What the last closed ``<answer>`` holds; None without one, or if it is empty.

    >>> last_tag("<answer>no</answer> Or rather: <answer> Yes. </answer>")
    'Yes.'
    >>> last_tag("<answer>yes") is None
    True
    """
    found = TAG.findall(response)
    return (found[-1].strip() or None) if found else None


def last_boxed(response: str) -> str | None:
    r"""What the last ``\boxed{…}`` holds, with its inner braces; None without one, or if it never closes.

    >>> last_boxed(r"so \boxed{1} and then \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    start = response.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for position in range(start, len(response)):
        depth += {"{": 1, "}": -1}.get(response[position], 0)
        if depth == 0:
            return response[start:position].strip() or None
    return None


def choice(letters: str) -> Grader:
    """One of a few letters in the last tag: in parentheses, else standing alone.

    OPCD takes the first of the letters *anywhere* in the tag, so that ``<answer>Because of B</answer>`` counts as B there
    and here, but ``<answer>Aspirin</answer>`` as A there and as no answer here.
    """
    inside = re.compile(rf"\(\s*([{letters}])\s*\)", re.IGNORECASE)
    alone = re.compile(rf"(?<![^\W_])([{letters}])(?![^\W_])", re.IGNORECASE)

    def grade(answer: str, response: str, truncated: bool) -> Outcome:
        tag = last_tag(response) or ""
        match = inside.search(tag) or alone.search(tag)
        read = match.group(1).upper() if match else None
        return compared(read, answer.strip().upper(), truncated)

    return grade


def labels(valid: tuple[str, ...]) -> Grader:
    """The last tag holds one of these words, in any casing and without final punctuation; others are no answer.

    Without words, any text in the tag is an answer.
    """
    known = {word.casefold() for word in valid}

    def grade(answer: str, response: str, truncated: bool) -> Outcome:
        read = (last_tag(response) or "").strip(" \t\n.!").casefold() or None
        if known and read not in known:
            read = None
        return compared(read, answer.strip().casefold(), truncated)

    return grade


def boxed(answer: str, response: str, truncated: bool) -> Outcome:
    r"""The last ``\boxed{…}``, equal as a number where both are numbers, else as text without spaces and dollars."""
    read = last_boxed(response)
    return compared(None if read is None else number(read), number(answer), truncated)


def number(text: str) -> Fraction | str:
    r"""A fraction where the text is one number, else the text, bare.

    >>> number(r"\frac{1}{2}") == number(" 0.50 ") == number("2/4")
    True
    >>> number("1,024") == 1024
    True
    >>> number("x + 1")
    'x+1'
    """
    bare = re.sub(r"[\s$]|\\[,;!]|\\left|\\right", "", text).rstrip(".")
    plain = FRACTION.sub(r"\1\2/\3", re.sub(r"(?<=\d),(?=\d{3}\b)", "", bare))
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return bare


def contains(answer: str, response: str, truncated: bool) -> Outcome:
    """The response contains the answer as a whole word or phrase, in any casing; anything else that is not empty is wrong."""
    pattern = rf"(?<!\w){re.escape(answer.strip())}(?!\w)"
    if re.search(pattern, response, re.IGNORECASE):
        return "right"
    return "truncated" if truncated else "wrong" if response.strip() else "unparsable"


def compared(read: object, expected: object, truncated: bool) -> Outcome:
    if read is None:
        return "truncated" if truncated else "unparsable"
    return "right" if read == expected else "wrong"
