"""Findings of a machine: one number each, with its limit; as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cr_interp.system.shown import PlainTable


@dataclass(frozen=True)
class Finding:
    """``ok`` None: it informs, or was not run and ``note`` says why."""

    part: str
    what: str
    value: float | None = None
    unit: str = ""
    limit: float | None = None
    ok: bool | None = None
    note: str = ""

    @staticmethod
    def at_most(part: str, what: str, value: float, limit: float, unit: str = "", note: str = "") -> "Finding":
        """Make a finding of a number that must not exceed its limit; NaN does."""
        return Finding(part, what, value, unit, limit, bool(value <= limit), note)


def finding_table(findings: Sequence[Finding], title: str) -> Table:
    """Make the table for the terminal."""
    table = PlainTable(title)
    for name in ("part", "what", "value", "limit", ""):
        table.add_column(name, justify="right" if name in ("value", "limit") else "left")
    for each in findings:
        word = {True: "ok", False: "FAILS", None: ""}[each.ok]
        table.add_row(
            each.part,
            each.what,
            _number(each.value, each.unit),
            _number(each.limit, ""),
            f"{word} {each.note}".strip(),
        )
    return table


def as_json(findings: Sequence[Finding], **machine: Any) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        **machine,
        "passed": not any(each.ok is False for each in findings),
        "findings": [asdict(each) for each in findings],
    }


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.4g}{f' {unit}' if unit else ''}"
