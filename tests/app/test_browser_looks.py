"""Every page for everybody, in three looks: light, dark, and in a narrow window.

Mental model: opening a page costs seconds, looking at it nothing. So a page is opened once, by a tab that knows nothing, and
whatever can be asked is asked of that one: axe-core finds nothing serious, it has one title, its figures have descriptions,
nothing is cut off. Then the system becomes dark, and then the window narrow; the app asks for neither theme nor width, so its
pages differ in the browser alone. What goes wrong only where a page *opens* so is looked for on some pages: they are in
``test_browser_training.py``, ``_try.py`` and ``_walk.py``. axe-core comes from the package axe-playwright-python; what is
Streamlit's own and out of the app's reach is named below.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Page, expect, metric_values, overflow, ready, settle, shoot, watched
from saving import camera_s_background, everything_is_saved

from app.main_pages import PAGES

axe = pytest.importorskip("axe_playwright_python")
pytestmark = pytest.mark.browser

SCRIPT = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
ADDRESSES = {name: f"{name}?study=a-synthetic" for name in PAGES} | {
    "home": "home",
    "overview": "?study=a-synthetic&answers=True",
    "suite": "suite?suite=four",
}
WIDE: dict[str, int] = {"width": 1400, "height": 1000}
#: Whether the page's own background is dark, as the browser can say.
DARK = "(getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor.match(/\\d+/)[0] < 128)"
#: How many figures a page opens with.
FIGURES = {"overview": 2, "layers": 2, "maps": 2, "tokens": 1, "examples": 1, "training": 3, "suite": 2}
#: Streamlit's own elements, which the app cannot change: selector → why it is left out.
NOT_OURS = {
    "[data-testid=stDataFrame]": "a canvas with a hidden table of its own",
    "[data-testid=stPlotlyChart] .modebar": "Plotly's buttons",
    "[data-testid=stMultiSelect]": "its chips are buttons inside a combobox",
    "[data-testid=stHeader]": "the menu's own markup",
    "[data-testid=stSidebarCollapseButton], [data-testid=stExpandSidebarButton]": "icons without a name",
}
#: Of every figure that answers a click there is a box or list besides, which is a stop of the keyboard.
BOXES = {"layers": "Look closer at a layer", "tokens": "Token (column)", "examples": "Pairs"}
#: page → its files: the figures' in the order of the page, then the tables' beside them; maps has more once a cell is chosen.
SAVED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "overview": (("metrics", "outcomes"), ("answers", "verdict")),
    "layers": (("drift-cosine", "difference-cosine"), ()),
    "tokens": (("tokens-cosine",), ()),
    "examples": (("cases",), ("pairs",)),
    "training": (("training-loss", "behaviour", "drift-steps-cosine"), ()),
    "suite": (("suite-differences", "suite-harm"), ("suite-comparisons",)),
}
CELL = (("map-views", "map-difference-views", "map-profile-views", "map-drift"), ())
#: The views of a suite besides the one that it opens with.
VIEWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Regimes": (("suite-regimes",), ()),
    "Every setting": ((), ("suite-settings",)),
    "Training": (("suite-training",), ()),
    "Drift by layer": (("suite-drift-cosine",), ()),
}


def opened(page: Page, address: str, figures: int) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
    ready(page, figures)
    settle(page)


def violations(page: Page) -> list[str]:
    page.evaluate(SCRIPT)
    options = {"runOnly": ["wcag2a", "wcag2aa"], "resultTypes": ["violations"]}  # half a megabyte of what is well
    found = page.evaluate(
        "([context, options]) => axe.run(context, options).then(found => ({violations: found.violations}))",
        [{"exclude": [[each] for each in NOT_OURS]}, options],
    )
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]}: {node['failureSummary'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def one_title_and_the_tab_says_which(page: Page, name: str) -> None:
    assert page.get_by_role("heading", level=1).all_inner_texts() == [PAGES[name].title]
    expected = (
        f"{PAGES[name].title} · a-synthetic · cr_interp"
        if "study" in PAGES[name].parts
        else f"{PAGES[name].title} · cr_interp"
    )
    assert page.title() == expected


def no_accessible_name_has_an_escape(page: Page, name: str) -> None:
    """Backslashes that keep Markdown from reading a name are no part of it."""
    names = page.evaluate(
        "() => [...document.querySelectorAll('[aria-label], [title], [alt]')].flatMap(each =>"
        " ['aria-label', 'title', 'alt'].map(key => each.getAttribute(key)).filter(Boolean))"
    )
    assert names
    assert not [each for each in names if "\\" in each], name


def every_figure_has_its_description(page: Page, figures: int) -> None:
    charts = page.get_by_test_id("stPlotlyChart").all()
    assert len(charts) == figures
    for chart in charts:
        assert chart.get_attribute("role") == "figure"
        assert re.search(r"\d", chart.get_attribute("aria-label") or "")


# -- what a page says of its own -----------------------------------------------------------------------------


def overview(page: Page) -> None:
    expect(page.get_by_role("combobox", name="Study")).to_have_value("a-synthetic")
    expect(page).to_have_url(re.compile("study=a-synthetic"))
    expect(page.get_by_role("heading", name="Did nca reduce Harm without losing accuracy?")).to_be_visible()
    expect(page.get_by_text("difference", exact=False).first).to_be_visible()
    expect(page.locator(".ct-verdict tbody tr")).to_have_count(8)
    for heading in ("Metrics, side by side", "What kind of wrong", "What differs between the arms"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    charts = page.locator("[data-testid=stPlotlyChart]")
    assert page.get_by_text("small dots: each seed").count() == 1
    # Points and bars are really drawn.
    assert charts.nth(0).locator("path.point").count() >= 6 * 3
    assert charts.nth(1).locator(".bars .point").count() == 4 * 6
    page.get_by_text("Provenance").click()
    expect(page.get_by_text("cr-interp reproduce organism", exact=False)).to_be_visible()
    page.get_by_text("Provenance").click()  # as it was
    expect(page.get_by_text("cr-interp reproduce organism", exact=False)).to_be_hidden()


def layers(page: Page) -> None:
    expect(page.get_by_text("internalised the context", exact=False)).to_be_visible()
    lowest = [float(value) for value in metric_values(page, 3)]
    assert lowest == sorted(lowest)
    assert len(lowest) == 3
    chart = page.locator("[data-testid=stPlotlyChart]").first
    assert chart.locator("path.js-line").count() >= 3 * (1 + 1)  # the mean, and all seeds in one
    assert chart.locator(".fills path, path.js-fill").count() >= 3


def introduced(words: str) -> Callable[[Page], None]:
    def look(page: Page) -> None:
        expect(page.get_by_text(words)).to_be_visible()
        assert page.locator(".js-plotly-plot .heatmaplayer image").count() >= 2

    return look


def training(page: Page) -> None:
    expect(page.get_by_text("Look for the order of events")).to_be_visible()
    assert page.locator(".js-plotly-plot").first.locator("path.js-line").count() >= 3 + 3
    expect(page.get_by_text("States were captured at step 100 only")).to_be_visible()


OF_ITS_OWN = {
    "overview": overview,
    "layers": layers,
    "maps": introduced("bright where they arrange the tokens alike"),
    "tokens": introduced("the farther the state that predicts this token moves"),
    "examples": introduced("an arm is harmed where it was right until the context returned"),
    "training": training,
}


def brightness(page: Page) -> float:
    """Of the page's own background: 0 is black, 255 white."""
    colour = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3


