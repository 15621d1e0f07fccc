"""By keyboard, by pointer and by a copied link: what the figures say is reached on more than one way.

What each page looks like, to people and to axe-core, is in ``test_browser_looks.py``.
"""

import pytest
from browsing import expect, ready, settle, watched

pytestmark = pytest.mark.browser

<<<<<<< HEAD
=======
SCRIPT = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
ADDRESSES = {name: name for name in PAGES} | {"overview": "", "suite": "suite?suite=four"}
#: Streamlit's own elements, which the app cannot change: selector → why it is left out.
NOT_OURS = {
    "[data-testid=stDataFrame]": "a canvas with a hidden table of its own",
    "[data-testid=stPlotlyChart] .modebar": "Plotly's buttons",
    "[data-testid=stMultiSelect]": "its chips are buttons inside a combobox",
    "[data-testid=stHeader]": "the menu's own markup",
    "[data-testid=stSidebarCollapseButton], [data-testid=stExpandSidebarButton]": "icons without a name",
}


def address(name: str) -> str:
    path = ADDRESSES[name]
    return path if "suite" in path or name == "home" else f"{path}?study=a-synthetic"


def violations(page: Page) -> list[str]:
    page.evaluate(SCRIPT)
    options = {"runOnly": ["wcag2a", "wcag2aa"]}
    found = page.evaluate(
        "([context, options]) => axe.run(context, options)", [{"exclude": [[each] for each in NOT_OURS]}, options]
    )
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]}: {node['failureSummary'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def opened(page: Page, server: str, name: str) -> None:
    page.goto(f"{server}/{address(name)}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
    settle(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(server, browser, name, theme):
    for page in watched(browser, viewport={"width": 1440, "height": 1000}, color_scheme=theme):
        opened(page, server, name)
        assert violations(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_in_a_narrow_window_nothing_is_cut_without_a_way_to_scroll(server, browser, name):
    for page in watched(browser, viewport={"width": 420, "height": 900}):
        opened(page, server, name)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        cut = page.evaluate(
            """() => {
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
        )
        assert cut == []
        assert violations(page) == []
        # The line below the title is the way to the other pages.
        page.get_by_test_id("stMain").get_by_role("button", name="Pages").click()
        expect(page.get_by_test_id("stPopoverBody").get_by_role("link")).to_have_count(len(PAGES))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_one_title_and_the_tab_says_which(server, page, name):
    opened(page, server, name)
    assert page.get_by_role("heading", level=1).all_inner_texts() == [PAGES[name].title]
    expected = (
        f"{PAGES[name].title} · a-synthetic · cr_interp"
        if "study" in PAGES[name].parts
        else f"{PAGES[name].title} · cr_interp"
    )
    assert page.title() == expected


def test_no_accessible_name_has_an_escape(server, page):
    """Backslashes that keep Markdown from reading a name are no part of it."""
    for name in PAGES:
        opened(page, server, name)
        names = page.evaluate(
            "() => [...document.querySelectorAll('[aria-label], [title], [alt]')].flatMap(each =>"
            " ['aria-label', 'title', 'alt'].map(key => each.getAttribute(key)).filter(Boolean))"
        )
        assert not [each for each in names if "\\" in each], name


def test_the_keyboard_reaches_what_the_figures_say(server, page):
    """Of every figure that answers a click there is a box or list besides, which is a stop of the keyboard."""
    for name, label in (
        ("layers", "Look closer at a layer"),
        ("tokens", "Token (column)"),
        ("examples", "Pairs"),
    ):
        opened(page, server, name)
        box = page.get_by_role("combobox", name=label)
        box.focus()
        expect(box).to_be_focused()
    opened(page, server, "overview")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.closest('.ct-verdict') !== null"):
            break
    assert page.evaluate("document.activeElement.closest('.ct-verdict') !== null")

>>>>>>> main

def test_the_link_is_copied(server, browser):
    for page in watched(browser, viewport={"width": 1400, "height": 900}):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
        page.goto(f"{server}/layers?study=a-synthetic&layer=2")
        ready(page, 2)
        settle(page)
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_arrow_keys_go_through_the_examples(server, page):
    page.goto(f"{server}/tokens?study=a-synthetic")
    ready(page, 1)
    settle(page)
    box = page.get_by_role("combobox", name="Example")
    first = box.input_value()
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert box.input_value() != first
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert box.input_value() == first


def test_a_click_near_a_grey_line_chooses_the_layer(server, page):
    """The floor lies over the curves' neighbourhood and once took the click for itself."""
    page.goto(f"{server}/layers?study=a-synthetic")
    ready(page, 2)
    settle(page)
    plot = page.locator(".js-plotly-plot").first
    x, y = plot.evaluate(
        """plot => {
            const trace = plot._fullData.find(each => each.name === 'floor');
            const axes = [plot._fullLayout.xaxis, plot._fullLayout.yaxis];
            const box = plot.getBoundingClientRect();
            return [box.left + axes[0]._offset + axes[0].l2p(trace.x[2]), box.top + axes[1]._offset + axes[1].l2p(trace.y[2])];
        }"""
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.up()
    settle(page)
    expect(page.get_by_role("combobox", name="Look closer at a layer")).to_have_value("1")


def test_tokens_from_layers_is_at_that_layer_in_the_browser_too(server, page):
    page.goto(f"{server}/layers?study=a-synthetic&layer=2")
    ready(page, 2)
    settle(page)
    page.get_by_role("link", name="Tokens at layer 2").click()
    expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
    settle(page)
    slider = page.get_by_role("slider", name="Layer")
    expect(slider).to_have_attribute("aria-valuetext", "2")
    page.get_by_role("button", name="Next").click()
    settle(page)
    expect(slider).to_have_attribute("aria-valuetext", "2")
