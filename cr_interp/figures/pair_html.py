"""Two responses side by side as safe HTML, what only one of them says marked.

Prompts and responses are what a file or a model says: everything is escaped.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from cr_interp.figures.style import WITH, WITHOUT, translucent
from cr_interp.tables.example_pairs import MARKS
from cr_interp.tables.matching import agreement, opcodes

#: Characters of a text that a page shows; the table that can be downloaded has all.
SHOWN = 6000

#: A part of a text and whether the other text has it too.
Part = tuple[str, bool]


def differences(one: str, other: str) -> tuple[list[Part], list[Part]]:
    """Cut both texts into parts ``(text, common)``; joined, the parts give the texts back.

    Words are compared, or letters if neither text has a space: the answer ``abdc`` for ``abcd`` differs in two letters.
    Single words that share no more than half of their letters (positive, negative) are different as a whole.

    >>> differences("it is good", "it is bad")
    ([('it is ', True), ('good', False)], [('it is ', True), ('bad', False)])
    """
    letters = not re.search(r"\s", one.strip()) and not re.search(r"\s", other.strip())
    a, b = (list(text) if letters else re.findall(r"\w+|\s+|[^\w\s]", text) for text in (one, other))
    steps = opcodes(a, b)
    if letters and agreement(steps, len(a), len(b)) <= 0.5:
        steps = [("replace", 0, len(a), 0, len(b))]
    left = [(a[i:j], kind == "equal") for kind, i, j, _, _ in steps]
    right = [(b[k:m], kind == "equal") for kind, _, _, k, m in steps]
    return _joined(left), _joined(right)


def _joined(parts: Sequence[tuple[list[str], bool]]) -> list[Part]:
    """Join neighbouring parts of one kind, and leave out empty ones."""
    found: list[Part] = []
    for words, common in parts:
        text = "".join(words)
        if text and found and found[-1][1] == common:
            found[-1] = (found[-1][0] + text, common)
        elif text:
            found.append((text, common))
    return found


def marks_style(inside: str) -> str:
    """Write the style of what only one of two responses says, inside a box of this class."""
    return (
        f".{inside} mark {{ color: inherit; border-radius: 2px; padding: 0 1px; }}\n"
        f".{inside} .ct-x mark {{ background: {translucent(WITHOUT, 0.3)}; text-decoration: underline dotted; }}\n"
        f".{inside} .ct-xc mark {{ background: {translucent(WITH, 0.28)}; text-decoration: underline; }}"
    )


STYLE = (
    """<style>
.ct-pair { display: flex; flex-wrap: wrap; gap: 0.5rem; font-size: 0.92rem; line-height: 1.5; }
.ct-pair > div { padding: 0.35rem 0.6rem; min-width: 0; box-sizing: border-box; }
.ct-pair .ct-x, .ct-pair .ct-xc { border: 1px solid rgba(128,128,128,0.3); border-radius: 6px; flex: 1 1 17rem; }
.ct-pair .ct-asked { flex: 0 1 9rem; padding-left: 0.1rem; }
.ct-pair .ct-asked.ct-long { flex: 1 1 100%; padding-bottom: 0; }
.ct-pair b { font-weight: 600; }
.ct-pair small { opacity: 0.75; }
.ct-pair pre { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.86rem; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 15rem; overflow: auto; margin: 0.2rem 0 0 0; padding: 0; background: none; border: 0;
  color: inherit; unicode-bidi: plaintext; }
"""
    + f"{marks_style('ct-pair')}\n</style>"
)


def pair_html(pair: Any) -> str:
    """Write a row of :func:`paired` (as ``itertuples`` gives it) as HTML: the prompt, and both responses side by side, with
    what only one of them has marked. Everything is escaped; a text of more than :data:`SHOWN` characters is cut.
    """
    asked = {"prompt": cut(pair.prompt)}
    answer = getattr(pair, "answer", None)
    if isinstance(answer, str) and answer:
        asked["expected"] = cut(answer)
    long = any(len(text) > 24 or "\n" in text for text in asked.values())
    boxes = [
        f"<div class='ct-asked{' ct-long' * long}'><small>{name}</small><pre>{escape(text)}</pre></div>"
        for name, text in asked.items()
    ]
    notes = [
        f"{MARKS.get(outcome, '?')} {outcome}, {count} tokens"
        for outcome, count in ((pair.outcome_x, pair.n_tokens_x), (pair.outcome_xc, pair.n_tokens_xc))
    ]
    return _boxes(boxes + _responses((pair.response_x, pair.response_xc), notes))


def responses_html(texts: tuple[object, object], notes: Sequence[str]) -> str:
    """Write two responses, without and with the context, side by side as in :func:`pair_html`; a note stands above each."""
    return _boxes(_responses(texts, notes))


def _boxes(boxes: Sequence[str]) -> str:
    return f"{STYLE}<div class='ct-pair'>{''.join(boxes)}</div>"


def _responses(texts: tuple[object, object], notes: Sequence[str]) -> list[str]:
    parts = differences(*map(cut, texts))
    return [
        f"<div class='{name}'><b>{title}</b> <small>{escape(note)}</small><pre>{marked(each)}</pre></div>"
        for name, title, note, each in zip(
            ("ct-x", "ct-xc"), ("without", "with context"), notes, parts, strict=True
        )
    ]


def marked(parts: Sequence[Part]) -> str:
    """Write one side of :func:`differences` as HTML, escaped, with what the other side lacks marked."""
    if not parts:
        return "<small>(empty)</small>"
    return "".join(escape(text) if common else f"<mark>{escape(text)}</mark>" for text, common in parts)


def cut(text: object) -> str:
    """Cut a text to :data:`SHOWN` characters, and say how many more it has."""
    text = str(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text) - SHOWN} more characters)"