def keyboard_reaches_the_verdict(page: Page) -> None:
    page.locator("h1").click()
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.closest('.ct-verdict') !== null"):
            break
    assert page.evaluate("document.activeElement.closest('.ct-verdict') !== null")


# -- the looks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=PAGES)
def look(request, server, browser):
    """A page's name, and the page, opened in the light and in a wide window, which its tests look at one after another."""
    name = request.param
    for page in watched(browser, viewport=WIDE):
        opened(page, f"{server}/{ADDRESSES[name]}", FIGURES.get(name, 0))
        yield name, page


def becomes(page: Page, figures: int, scheme: str = "light", viewport: dict[str, int] = WIDE) -> None:
    """Let the system's colours or the window's size change, and wait until the page has followed."""
    page.mouse.move(0, 0)
    # Plotly's word that a picture has been saved stays for three seconds.
    page.evaluate("document.querySelectorAll('.plotly-notifier').forEach(each => each.remove())")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(viewport)
    dark = scheme == "dark"
    page.wait_for_function(f"{DARK} === {str(dark).lower()}", timeout=30_000)
    settle(page)
    ready(page, figures)
    page.wait_for_function(
        "!document.getAnimations().some(each => each instanceof CSSTransition && each.playState === 'running')",
        timeout=30_000,
    )


