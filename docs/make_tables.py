"""Refresh the metric tables of README.md from the bundled studies: ``python docs/make_tables.py``.

A study's table stands under a line that begins with its name in bold code, a suite's tables between two comments with its
name; each is replaced as a whole.
"""

import re
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.report.study import markdown_table
from cr_interp.report.suite import markdown_suite
from cr_interp.study.searching import open_study
from cr_interp.tables.metrics import metric_table
from cr_interp.tables.suite import open_suite

README = Path(__file__).resolve().parent.parent / "README.md"
TABLE = re.compile(r"(\*\*`(?P<name>[\w/-]+)`\*\*[^\n]*\n\n)(?:\|[^\n]*\n)+(?:\n95 % intervals: [^\n]*\n)?")

SUITE = re.compile(r"(<!-- suite (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The text with every table made anew; a name that is no study is an error, not a stale table."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}{markdown_table(metric_table(open_study(found['name'])))}\n"

    def suite(found: re.Match[str]) -> str:
        return f"{found[1]}\n{markdown_suite(open_suite(found['name']))}\n\n{found[3]}"

    new, count = TABLE.subn(table, text)
    if not count:
        raise UserError(f"{README} has no table to refresh.")
    return SUITE.sub(suite, new)


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")
