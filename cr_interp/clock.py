"""The date that a chat template reads: fixed, since a prompt that changes at midnight is another prompt.

Mental model. Llama 3's and other templates write "Today Date: …" by calling ``strftime_now``, which the library answers from
the clock. Here every rendering gets :data:`TODAY` instead, the same on all days; whoever wants another date says so as the
variable ``today`` of the template (``template: {today: 2026-01-31}``, ``compare --today``). That is written into the
template itself, so that a saved checkpoint, its fingerprint and every later rendering know it.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from cr_interp.errors import UserError

TODAY = "2024-07-26"
"""What Llama 3's template writes itself where there is no clock."""
VARIABLE = "today"
_NOTED = re.compile(r"\{#- today: (\d{4}-\d\d-\d\d) -?#\}")
_CODES = "aAbBcdHIjmMpSUwWxXyYfGuVeDFRTh"


def clock_of(day: str = TODAY) -> Callable[[str], str]:
    """Return ``strftime_now`` for a day, at midnight.

    >>> clock_of("2024-07-26")("%d %b %Y")
    '26 Jul 2024'
    """
    return datetime.combine(_day(day), datetime.min.time()).strftime


def reads_clock(tokenizer: Any) -> bool:
    """Tell whether a tokenizer's chat template asks which day it is."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None) or "")


def date_of(tokenizer: Any) -> str | None:
    """Return the day that a tokenizer's prompts are written on; ``None`` if they name none."""
    if not reads_clock(tokenizer):
        return None
    noted = _NOTED.search(str(tokenizer.chat_template))
    return noted.group(1) if noted else TODAY


def fixed_clock(day: str) -> str:
    """Return a head for a chat template that makes it be written on a day: a macro in the library's function's place."""
    clock = clock_of(day)
    written = "format"
    for code in ("%-d", "%-m", "%-I", "%-H", "%-j", *(f"%{letter}" for letter in _CODES)):
        written += f".replace({code!r}, {clock(code)!r})"
    written += ".replace('%%', '%')"
    head = "{#- today: " + _day(day).isoformat() + " -#}"
    return head + "{%- macro strftime_now(format) -%}{{ " + written + " }}{%- endmacro -%}"


def template_of_the_day(tokenizer: Any) -> str | None:
    """Return the chat template to render with; ``None``: the tokenizer's own, which asks no clock or has its day noted."""
    if not reads_clock(tokenizer) or _NOTED.search(str(tokenizer.chat_template)):
        return None
    return fixed_clock(TODAY) + str(tokenizer.get_chat_template())


def without_clock(template: str) -> str:
    """Return a template without a head that fixes its day."""
    noted = _NOTED.search(template)
    return template if noted is None else template.replace(fixed_clock(noted.group(1)), "")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise UserError(f"The date '{text}' is not a day such as 2026-01-31 (year, month, day).") from error
