"""Maps, Tokens and Examples in a real Chromium: every click path, the address in a new tab, both themes, hostile text."""

import re

import pytest
from browsing import click_in, click_marker, expect, pick, ready, same_in_a_new_tab, settle, shoot

pytestmark = pytest.mark.browser


def query(page) -> dict[str, list[str]]:
    return page.evaluate(
        "() => { const found = {}; for (const [k, v] of new URLSearchParams(location.search))"
        " (found[k] ??= []).push(v); return found }"
    )


@pytest.mark.parametrize("name", ["maps", "tokens"])
def test_an_old_study_says_what_it_lacks(server, page, name):
    page.goto(f"{server}/{name}?study=five-arms")
    expect(page.get_by_text("This study has no")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("cr-interp capture five-arms")).to_be_visible()
    ready(page, 0)
    shoot(page, f"{name}-lacking")


# -- maps ----------------------------------------------------------------------------------------------------


def test_a_click_on_a_map_shows_both_layers(server, page, browser):
    page.goto(f"{server}/maps?study=a-synthetic")
    ready(page, 2)
    # Five places across and up (the embedding and four layers): column 1 is layer 0, the second row from the top layer 2.
    click_in(page, 0, 1, 0.3, 0.3)
    ready(page, 4)
    assert query(page)["layer_x"] == ["0"]
    assert query(page)["layer_y"] == ["2"]
    expect(page.get_by_text("The chosen cell's row and column")).to_be_visible()
    expect(page.locator(".js-plotly-plot").nth(2)).to_contain_text("layer 0, without context")
    expect(page.locator(".js-plotly-plot").nth(3)).to_contain_text("layer 2")
    # A click on a difference counts as well; its lower left cell is the embedding.
    click_in(page, 1, 0, 0.05, 0.95)
    ready(page, 4)
    expect(page).to_have_url(re.compile("layer_x=emb"))
    page.get_by_test_id("stButtonGroup").get_by_text("1 − CKA, log").click()
    settle(page)
    expect(page).to_have_url(re.compile("colour=distance"))
    page.get_by_test_id("stButtonGroup").get_by_text("base × checkpoint").click()
    settle(page)
    expect(page.locator(".js-plotly-plot").first).to_contain_text("layer of base")
    pick(page, "Layer of the arm", "3")
    expect(page).to_have_url(re.compile("layer_y=3"))
    settle(page)
    ready(page, 4)
    same_in_a_new_tab(browser, page, 4)
    shoot(page, "maps-cell")


def test_from_a_map_to_the_layers_and_back(server, page):
    page.goto(f"{server}/maps?study=a-synthetic&layer_x=1&layer_y=2&arms=opd&arms=nca&seeds=0&seeds=2")
    ready(page, 4)
    settle(page)
    page.get_by_role("link", name="Drift at layer 2").click()
    expect(page.get_by_role("heading", name="Drift by layer")).to_be_visible(timeout=20_000)
    ready(page, 2)
    assert query(page)["layer"] == ["2"]
    assert query(page)["arms"] == ["opd", "nca"]
    assert query(page)["seeds"] == ["0", "2"]
    expect(page.locator(".js-plotly-plot").first).to_contain_text("layer 2")
    page.go_back()
    expect(page.get_by_role("heading", name="Two layers")).to_be_visible(timeout=20_000)
    ready(page, 4)
    assert query(page)["layer_x"] == ["1"]


# -- layers → tokens, maps -----------------------------------------------------------------------------------


def test_a_click_on_a_curve_offers_tokens_and_maps_at_that_layer(server, page, browser):
    page.goto(f"{server}/layers?study=a-synthetic")
    ready(page, 2)
    # The curves' markers: five places an arm; the last arm's layer 2 is the last but one.
    click_marker(page, 0, -2)
    settle(page)
    expect(page).to_have_url(re.compile(r"[?&]layer=2"))
    ready(page, 2)
    same_in_a_new_tab(browser, page, 2)
    page.get_by_role("link", name="Maps at layer 2").click()
    expect(page.get_by_role("heading", name="Side by side")).to_be_visible(timeout=20_000)
    ready(page, 4)
    assert (query(page)["layer_x"], query(page)["layer_y"]) == (["2"], ["2"])
    page.get_by_role("link", name="Tokens at layer 2").click()
    expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
    ready(page, 1)
    assert query(page)["layer"] == ["2"]
    expect(page.get_by_role("slider", name="Layer")).to_have_attribute("aria-valuetext", "2")


# -- tokens --------------------------------------------------------------------------------------------------


