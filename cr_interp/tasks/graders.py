r"""Read the answer out of a response and judge it: what described tasks and prompts of one's own are graded by.

Mental model: a grader first *reads* an answer (a tag, a box, a phrase), then compares it with the expected one. What
cannot be read is ``truncated`` if the response was cut off and ``unparsable`` if it was not; an answer that was given
before the cut counts as given. So the errors of a study divide into what ran out of space, what broke the format and
what is false. Only ``right`` counts for an accuracy, as in the published scoring, where a missing tag is wrong. An empty
expected answer can be judged by nobody and is never right; tasks refuse it when they read it.

Whatever the response is, a grader returns, and its work grows with the response's length only: a model that repeats
``<answer>``, ``{`` or a digit for ever is graded in a moment, and no power is ever written out. This is why ``boxed``
is not Math-Verify, which evaluates what is in the box (through ``sympy.parse_expr``, so ``eval``), stops itself by a
signal, which threads cannot use, and calls what it did not finish wrong.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from cr_interp.tasks.base import Outcome
from cr_interp.tasks.words import bare, is_border, mentions, unified

#: (expected answer, response, was it cut off) → outcome; never raises, whatever the response is.
Grader = Callable[[str, str, bool], Outcome]
#: A number: a fraction, or (without its twos and fives, power of 2, power of 5) if it has more than :data:`LONGEST` digits.
Number = Fraction | tuple[Fraction, int, int]

TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
BOX = re.compile(r"\\boxed\s*\{")
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{?([+-]?\d+)\}?\{?(\d+)\}?")
RATIO = re.compile(r"([+-]?\d+)/(\d+)")
DECIMAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?", re.IGNORECASE)
#: A longer text is compared as text: reading so many digits as a number takes long.
LONGEST = 1000


def last_tag(response: str) -> str | None:
    """Find what the last closed ``<answer>`` holds; None without one, or if it is empty.

    >>> last_tag("<answer>no</answer> Or rather: <answer> Yes. </answer>")
    'Yes.'
    >>> last_tag("<answer>yes") is None
    True
    """
    opened, held = None, None
    for tag in TAG.finditer(response):
        if not tag.group(1):
            opened = tag.end()
        elif opened is not None:
            held, opened = response[opened : tag.start()], None
    return (held or "").strip() or None


def last_boxed(response: str) -> str | None:
    r"""Find what the last ``\boxed{…}`` holds, with its inner braces; None without one, or if it never closes.

    >>> last_boxed(r"so \boxed{1} and then \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    start = None
    for box in BOX.finditer(response):
        start = box.end()
    if start is None:
        return None
    depth = 1
    for brace in BRACES.finditer(response, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return response[start : brace.start()].strip() or None
    return None


def choice(letters: str) -> Grader:
    """Make a grader of one of a few letters in the last tag: in parentheses, else standing alone.

    OPCD takes the first of the letters *anywhere* in the tag, so that ``<answer>Because of B</answer>`` counts as B there and
    here, but ``<answer>Aspirin</answer>`` as A there and as no answer here.
    """
    inside = re.compile(rf"\(\s*([{letters}])\s*\)", re.IGNORECASE)
    any_letter = re.compile(rf"[{letters}]", re.IGNORECASE)

    def read(text: str) -> str | None:
        plain = unified(text).replace("_", " ")
        if match := inside.search(plain):
            return match.group(1).upper()
        for match in any_letter.finditer(plain):
            if is_border(plain, match.start()) and is_border(plain, match.end()):
                return match.group().upper()
        return None

    def grade(answer: str, response: str, truncated: bool) -> Outcome:
        return compared(read(last_tag(response) or ""), read(answer), truncated)

    return grade


def labels(valid: tuple[str, ...]) -> Grader:
    """Make a grader of the last tag: it holds one of these words, in any casing and without final punctuation; others are no
    answer.

    Without words, any text in the tag is an answer.
    """
    known = {bare(word) for word in valid}

    def grade(answer: str, response: str, truncated: bool) -> Outcome:
        read = bare(last_tag(response) or "") or None
        if known and read not in known:
            read = None
        return compared(read, bare(answer), truncated)

    return grade


def boxed(answer: str, response: str, truncated: bool) -> Outcome:
    r"""Grade the last ``\boxed{…}``: equal as a number where both are numbers, else as text without spaces and dollars."""
    read = last_boxed(response)
    return compared(None if read is None else number(read), number(answer), truncated)


def number(text: str) -> Number | str:
    r"""Return the value where the text is one number, however large, else the text, bare.

    >>> number(r"\frac{1}{2}") == number(" 0.50 ") == number("2/4")
    True
    >>> number("1,024") == 1024, number("1e99999999") == number("10e99999998")
    (True, True)
    >>> number("x + 1")
    'x+1'
    """
    plain = re.sub(r"[\s$]|\\[,;!]|\\left|\\right", "", unified(text)).rstrip(".。")
    if len(plain) > LONGEST:
        return plain
    told = FRACTION.sub(r"\1\2/\3", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain))
    if ratio := RATIO.fullmatch(told):
        over = int(ratio.group(2))
        return scaled(Fraction(int(ratio.group(1)), over), 0) if over else plain
    decimal = DECIMAL.fullmatch(told)
    if decimal is None:
        return plain
    sign, whole, behind, power = (group or "" for group in decimal.groups())
    if not whole + behind:
        return plain
    return scaled(Fraction(int(f"{sign}{whole}{behind}")), int(power or 0) - len(behind))


def scaled(value: Fraction, power: int) -> Number:
    """Compute ``value`` · 10**``power``, without writing out a power of more than :data:`LONGEST` digits."""
    if not value:
        return value
    left, twos, fives = value, power, power
    for prime in (2, 5):
        over, under = left.numerator, left.denominator
        count = 0
        while over % prime == 0:
            over, count = over // prime, count + 1
        while under % prime == 0:
            under, count = under // prime, count - 1
        left = Fraction(over, under)
        twos, fives = (twos + count, fives) if prime == 2 else (twos, fives + count)
    if max(abs(twos), abs(fives)) > 4 * LONGEST:
        return left, twos, fives
    return left * Fraction(2) ** twos * Fraction(5) ** fives


def contains(answer: str, response: str, truncated: bool) -> Outcome:
    """Grade a response as right if it contains the answer as a whole word or phrase, in any casing; anything else that is not
    empty is wrong.

    What a whole word is in which script: ``words.py``. A full stop at the end of the answer does not count.
    """
    if mentions(response, answer):
        return "right"
    if not bare(answer):
        return "unparsable"  # of no response can be said that it is wrong
    return "truncated" if truncated else "wrong" if response.strip() else "unparsable"


def compared(read: object, expected: object, truncated: bool) -> Outcome:
    """Return ``right`` or ``wrong`` where there are two answers to compare, else which of them is lacking."""
    if read is None:
        return "truncated" if truncated else "unparsable"
    if expected is None or expected == "":
        return "unparsable"
    return "right" if read == expected else "wrong"