def test_in_the_light_as_the_very_first_request(look):
    name, page = look
    figures = FIGURES.get(name, 0)
    becomes(page, figures)
    assert brightness(page) > 200
    one_title_and_the_tab_says_which(page, name)
    no_accessible_name_has_an_escape(page, name)
    every_figure_has_its_description(page, figures)
    assert violations(page) == []
    OF_ITS_OWN.get(name, lambda page: None)(page)
    shoot(page, f"{name}-light")
    if name in BOXES:
        box = page.get_by_role("combobox", name=BOXES[name])
        box.focus()
        expect(box).to_be_focused()
    if name == "overview":
        keyboard_reaches_the_verdict(page)
    if name == "layers":
        assert camera_s_background(page) == "light"
    if name in SAVED:
        everything_is_saved(page, *SAVED[name])


def test_in_the_dark(look):
    name, page = look
    becomes(page, FIGURES.get(name, 0), scheme="dark")
    assert brightness(page) < 60
    assert violations(page) == []
    OF_ITS_OWN.get(name, lambda page: None)(page)
    shoot(page, f"{name}-dark")
    if name == "layers":
        assert camera_s_background(page) == "dark"


CUT = """() => {
    const bad = []
    for (const each of document.querySelectorAll('[data-testid=stMain] *')) {
        const box = each.getBoundingClientRect()
        if (!box.width || !box.height || box.right <= innerWidth + 1) continue
        let above = each.parentElement, scrolls = false
        for (; above && !scrolls; above = above.parentElement)
            scrolls = /auto|scroll/.test(getComputedStyle(above).overflowX) && above.scrollWidth > above.clientWidth
        if (!scrolls && !each.closest('svg, canvas, [data-testid=stDataFrame], .js-plotly-plot'))
            bad.push(each.outerHTML.slice(0, 120))
    }
    return bad.slice(0, 5)
}"""


def test_in_a_narrow_window_nothing_is_cut_without_a_way_to_scroll(look, server):
    """A figure of several panels scrolls sideways rather than becoming unreadable."""
    name, page = look
    figures = FIGURES.get(name, 0)
    becomes(page, figures, viewport={"width": 420, "height": 900})
    if name == "maps":  # as it opens in such a window, with a cell
        opened(page, f"{server}/{ADDRESSES[name]}&layer_x=1&layer_y=3", 4)
    assert overflow(page) <= 0
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.evaluate(CUT) == []
    assert violations(page) == []
    if name in ("maps", "tokens", "examples", "training"):
        box = page.locator(".js-plotly-plot").first.bounding_box()
        assert box
        assert box["width"] > (700 if name == "training" else 500)
    shoot(page, f"{name}-narrow")
    # The line below the title is the way to the other pages.
    page.get_by_test_id("stMain").get_by_role("button", name="Pages").click()
    expect(page.get_by_test_id("stPopoverBody").get_by_role("link")).to_have_count(len(PAGES))


def test_a_cell_of_the_maps_is_saved(server, page):
    opened(page, f"{server}/{ADDRESSES['maps']}&layer_x=1&layer_y=2", 4)
    every_figure_has_its_description(page, 4)
    everything_is_saved(page, *CELL)


def test_every_view_of_a_suite_is_saved(server, page):
    opened(page, f"{server}/suite?study=four/rules-llama", 2)
    for view, (figures, tables) in VIEWS.items():
        page.get_by_role("tab", name=view).click()
        expect(page).to_have_url(re.compile("[?&]view=" + view.replace(" ", r"(\+|%20)")))
        expect(page.get_by_role("tab", name=view)).to_have_attribute("aria-selected", "true")
        ready(page, len(figures))
        settle(page)
        every_figure_has_its_description(page, len(figures))
        everything_is_saved(page, figures, tables)
