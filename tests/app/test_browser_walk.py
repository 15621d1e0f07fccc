"""One walk through the bundled studies, as a stranger takes it: every page, one tab, from link to link.

Nothing may be said on the way that is no part of the page: no error in the browser's console and no foreign host
(``watched`` looks), no warning of the server's. Axe looks at the pages that only a bundled study fills.
"""

import re
from pathlib import Path

import pytest
from browsing import expect, log_of, settle, visit, watched

from app.main_pages import PAGES

axe = pytest.importorskip("axe_playwright_python")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
#: Streamlit's and Plotly's own elements.
NOT_OURS = (
    "[data-testid=stDataFrame]",
    ".modebar",
    "[data-testid=stMultiSelect]",
    "[data-testid=stHeader]",
    "[data-testid=stSidebar]",
)
#: Two walks: every page of one study, and what only the bundled ones have (patching, twelve settings), where axe looks as well.
WALKS = {
    "pages": [f"{name}?study=organism-shift" for name in PAGES if name not in ("home", "overview", "suite")]
    + ["home"],
    "bundled": [
        "?study=organism-shift",
        "mechanism?study=organism-shift&tab=heads",
        "?study=smollm2-sentiment",
        "suite?suite=suite",
        "suite?suite=suite&view=Ablations",
    ],
}
AXE = """excluded => axe.run({exclude: excluded.map(each => [each])}, {runOnly: ['wcag2a', 'wcag2aa']}).then(found =>
    found.violations.filter(each => /serious|critical/.test(each.impact)).map(each => each.id + ': ' + each.nodes[0].html))"""


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_says_nothing_that_is_no_part_of_the_page(server, browser, walk):
    log = log_of(server)
    before = len(log.read_text())
    for page in watched(browser, viewport={"width": 1440, "height": 1000}):
        for address in WALKS[walk]:
            visit(page, f"{server}/{address}")
            expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
            settle(page)
            assert page.get_by_test_id("stException").count() == 0, address
            assert page.get_by_test_id("stAlertContentError").count() == 0, address
            if walk == "bundled":
                page.evaluate(SCRIPT)
                assert page.evaluate(AXE, list(NOT_OURS)) == [], address
    said = log.read_text()[before:]
    assert not re.search(r"warning|error|deprecat|traceback", said, re.IGNORECASE), said


def test_at_420_pixels_every_number_of_the_verdict_is_in_sight(server, browser):
    """A row is a block there: nothing of it lies beyond the window's edge or under another part of the row."""
    for page in watched(browser, viewport={"width": 420, "height": 900}):
        page.goto(f"{server}/?study=organism-shift")
        page.locator(".ct-verdict").wait_for(timeout=60_000)
        settle(page)
        boxes = page.evaluate(
            """() => [...document.querySelectorAll('.ct-verdict tbody tr:not(.ct-scale)')].map(row =>
                [...row.children].map(each => { const box = each.getBoundingClientRect()
                    return [box.left, box.top, box.right, box.bottom] }))"""
        )
        assert len(boxes) == 8
        for row in boxes:
            assert len(row) == 6
            assert all(0 <= left < right <= 420 for left, _, right, _ in row)
            for number, one in enumerate(row):
                for other in row[number + 1 :]:
                    apart = (
                        one[2] <= other[0] + 1
                        or other[2] <= one[0] + 1
                        or one[3] <= other[1] + 1
                        or other[3] <= one[1] + 1
                    )
                    assert apart
