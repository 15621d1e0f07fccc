"""Everything that can be saved, in a real Chromium: every figure and table of every page, and the camera in both formats."""

import re
from pathlib import Path

import pytest
from browsing import expect, ready, settle, watched

pytestmark = pytest.mark.browser

#: page, with its address → its figures in the order of the page, then the tables that can be saved beside them
SAVED = {
    "?study=a-synthetic": (("metrics", "outcomes"), ("answers", "verdict")),
    "layers?study=a-synthetic": (("drift-cosine", "difference-cosine"), ()),
    "maps?study=a-synthetic&layer_x=1&layer_y=2": (
        ("map-views", "map-difference-views", "map-profile-views", "map-drift"),
        (),
    ),
    "tokens?study=a-synthetic": (("tokens-cosine",), ()),
    "examples?study=a-synthetic": (("cases",), ("pairs",)),
    "training?study=a-synthetic": (("training-loss", "behaviour", "drift-steps-cosine"), ()),
    "suite?study=four/rules-llama": (("suite-differences", "suite-harm"), ("suite-comparisons",)),
    "suite?study=four/rules-llama&view=Regimes": (("suite-regimes",), ()),
    "suite?study=four/rules-llama&view=Every+setting": ((), ("suite-settings",)),
    "suite?study=four/rules-llama&view=Training": (("suite-training",), ()),
    "suite?study=four/rules-llama&view=Drift+by+layer": (("suite-drift-cosine",), ()),
}
KINDS = {"Numbers (CSV)": ".csv", "Figure, interactive (HTML)": ".html", "Figure, as Python": ".py"}


def save(page, button) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def menus(page) -> dict[str, bytes]:
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


@pytest.mark.parametrize("address", SAVED)
def test_every_figure_and_table_is_saved(server, page, address):
    figures, tables = SAVED[address]
    page.goto(f"{server}/{address}")
    ready(page, len(figures))
    settle(page)
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
        elif name.endswith(".html"):
            assert "<figcaption>" in text, name
            assert "Plotly.newPlot" in text, name
        else:
            compile(text, name, "exec")  # test_recipes.py runs them
            assert text.endswith("figure.show()\n"), name
    for index, name in enumerate(figures):
        assert camera(page, index) == (f"{name}.svg", b"<svg")
    if not figures:
        return
    page.get_by_test_id("stSidebar").get_by_text("PNG", exact=True).click()
    settle(page)
    ready(page, len(figures))
    assert camera(page, 0) == (f"{figures[0]}.png", b"\x89PNG")


def camera(page, index: int) -> tuple[str, bytes]:
    """The name and the first bytes of what a figure's camera saves."""
    chart = page.get_by_test_id("stPlotlyChart").nth(index)
    chart.scroll_into_view_if_needed()
    chart.hover()
    name, content = save(page, chart.locator("[data-title*=Download]"))
    assert len(content) > 5_000
    return name, content[:4]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_camera_saves_the_page_s_background(server, browser, theme):
    """A dark page's light text on nothing could not be read on paper."""
    for page in watched(browser, viewport={"width": 1400, "height": 1000}, color_scheme=theme):
        page.goto(f"{server}/layers?study=a-synthetic")
        ready(page, 2)
        settle(page)
        chart = page.get_by_test_id("stPlotlyChart").first
        chart.hover()
        _, content = save(page, chart.locator("[data-title*=Download]"))
        paper = re.search(
            r'<rect [^>]*style="fill: rgb\((\d+), (\d+), (\d+)\); fill-opacity: (\d)', content.decode()
        )
        assert paper
        red, green, blue, opaque = map(int, paper.groups())
        assert opaque == 1
        assert (min(red, green, blue) > 200) == (theme == "light")
