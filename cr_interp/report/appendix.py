"""A report as Markdown, for a paper's appendix: the same sections, sentences and tables; of a figure its caption.

Texts of models and names from disk can neither end their cell, nor their block of code, nor begin an element of HTML.
"""

import re
from typing import Any

from cr_interp import figures
from cr_interp.report.page import BADGES
from cr_interp.report.parts import Answer, Code, Drawing, Folded, Numbers, Pairs, Points, Section, Words
from cr_interp.system.visible import in_markdown, visible

_ACTING = re.compile(r"([\\`*_{}\[\]#+!~$])")


def appendix(title: str, about: str, sections: list[Section]) -> str:
    """Write the whole text."""
    lines = [f"# {_plain(title)}", "", _plain(about), ""]
    for section in sections:
        lines += [f"## {_plain(section.title)}", ""]
        for part in section.parts:
            lines += _part(part)
    return "\n".join(lines).rstrip() + "\n"


def _part(part: Any) -> list[str]:
    match part:
        case Words(text, "head"):
            return [f"### {_plain(text)}", ""]
        case Words(text, _):
            return [_plain(text), ""]
        case Points(items):
            return [*(f"- {_plain(item)}" for item in items), ""]
        case Answer(question, verdict, sentence, numbers):
            told = f"**{BADGES[verdict]}.** {_plain(sentence)}"
            return [f"### {_plain(question)}", "", told, "", *(f"- {_plain(each)}" for each in numbers), ""]
        case Drawing(figure, _):
            return [f"*Figure.* {_plain(figures.caption(figure))} {_plain(figures.alt_text(figure))}", ""]
        case Numbers(table, note, heads):
            return [*_table(table, heads), "", *([_plain(note), ""] if note else [])]
        case Pairs(rows, titles, contexts):
            found: list[str] = []
            for row, title, context in zip(rows, titles, contexts or [""] * len(rows), strict=True):
                found += [
                    f"**{_plain(title)}**",
                    "",
                    *(["Its context:", "", *_fenced(context), ""] if context else []),
                ]
                for name in ("prompt", "answer", "response_x", "response_xc"):
                    said = getattr(row, name, None)
                    if isinstance(said, str):
                        found += [f"{_NAMES[name]}:", "", *_fenced(said), ""]
            return found
        case Code(text, title):
            return [*([f"{_plain(title)}:", ""] if title else []), *_fenced(text), ""]
        case Folded(title, parts):
            return [f"### {_plain(title)}", "", *(line for each in parts for line in _part(each))]
    raise TypeError(f"{type(part).__name__} is no part of a report")


_NAMES = {
    "prompt": "Prompt",
    "answer": "Expected",
    "response_x": "Without the context",
    "response_xc": "With the context",
}


def _table(table: Any, heads: int) -> list[str]:
    names = [_cell(name) for name in table.columns]
    rule = ["---" if index < heads else "---:" for index in range(len(names))]
    rows = (map(_cell, values) for values in table.itertuples(index=False))
    return [f"| {' | '.join(each)} |" for each in (names, rule, *rows)]


def _cell(value: object) -> str:
    return in_markdown(_ACTING.sub(r"\\\1", visible(value)))


def _plain(text: object) -> str:
    return _ACTING.sub(r"\\\1", visible(text)).replace("<", "&lt;").replace("\n", " ")


def _fenced(text: str) -> list[str]:
    told = visible(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", told)), default=0))
    return [f"{fence}text", told, fence]
