"""The tables that a page draws as HTML, read back as data frames of texts."""

from html.parser import HTMLParser

import pandas as pd


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = self.head = False
        self.cell: list[str] | None = None
        self.whole: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = dict(attributes)
        if "ct-table" in str(said.get("class")):
            self.inside = True
            self.tables.append([])
        elif self.inside and tag == "tr":
            self.tables[-1].append([])
        elif self.inside and tag in ("th", "td"):
            self.cell, self.whole = [], None if said.get("scope") == "col" else said.get("title")

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td") and self.cell is not None:
            self.tables[-1][-1].append(self.whole or "".join(self.cell))
            self.cell = None
        elif tag == "table":
            self.inside = False


def read(html: str) -> list[pd.DataFrame]:
    """A data frame for each ``ct-table``; a number that is printed rounded is given whole."""
    reader = _Reader()
    reader.feed(html)
    return [pd.DataFrame(rows[1:], columns=rows[0]) for rows in reader.tables]


def shown(app) -> list[pd.DataFrame]:
    """Those of a page, in their order."""
    return [table for each in app.get("html") for table in read(str(each.proto.body))]
