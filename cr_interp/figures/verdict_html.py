"""The verdict on two arms as one HTML table: metric, both values, and the difference with its interval on a small axis.

Mental model: a row is read from left to right without a legend. Shares come first, on one axis in points; distances follow on
one of their own, whose ends stand in a row above them. A bar has a colour only where its interval excludes 0, and the word
beside it says the same, so that nothing hangs on the colour. Everything is escaped; numbers come once. In a narrow window a row
becomes a block: what is asked, both values, the bar, and the difference below each other, so that nothing is cut.
"""

from collections.abc import Iterable, Sequence
from html import escape
from math import floor, log10
from typing import Any

import pandas as pd

from cr_interp.figures.style import READING_COLOURS
from cr_interp.system.percent import number, percent

MARKS = {
    "better": "✓ better",
    "worse": "✗ worse",
    "open": "open",
    "not measured": "not measured",
    "undefined": "undefined",
}
#: How much of the small axis's half is drawn on, so that a mark at its end is whole, in per cent.
HALF = 47.0

STYLE = """<style>
.ct-verdict { overflow-x: auto; }
.ct-verdict table { border-collapse: collapse; width: 100%; min-width: 44rem; font-size: 0.92rem; border: 0; margin: 0; }
.ct-verdict th, .ct-verdict td { border: 0; border-bottom: 1px solid rgba(128,128,128,0.28); padding: 0.28rem 0.5rem;
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.ct-verdict th:first-child { text-align: left; font-weight: 500; white-space: normal; min-width: 11rem; }
.ct-verdict thead th { font-weight: 600; }
.ct-verdict td.ct-axis, .ct-verdict th.ct-axis { padding: 0 0.4rem; width: 12rem; min-width: 12rem; }
.ct-verdict .ct-axis > div:not(.ct-bar) { display: flex; justify-content: space-between; font-weight: 400; font-size: 0.8rem; }
.ct-verdict td.ct-word, .ct-verdict th.ct-word { text-align: left; }
.ct-bar { position: relative; height: 1.3rem; }
.ct-bar > * { position: absolute; display: block; }
.ct-bar > .ct-zero { left: 50%; top: 0; bottom: 0; width: 1px; background: #808080; }
.ct-bar > .ct-whisker { top: 50%; height: 3px; margin-top: -1.5px; min-width: 1px; }
.ct-bar > .ct-point { top: 50%; width: 7px; height: 7px; margin: -5.5px 0 0 -5.5px; border: 2px solid; border-radius: 50%;
  box-sizing: content-box; }
.ct-verdict tr.ct-scale td { border-bottom: 0; }
@media (max-width: 760px) {
  .ct-verdict table { min-width: 0; }
  .ct-verdict table, .ct-verdict thead, .ct-verdict tbody { display: block; }
  .ct-verdict tr { display: grid; grid-template-columns: 1fr 5.6rem 5.6rem; padding: 0.3rem 0;
    border-bottom: 1px solid rgba(128,128,128,0.28); }
  .ct-verdict th, .ct-verdict td { border: 0; padding: 0.05rem 0.15rem; }
  .ct-verdict th:first-child { min-width: 0; }
  .ct-verdict td.ct-axis, .ct-verdict th.ct-axis { grid-column: 1; width: auto; min-width: 0; }
  .ct-verdict td.ct-change, .ct-verdict th.ct-change, .ct-verdict td.ct-word, .ct-verdict th.ct-word {
    grid-column: 2 / -1; text-align: right; white-space: normal; }
  .ct-verdict tr.ct-scale > :not(.ct-axis) { display: none; }
}
.ct-chips { display: flex; flex-wrap: wrap; gap: 0.3rem 0.5rem; margin: 0.2rem 0 0.5rem 0; align-items: center; }
.ct-chips span { border: 1px solid rgba(128,128,128,0.6); border-radius: 1rem; padding: 0.05rem 0.65rem; font-size: 0.88rem; }
.ct-chips strong { font-size: 1.05rem; border: 2px solid currentColor; border-radius: 0.4rem; padding: 0.1rem 0.7rem; }
</style>"""


