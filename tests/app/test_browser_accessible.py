"""By keyboard, by pointer and by a copied link: what the figures say is reached on more than one way.

What each page looks like, to people and to axe-core, is in ``test_browser_looks.py``.
"""

import pytest
from browsing import expect, ready, settle, watched

pytestmark = pytest.mark.browser


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
