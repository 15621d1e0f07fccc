"""A table as HTML: what stands in which cell, as it is read back by a parser that is not the writer's."""

import pandas as pd
from shown_tables import read

from cr_interp.figures.table_html import table_html

TABLE = pd.DataFrame({"arm": ["opd", "<b>nca</b>"], "cka": [-0.123456, float("nan")], "said": ["a\nb", None]})


def test_cells_names_and_missing_values():
    found = read(table_html(TABLE, "values", formats={"cka": ".2f"}, names={"cka": "CKA"}))
    assert len(found) == 1
    assert list(found[0].columns) == ["arm", "CKA", "said"]
    assert found[0]["arm"].tolist() == ["opd", "<b>nca</b>"]
    assert found[0]["said"].tolist() == ["a\nb", "–"]
    assert found[0]["CKA"].tolist() == ["-0.123456", "–"], "the pointer shows the whole number"
    assert "−0.12<" in table_html(TABLE, "values", formats={"cka": ".2f"})


def test_nothing_is_markup_and_the_region_has_a_name():
    html = table_html(TABLE, "it's <values>", help_of={"arm": "'\"<i>"}, height=120)
    assert "<b>" not in html
    assert "<i>" not in html
    assert "aria-label='it&#x27;s &lt;values&gt;'" in html
    assert "title='&#x27;&quot;&lt;i&gt;'" in html
    assert "max-height: 120px" in html
    assert html.count("scope='row'") == 2
    assert html.count("scope='col'") == 3


def test_a_table_that_scrolls_says_so():
    long = pd.DataFrame({"layer": range(40), "cka": 0.5})
    assert "40 rows; the table scrolls." in table_html(long, "layers", height=380)
    assert "scrolls" not in table_html(long.head(5), "layers", height=380)
    assert "scrolls" not in table_html(long, "layers")


def test_without_rows_the_head_stands():
    assert list(read(table_html(TABLE.iloc[:0], "none"))[0].columns) == ["arm", "cka", "said"]