def verdict_html(
    rows: pd.DataFrame, arm: str, baseline: str, help_of: dict[str, str] | None = None, caption: str = ""
) -> str:
    """Write the ``rows`` of :func:`cr_interp.tables.verdict_rows.verdict_rows` as HTML; ``help_of``: metric → what the
    pointer says of it.
    """
    drawn = ["low", "high", "estimate"]
    ends = {
        unit: _end((100 if unit == "%" else 1) * of[drawn].to_numpy(dtype=float).ravel())
        for unit, of in rows.groupby("unit")
    }
    body: list[str] = []
    scaled = ""
    for row in rows.sort_values("unit", key=lambda unit: unit != "%", kind="stable").itertuples():
        factor, end = 100.0 if row.unit == "%" else 1.0, ends[row.unit]
        if row.unit != "%" and not pd.isna(row.estimate) and not scaled:
            axis = _scale_html(end, row.unit)
            scaled = f"<tr class='ct-scale'><td colspan='3'></td><td class='ct-axis'>{axis}</td><td colspan='2'></td></tr>"
            body.append(scaled)
        digits = _digits([row.baseline, row.arm, row.estimate, row.low, row.high])
        hint = escape((help_of or {}).get(row.metric, ""), quote=True)
        body.append(
            f"<tr><th scope='row'{f' title={chr(34)}{hint}{chr(34)}' if hint else ''}>{escape(row.words)}</th>"
            f"<td>{_value(row.baseline, row.unit, digits)}</td><td>{_value(row.arm, row.unit, digits)}</td>"
            f"<td class='ct-axis'>{bar_html(row, factor, end)}</td><td class='ct-change'>{difference_words(row, digits)}</td>"
            f"<td class='ct-word'>{MARKS[row.reading]}</td></tr>"
        )
    most = ends.get("%", 1.0)
    head = (
        f"<tr><th scope='col'>metric</th><th scope='col'>{escape(baseline)}</th><th scope='col'>{escape(arm)}</th>"
        f"<th scope='col' class='ct-axis'>{_scale_html(most, 'pts')}</th>"
        "<th scope='col' class='ct-change'>difference [95 %]</th><th scope='col' class='ct-word'>reading</th></tr>"
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"{STYLE}<div class='ct-verdict' tabindex='0' role='region' aria-label='verdict: {escape(arm, quote=True)} and "
        f"{escape(baseline, quote=True)}, metric by metric'><table>{said}<thead>{head}</thead><tbody>{''.join(body)}</tbody>"
        "</table></div>"
    )


def chips_html(badge: str, chips: Sequence[str]) -> str:
    """Write the verdict in a word or two, and what it stands on."""
    listed = "".join(f"<span>{escape(each)}</span>" for each in chips)
    return f"{STYLE}<div class='ct-chips'><strong>{escape(badge)}</strong>{listed}</div>"


def difference_words(row: Any, digits: int = 3) -> str:
    """Write ``−12.3 [−20.1, −4.2]`` in points or nats (these with ``digits``); a dash where there is none.

    >>> from types import SimpleNamespace as Row
    >>> difference_words(Row(estimate=-0.123, low=-0.2, high=-0.05, unit="%"))
    '−12.3 [−20.0, −5.0] pts'
    """
    if pd.isna(row.estimate):
        return "–"
    values = (row.estimate, row.low, row.high)
    if row.unit == "%":
        (estimate, low, high), unit = (percent(each, sign=True) for each in values), "pts"
    else:
        (estimate, low, high), unit = (number(each, digits, sign=True) for each in values), "nats"
    return f"{estimate} [{low}, {high}] {unit}"


def bar_html(row: Any, factor: float, end: float) -> str:
    """Draw the difference and its interval on an axis from −end to end; only its zero where there is none.

    Boxes, not SVG: what shows them may allow HTML alone.
    """
    drawn = ""
    if not pd.isna(row.estimate):
        at, low, high = (
            50 + HALF * max(-1.0, min(1.0, factor * each / end)) for each in (row.estimate, row.low, row.high)
        )
        colour = READING_COLOURS.get(row.reading, READING_COLOURS["open"])
        fill = colour if row.reading in ("better", "worse") else "transparent"
        drawn = (
            f"<span class='ct-whisker' style='left:{low:.1f}%;width:{high - low:.1f}%;background:{colour}'></span>"
            f"<span class='ct-point' style='left:{at:.1f}%;border-color:{colour};background:{fill}'></span>"
        )
    return f"<div class='ct-bar' aria-hidden='true'><span class='ct-zero'></span>{drawn}</div>"


def _scale_html(end: float, unit: str) -> str:
    """Draw the axis's ends and its zero, above the bars."""
    return f"<div><span>−{end:g}</span><span>0</span><span>+{end:g} {unit}</span></div>"


def _digits(values: Iterable[float]) -> int:
    """Choose how many decimals of nats show two figures of the largest value; at least three, at most six."""
    most = max((abs(each) for each in values if not pd.isna(each)), default=0.0)
    return min(6, max(3, 1 - floor(log10(most)))) if most > 0 else 3


def _end(values: Iterable[float]) -> float:
    """Choose where an axis ends: the next of 1, 2, 5, 10, 20, 50 … that is beyond all that is drawn."""
    most = max((abs(each) for each in values if not pd.isna(each)), default=0.0)
    steps = [step * 10.0**decade for decade in range(-4, 4) for step in (1, 2, 5)]
    return next((step for step in steps if step >= most), most) if most > 0 else 1.0


def _value(value: float, unit: str, digits: int) -> str:
    if pd.isna(value):
        return "–"
    return f"{percent(value)} %" if unit == "%" else f"{value:.{digits}f} nats"