def test_tokens_step_by_step(server, page, browser):
    page.goto(f"{server}/tokens?study=a-synthetic&by_arm=opd")
    ready(page, 1)
    expect(page.get_by_text("Example 1 of 60")).to_be_visible()
    assert "example" not in query(page)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Example 2 of 60")).to_be_visible(timeout=20_000)
    settle(page)
    second = query(page)["example"]
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Example 3 of 60")).to_be_visible(timeout=20_000)
    settle(page)
    # The browser's way back is the way through the examples.
    page.go_back()
    expect(page.get_by_text("Example 2 of 60")).to_be_visible(timeout=20_000)
    assert query(page)["example"] == second
    page.go_back()
    expect(page.get_by_text("Example 1 of 60")).to_be_visible(timeout=20_000)
    page.go_forward()
    expect(page.get_by_text("Example 2 of 60")).to_be_visible(timeout=20_000)
    settle(page)
    # Coloured text: the first token drifts more than the last one; the pointer shows its numbers.
    cells = page.locator(".ct-text tr").nth(2).locator("td")
    colours = [cells.nth(i).evaluate("cell => getComputedStyle(cell).backgroundColor") for i in (0, 6)]
    strength = [float(re.search(r"([\d.]+)\)$", colour).group(1)) for colour in colours]
    assert strength[0] > 2 * strength[1]
    assert "output KL" in cells.first.get_attribute("title")
    # A click on a strip chooses the layer: five rows, the top one is layer 3.
    click_in(page, 0, 1, 0.5, 0.1)
    expect(page).to_have_url(re.compile(r"[?&]layer=3"))
    page.get_by_test_id("stButtonGroup").get_by_text("relative L2").click()
    settle(page)
    page.get_by_test_id("stButtonGroup").get_by_text("mean of tokens").click()
    settle(page)
    expect(page).to_have_url(re.compile("statistic=mean"))
    ready(page, 1)
    same_in_a_new_tab(browser, page, 1)
    page.get_by_test_id("stButtonGroup").get_by_text("output KL").click()
    expect(page.get_by_role("heading", name="Output, token by token")).to_be_visible(timeout=20_000)
    ready(page, 1)
    shoot(page, "tokens-kl")


@pytest.mark.parametrize(
    ("link", "heading", "key", "figures"),
    [("Drift at layer 2", "Drift by layer", "layer", 2), ("Maps at layer 2", "Two layers", "layer_x", 4)],
)
def test_from_tokens_to_the_layer(server, page, link, heading, key, figures):
    page.goto(f"{server}/tokens?study=a-synthetic&layer=2")
    ready(page, 1)
    settle(page)
    page.get_by_role("link", name=link).click()
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=20_000)
    ready(page, figures)
    assert query(page)[key] == ["2"]


def test_a_long_response_scrolls_and_is_read_in_windows(server, page, browser):
    page.goto(f"{server}/tokens?study=long-responses")
    ready(page, 1)
    expect(page.get_by_text("120 at a time")).to_be_visible()
    assert page.locator(".ct-text td").count() < 6 * 120
    text = page.locator(".ct-text")
    size = text.evaluate("box => [box.scrollWidth - box.clientWidth, box.clientHeight]")
    assert size[0] <= 0
    assert size[1] < 600
    page.get_by_test_id("stPaginationPage").get_by_text("3", exact=True).click()
    settle(page)
    expect(page).to_have_url(re.compile("part=3"))
    expect(page.get_by_text("Columns 240 to 359")).to_be_visible(timeout=20_000)
    ready(page, 1)
    same_in_a_new_tab(browser, page, 1)
    shoot(page, "tokens-long")


# -- examples ------------------------------------------------------------------------------------------------


def test_a_click_on_a_cell_lists_its_pairs_and_leads_to_their_tokens(server, page, browser):
    page.goto(f"{server}/examples?study=a-synthetic")
    ready(page, 1)
    click_in(page, 0, 0, 0.2, 0.8)  # base: wrong without, right with
    expect(page.get_by_text("pairs of base: rescued")).to_be_visible(timeout=20_000)
    assert query(page)["case_arm"] == ["base"]
    assert query(page)["cases"] == ["rescued"]
    marks = page.locator(".ct-pair mark")
    assert marks.count() > 0
    page.get_by_test_id("stPaginationPage").get_by_text("2", exact=True).click()
    settle(page)
    expect(page).to_have_url(re.compile("page=2"))
    ready(page, 1)
    same_in_a_new_tab(browser, page, 1)
    shoot(page, "examples-cell")
    shown = page.get_by_test_id("stMain").get_by_text(re.compile(r"test-\d{4} · rescued")).first.inner_text()
    page.get_by_role("link", name="Tokens").nth(1).click()  # the first is the menu's
    expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
    ready(page, 1)
    assert query(page)["example"] == [shown[:9]]
    assert query(page)["by_arm"] == ["base"]
    page.get_by_role("link", name="Its pairs").click()
    expect(page.get_by_role("heading", name="Prompt by prompt")).to_be_visible(timeout=20_000)
    ready(page, 1)
    expect(page.get_by_text(re.compile(r"test-\d{4} · ")).first).to_contain_text(shown[:9])
    page.go_back()
    expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
    settle(page)


