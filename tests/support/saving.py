"""What a page of the workbench can save, in a real browser: its menus' files, and what its figures' cameras make."""

import re
from collections.abc import Sequence
from pathlib import Path

from browsing import Page, expect, ready, settle

KINDS = {"Numbers (CSV)": ".csv", "Figure, interactive (HTML)": ".html", "Figure, as Python": ".py"}
#: What the first line of a figure's numbers begins with, where it is known.
FIRST_LINES = {
    "drift-cosine.csv": "arm,layer,estimate,low,high,seeds,n_tokens,n_examples",
    "training-loss.csv": "arm,seed,kind,step,averaged,",
}


def save(page: Page, button) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def menus(page: Page) -> dict[str, bytes]:
    """File name → content of everything that the page's menus offer."""
    found: dict[str, bytes] = {}
    popovers = page.get_by_test_id("stPopover").filter(visible=True)  # the pages' menu is for narrow windows
    for index in range(popovers.count()):
        popovers.nth(index).get_by_role("button").first.click()
        body = page.get_by_test_id("stPopoverBody")
        expect(body).to_be_visible()
        buttons = body.get_by_test_id("stDownloadButton").get_by_role("button")
        expect(buttons.first).to_be_visible()
        for number in range(buttons.count()):
            label = buttons.nth(number).inner_text().strip()
            name, content = save(page, buttons.nth(number))
            assert name.endswith(KINDS[label]), (label, name)
            found[name] = content
        page.keyboard.press("Escape")
        expect(body).to_have_count(0)
    return found


def everything_is_saved(page: Page, figures: Sequence[str], tables: Sequence[str]) -> None:
    """Every figure in each kind and by its camera, every table, then a picture; the page is another one after that."""
    for closed in page.get_by_test_id("stExpander").filter(has_text="Every claim").locator("summary").all():
        shown = page.get_by_test_id("stPopover").filter(visible=True)
        before = shown.count()
        closed.click()
        expect(shown).to_have_count(before + 1)
    found = menus(page)
    assert set(found) == {f"{name}{kind}" for name in figures for kind in KINDS.values()} | {
        f"{name}.csv" for name in tables
    }
    for name, content in found.items():
        text = content.decode()
        if name.endswith(".csv"):
            assert len(text.splitlines()) > 1, name
            assert text.startswith(FIRST_LINES.get(name, "")), name
        elif name.endswith(".html"):
            assert "<figcaption>" in text, name
            assert "Plotly.newPlot" in text, name
        else:
            compile(text, name, "exec")  # test_recipes.py runs them
            assert text.endswith("figure.show()\n"), name
    if "drift-cosine" in figures:
        # Three arms at five places, under the exact context and the floor that stands behind it.
        assert len(found["drift-cosine.csv"].decode().splitlines()) == 1 + 2 * 3 * 5
        assert "<figcaption>Cosine between" in found["drift-cosine.html"].decode()
    for name in {"map-views", "tokens-cosine", "cases"} & set(figures):
        assert "arm" in found[f"{name}.csv"].decode().splitlines()[0]
    camera_saves(page, "SVG")
    for index, name in enumerate(figures):
        assert camera(page, index) == (f"{name}.svg", b"<svg")
    if figures:
        camera_saves(page, "PNG")
        ready(page, len(figures))
        assert camera(page, 0) == (f"{figures[0]}.png", b"\x89PNG")


def camera_saves(page: Page, kind: str) -> None:
    """Choose ``SVG`` or ``PNG`` on the left; every figure is drawn anew, so not if it is chosen already."""
    found = (
        page.get_by_test_id("stSidebar")
        .get_by_test_id("stButtonGroup")
        .get_by_role("radio", name=kind, exact=True)
    )
    if found.get_attribute("aria-checked") != "true":
        found.click()
        settle(page)


def _taken(page: Page, index: int) -> tuple[str, bytes]:
    chart = page.get_by_test_id("stPlotlyChart").nth(index)
    chart.scroll_into_view_if_needed()
    chart.hover()
    return save(page, chart.locator("[data-title*=Download]"))


def camera(page: Page, index: int) -> tuple[str, bytes]:
    """The name and the first bytes of what a figure's camera saves."""
    name, content = _taken(page, index)
    assert len(content) > 5_000
    return name, content[:4]


def camera_s_background(page: Page) -> str:
    """``light`` or ``dark``: a dark page's light text on nothing could not be read on paper."""
    camera_saves(page, "SVG")
    _, content = _taken(page, 0)
    paper = re.search(r'<rect [^>]*style="fill: rgb\((\d+), (\d+), (\d+)\); fill-opacity: (\d)', content.decode())
    assert paper
    red, green, blue, opaque = map(int, paper.groups())
    assert opaque == 1
    return "light" if min(red, green, blue) > 200 else "dark"
