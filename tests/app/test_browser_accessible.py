"""By keyboard, by pointer and by a copied link: what the figures say is reached on more than one way.

What each page looks like, to people and to axe-core, is in ``test_browser_looks.py``.
"""

import re

import pytest
from browsing import click_marker, expect, ready, same_in_a_new_tab, settle, watched

pytestmark = pytest.mark.browser


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


def test_what_layers_is_set_to_by_pointer_goes_with_it_to_others_and_to_the_tokens(server, browser):
    """The floor lies over the curves' neighbourhood and once took the click for itself."""
    for page in watched(browser, viewport={"width": 1400, "height": 1000}):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
        page.goto(f"{server}/layers?study=a-synthetic&measure=relative_l2")
        ready(page, 2)
        settle(page)
        plot = page.locator(".js-plotly-plot").first
        x, y = plot.evaluate(
            """plot => {
                const trace = plot._fullData.find(each => each.name === 'floor');
                const axes = [plot._fullLayout.xaxis, plot._fullLayout.yaxis];
                const box = plot.getBoundingClientRect();
                const [left, top] = [axes[0]._offset + axes[0].l2p(trace.x[2]), axes[1]._offset + axes[1].l2p(trace.y[2])];
                return [box.left + left, box.top + top];
            }"""
        )
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        page.mouse.down()
        page.mouse.up()
        settle(page)
        expect(page.get_by_role("combobox", name="Look closer at a layer")).to_have_value("1")
        expect(page).to_have_url(re.compile(r"[?&]layer=1"))
        click_marker(page, 1, -1)  # of the differences: the last arm's last layer
        settle(page)
        expect(page).to_have_url(re.compile(r"[?&]layer=3"))
        expect(page.get_by_role("link", name="Tokens at layer 3")).to_be_visible()
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        # What stands behind the curves is part of the address.
        expect(plot.locator(".legend")).to_contain_text("floor")
        page.get_by_test_id("stMain").get_by_role("button", name="floor").click()
        settle(page)
        expect(plot.locator(".legend")).not_to_contain_text("floor")
        expect(page).to_have_url(re.compile("behind=(&|$)"))
        same_in_a_new_tab(browser, page, 2)
        page.get_by_role("link", name="Tokens at layer 3").click()
        expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
        ready(page, 1)
        settle(page)
        for part in ("layer=3", "measure=relative_l2"):
            expect(page).to_have_url(re.compile(f"[?&]{part}"))
        expect(page.locator(".js-plotly-plot").first).to_contain_text("relative L2")
        slider = page.get_by_role("slider", name="Layer")
        expect(slider).to_have_attribute("aria-valuetext", "3")
        page.get_by_role("button", name="Next").click()
        settle(page)
        expect(slider).to_have_attribute("aria-valuetext", "3")
