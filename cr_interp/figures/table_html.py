"""A small table as HTML: what is only read needs no canvas, whose code a browser takes longer to load than a figure's.

Mental model: a row is an arm, a setting or a layer, its first cell the row's heading; numbers stand at the right, and the pointer
shows those whole that are printed rounded. A table that is wider or longer than its place scrolls, by keyboard too. Everything
is escaped, so whatever a model has written is shown as text.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

STYLE = """<style>
.ct-table { overflow: auto; font-size: 0.88rem; line-height: 1.4; border: 1px solid rgba(128,128,128,0.3);
  border-radius: 0.5rem; }
.ct-table:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
.ct-table table { border-collapse: collapse; width: 100%; margin: 0; border: 0; }
.ct-table th, .ct-table td { border: 0; border-bottom: 1px solid rgba(128,128,128,0.22); padding: 0.25rem 0.45rem;
  text-align: left; vertical-align: top; font-weight: 400; white-space: pre-wrap; overflow-wrap: break-word;
  unicode-bidi: plaintext; font-variant-numeric: tabular-nums; max-width: 40rem; }
.ct-table tr:last-child > * { border-bottom: 0; }
.ct-table thead th { font-weight: 600; white-space: normal; vertical-align: bottom; }
.ct-table thead th[title] { text-decoration: underline dotted rgba(128,128,128,0.8); text-underline-offset: 0.2em; }
.ct-table tbody th { font-weight: 600; white-space: nowrap; }
.ct-table .ct-number { text-align: right; }
.ct-table td.ct-short { white-space: nowrap; }
</style>"""
#: Letters of a cell that is never broken into lines, as numbers with their intervals.
SHORT = 24
#: Pixels of a row, at most.
ROW = 30


def table_html(
    table: pd.DataFrame,
    says: str,
    help_of: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    height: int = 0,
) -> str:
    """Write ``table`` without its index; ``says`` is what a screen reader calls it.

    ``help_of``, ``formats``, ``names``: column → what the pointer says of it, how its numbers are printed (``.4f``), what it is
    called. ``height``: pixels, beyond which it scrolls; 0: as tall as it is. A missing value is a dash.
    """
    helps, printed, called = help_of or {}, formats or {}, names or {}
    numbers = [is_numeric_dtype(table[name]) for name in table]
    head = "".join(
        f"<th scope='col'{_classes(number)}{_title(helps.get(name))}>{escape(str(called.get(name, name)))}</th>"
        for name, number in zip(table.columns, numbers, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            _cell(value, "th scope='row'" if place == 0 else "td", number, printed.get(name, ""))
            for place, (name, value, number) in enumerate(zip(table.columns, row, numbers, strict=True))
        )
        + "</tr>"
        for row in table.itertuples(index=False, name=None)
    )
    scrolls = f" style='max-height: {height}px'" if height else ""
    more = f"<small>{len(table)} rows; the table scrolls.</small>" if height and ROW * len(table) > height else ""
    return (
        f"{STYLE}<div class='ct-table' tabindex='0' role='region' aria-label='{escape(says, quote=True)}'{scrolls}>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}"
    )


def _cell(value: Any, tag: str, number: bool, format_of: str) -> str:
    missing = not isinstance(value, (list, dict, tuple)) and pd.isna(value)
    rounded = bool(format_of) and not missing
    text = "–" if missing else format(value, format_of) if rounded else str(value)
    whole = _title(str(value)) if rounded else ""
    said = escape(text.replace("-", "−") if number else text)
    return f"<{tag}{_classes(number, len(text) < SHORT)}{whole}>{said}</{tag.split()[0]}>"


def _classes(number: bool, short: bool = False) -> str:
    names = " ".join(["ct-number"] * number + ["ct-short"] * short)
    return f" class='{names}'" if names else ""


def _title(text: str | None) -> str:
    return f" title='{escape(text, quote=True)}'" if text else ""
