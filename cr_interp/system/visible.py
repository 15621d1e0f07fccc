"""Names and texts that others chose, as text: characters that act instead of being seen are written out.

Mental model. ``\\x1b[2J`` clears a screen, ``\\u202e`` turns a line around, a folder's undecodable byte cannot be printed at all.
Here they become what Python would write for them. What rich draws is in ``shown.py``, which reads no markup.
"""

import re

#: Controls but for tab and line feed, what turns the direction of writing, other ends of lines, halves of characters.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: object) -> str:
    r"""Write out every acting character of the text; line feeds and tabs stay.

    >>> visible("a\x1b[31m\udcff")
    'a\\x1b[31m\\udcff'
    """
    return ACTING.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    r"""Apply :func:`visible` to a name, which has one line.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def paragraph(text: object, longest: int = 3000) -> str:
    r"""Apply :func:`visible` and make one paragraph, cut short: what is wrong may be a name of a million letters.

    >>> paragraph("a\nb  c"), paragraph("x" * 9, 5)
    ('a b  c', 'xxxx…')
    """
    told = " ".join(line.strip() for line in visible(text).splitlines())
    return told if len(told) <= longest else told[: longest - 1] + "…"


def in_markdown(text: object) -> str:
    """Write one line that can neither end its cell of a table nor begin an element of HTML."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


def code(text: object) -> str:
    """Write one line as code in a cell of a Markdown table, whatever backticks it has."""
    told = one_line(text).replace("|", "\\|")
    if "`" not in told:
        return f"`{told}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", told))))
    return f"{fence} {told} {fence}"