def test_from_the_headline_to_the_token_in_three_clicks(server, page):
    page.goto(f"{server}/?study=a-synthetic")
    ready(page, 2)
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    x, y = plot.evaluate(
        """plot => {
            const trace = plot._fullData.find(each => each.meta?.panel === "harm" && each.mode.includes("text"));
            const opd = Array.from(trace.y).indexOf(1);  // the second arm's row
            const axes = [trace.xaxis, trace.yaxis].map(name => plot._fullLayout[name[0] + "axis" + name.slice(1)]);
            const box = plot.getBoundingClientRect();
            return [box.left + axes[0]._offset + axes[0].l2p(trace.x[opd]), box.top + axes[1]._offset + axes[1].l2p(1)];
        }"""
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_text("pairs of opd: harmed")).to_be_visible(timeout=20_000)
    ready(page, 1)
    assert "/examples" in page.url
    page.get_by_role("link", name="Tokens").nth(1).click()
    expect(page.get_by_role("heading", name="Text, coloured by drift")).to_be_visible(timeout=20_000)
    assert query(page)["by_arm"] == ["opd"]
    ready(page, 1)
    # Coming back, the click is not made a second time.
    page.get_by_role("link", name="Overview").click()
    ready(page, 2)
    settle(page)
    assert "/examples" not in page.url
    page.get_by_role("link", name="Harmed under opd").click()
    expect(page.get_by_text("pairs of opd: harmed")).to_be_visible(timeout=20_000)


# -- what all pages share ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["maps?layer_x=1&layer_y=1", "tokens?", "tokens?token_measure=kl", "examples?cases=all"]
)
def test_hostile_text_is_shown_as_text(server, page, address):
    page.goto(f"{server}/{address}&study=hostile")
    ready(page, 4 if "maps" in address else 1)
    settle(page)
    main = page.get_by_test_id("stMain")
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
    scripts = " ".join(main.locator("script").all_text_contents())  # the page's own: a copied link, arrow keys
    assert "hit" not in scripts
    assert "invalid" not in scripts
    if "tokens" in address:
        assert "".join(page.locator(".ct-text tr").nth(1).locator("td").all_inner_texts()).find("<script>") > 0
        assert "nca<script" in page.locator(".ct-text").inner_text()
    if "examples" in address:
        expect(page.locator(".ct-pair pre").first).to_contain_text("<script>window.hit=1</script>")
    page.mouse.move(*centre(page))
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    shoot(page, f"hostile-{re.sub(r'[^a-z]+', '-', address).strip('-')}")


def centre(page) -> tuple[float, float]:
    box = page.locator(".js-plotly-plot").first.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_seeds_are_part_of_the_address(server, page, browser):
    page.goto(f"{server}/examples?study=a-synthetic")
    ready(page, 1)
    page.get_by_test_id("stMultiSelect").nth(1).get_by_role("button", name=re.compile("0")).first.click()
    settle(page)
    expect(page).to_have_url(re.compile("seeds=1&seeds=2"))
    expect(page.get_by_text("2 seeds (1, 2)").or_(page.get_by_text("over 2 seeds")).first).to_be_visible()
    ready(page, 1)
    same_in_a_new_tab(browser, page, 1)


def test_another_study_shows_all_its_arms_and_its_address_says_so(server, page, browser):
    page.goto(f"{server}/examples?study=a-synthetic")
    ready(page, 1)
    pick(page, "Study", "five-arms")
    arms = page.get_by_test_id("stMultiSelect").first
    expect(arms.get_by_role("button", name=re.compile("^Remove"))).to_have_count(5, timeout=20_000)
    ready(page, 1)
    settle(page)
    assert query(page)["study"] == ["five-arms"]
    same_in_a_new_tab(browser, page, 1)
    pick(page, "Study", "a-synthetic")
    expect(arms.get_by_role("button", name=re.compile("^Remove"))).to_have_count(3, timeout=20_000)
    expect(
        page.get_by_test_id("stMultiSelect").nth(1).get_by_role("button", name=re.compile("^Remove"))
    ).to_have_count(3)
