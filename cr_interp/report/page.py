"""A report as one HTML file that needs nothing else: no network, no package, no server.

Mental model: the file carries its style, its script, the figures as JSON, and the drawing library packed (gzip, base64: 4.8 MB
become 2.0), which the browser unpacks. Everything a study says is text that is escaped where it is put in; besides, the page's
own policy lets no script run but the two whose digests it names, and lets nothing be asked from anywhere. The same study gives
the same bytes.
"""

import base64
import gzip
import hashlib
import json
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go

from cr_interp import figures
from cr_interp.figures.pair_html import pair_html
from cr_interp.report.parts import Answer, Code, Drawing, Folded, Numbers, Pairs, Points, Section, Words
from cr_interp.system.visible import visible

_HERE = Path(__file__).parent
#: verdict → the word in its badge
BADGES = {"yes": "Yes", "partly": "Partly", "no": "No", "open": "Not shown"}


def page(title: str, about: str, sections: list[Section]) -> str:
    """Write the whole file. ``title`` and ``about`` are plain text, as is everything in ``sections``."""
    drawn: list[str] = []
    body = "".join(_section(each, drawn) for each in sections)
    contents = "".join(f'<a href="#{each.anchor}">{_text(each.title)}</a>' for each in sections)
    library, script = _library(), (_HERE / "page.js").read_text("utf-8")
    allowed = " ".join(f"'sha256-{_digest(each)}'" for each in (library, script))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(title)}</title>\n<style>{(_HERE / 'page.css').read_text('utf-8')}</style></head>\n"
        f'<body><header><h1>{_text(title)}</h1><p class="about">{_text(about)}</p><nav>{contents}</nav></header>\n'
        f"<main>{body}</main>\n<footer>Made by cr_interp. This file asks no other: it can be kept, sent and opened anywhere."
        "</footer>\n"
        f"{''.join(drawn)}"
        f'<script type="text/plain" id="plotly">{_packed()}</script>\n<script>{script}</script>\n</body></html>\n'
    )


def _section(section: Section, drawn: list[str]) -> str:
    parts = "\n".join(_part(part, drawn) for part in section.parts)
    return f'<section id="{escape(section.anchor)}"><h2>{_text(section.title)}</h2>\n{parts}</section>\n'


def _part(part: Any, drawn: list[str]) -> str:
    match part:
        case Words(text, "head"):
            return f"<h3>{_text(text)}</h3>"
        case Words(text, kind):
            return f'<p class="{escape(kind)}">{_text(text)}</p>'
        case Points(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        case Answer():
            return _answer(part)
        case Drawing():
            return _drawing(part, drawn)
        case Numbers():
            return _numbers(part)
        case Pairs(rows, titles, contexts):
            return _pairs(rows, titles, contexts)
        case Code(text, title):
            return (f"<h3>{_text(title)}</h3>" if title else "") + f"<pre>{_text(text)}</pre>"
        case Folded(title, parts):
            inside = "\n".join(_part(each, drawn) for each in parts)
            return f"<details><summary>{_text(title)}</summary>\n{inside}</details>"
    raise TypeError(f"{type(part).__name__} is no part of a report")


def _answer(part: Answer) -> str:
    numbers = "".join(f"<li>{_text(each)}</li>" for each in part.numbers)
    return (
        f'<div class="answer {escape(part.verdict)}"><h3>{_text(part.question)}</h3><p><b>{BADGES[part.verdict]}</b>'
        f"{_text(part.sentence)}</p><ul>{numbers}</ul></div>"
    )


def _numbers(part: Numbers) -> str:
    names = list(map(str, part.table.columns))
    # Settings are sentences and lists; numbers stand below each other.
    wrap = ' class="wrap"' if {"value", "setting", "objective"} & set(names) else ""
    sides = ['class="head"' if index < part.heads else "" for index in range(len(names))]
    head = "".join(f'<th {side} scope="col">{_text(name)}</th>' for side, name in zip(sides, names, strict=True))
    rows = []
    for values in part.table.itertuples(index=False):
        cells = []
        for index, value in enumerate(values):
            kind = 'th scope="row" class="head"' if index < part.heads else "td"
            shown = _text(value) if index < part.heads or wrap else _number(str(value))
            long = ' class="long"' if len(str(value)) > 40 and not wrap and index >= part.heads else ""
            cells.append(f"<{kind}{long}>{shown}</{kind.split()[0]}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = f'<p class="note">{_text(part.note)}</p>' if part.note else ""
    return (
        f'<div class="scroll"><table{wrap}><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{note}"
    )


def _number(value: str) -> str:
    """Write an estimate with its interval in small figures below it, with true minus signs."""
    found = re.fullmatch(r"(.*\S) (\[[^\[\]]*\])", value)
    estimate, interval = found.groups() if found else (value, "")
    told = [re.sub(r"(?<![\w.])-(?=[\d.])", "−", _text(each)) for each in (estimate, interval)]
    return told[0] + (f"<small>{told[1]}</small>" if interval else "")


def _pairs(rows: Any, titles: Any, contexts: Any) -> str:
    found = []
    for row, title, context in zip(rows, titles, contexts or [""] * len(rows), strict=True):
        shown = row._replace(
            **{name: visible(getattr(row, name)) for name in ("prompt", "response_x", "response_xc")}
        )
        given = f'<p class="note">its context</p><pre>{_text(context)}</pre>' if context else ""
        found.append(f'<div class="pair"><h3>{_text(title)}</h3>{given}{pair_html(shown)}</div>')
    return "\n".join(found)


def _drawing(part: Drawing, drawn: list[str]) -> str:
    name = f"figure-{len(drawn) + 1}"
    figure = figures.on_paper(part.figure).update_yaxes(automargin=True)  # drawn once, so labels may ask for room
    caption, alt = figures.caption(figure), figures.alt_text(figure)
    height = int(figure.layout.height or 400)
    drawn.append(f'<script type="application/json" id="{name}">{_json(figure)}</script>\n')
    return (
        f'<figure data-figure="{name}" data-least="{part.least}"><div class="scroll"><div class="plot" role="img" '
        f'style="height:{height}px;min-width:{part.least}px" aria-label="{escape(visible(alt))}"><p class="waiting">Drawing … '
        f'(without scripts there is no figure; its numbers are in the table beside it)</p></div></div><img class="printed" '
        f'alt="">\n<figcaption>{_text(caption)}</figcaption></figure>'
    )


def _json(figure: go.Figure) -> str:
    """Write the figure's data and layout; nothing in it can end the element that it stands in."""
    data = json.loads(figure.to_json())
    data["layout"].pop("meta", None)  # the caption and the alternative text stand beside it
    text = json.dumps({"data": data["data"], "layout": data["layout"]}, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(text: object) -> str:
    return escape(visible(text))


@cache
def _library() -> str:
    """Return the drawing library, as the installed plotly carries it."""
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text("utf-8")


@cache
def _packed() -> str:
    return base64.b64encode(gzip.compress(_library().encode(), 9, mtime=0)).decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
