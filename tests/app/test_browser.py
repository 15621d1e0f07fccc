"""The app as people see it, in a real Chromium: pages, figures, links, downloads, both themes, hostile text.

Screenshots of every page are kept in ``tests/artefacts``: look at them. Maps, Tokens and Examples are in
``test_browser_pages.py``.
"""

import re
import socket
from pathlib import Path

import pytest
from browsing import expect, metric_values, pick, ready, shoot, watched

pytestmark = pytest.mark.browser


def test_a_link_to_a_page_works_as_the_very_first_request(server, page):
    """Streamlit's older kind of multipage app would run the page without main.py here."""
    page.goto(f"{server}/layers?study=five-arms")
    ready(page, 2)
    expect(page.get_by_text("Drift by layer")).to_be_visible()
    metric_values(page, 5)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_overview(server, browser, theme):
    for page in watched(browser, viewport={"width": 1400, "height": 1000}, color_scheme=theme):
        page.goto(server)
        ready(page, 2)
        expect(page.get_by_role("combobox", name="Study")).to_have_value("a-synthetic")
        expect(page).to_have_url(re.compile("study=a-synthetic"))
        expect(page.get_by_role("heading", name="Did nca reduce Harm without losing accuracy?")).to_be_visible()
        expect(page.get_by_text("difference", exact=False).first).to_be_visible()
        metric_values(page, 4)
        for heading in ("Metrics, side by side", "What kind of wrong", "What differs between the arms"):
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
        charts = page.locator("[data-testid=stPlotlyChart]")
        assert page.get_by_text("small dots: each seed").count() == 1
        # Points and bars are really drawn.
        assert charts.nth(0).locator("path.point").count() >= 6 * 3
        assert charts.nth(1).locator(".bars .point").count() == 4 * 6
        page.get_by_text("Provenance").click()
        expect(page.get_by_text("cr-interp reproduce organism", exact=False)).to_be_visible()
        shoot(page, f"overview-{theme}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_layers(server, browser, theme):
    for page in watched(browser, viewport={"width": 1400, "height": 1000}, color_scheme=theme):
        page.goto(f"{server}/layers?study=a-synthetic")
        ready(page, 2)
        expect(page.get_by_text("internalised the context", exact=False)).to_be_visible()
        lowest = [float(value) for value in metric_values(page, 3)]
        assert lowest == sorted(lowest)
        assert len(lowest) == 3
        chart = page.locator("[data-testid=stPlotlyChart]").first
        assert chart.locator("path.js-line").count() >= 3 * (1 + 1)  # the mean, and all seeds in one
        assert chart.locator(".fills path, path.js-fill").count() >= 3
        shoot(page, f"layers-{theme}")


def test_every_measure_and_the_log_scale(server, page):
    page.goto(f"{server}/layers?study=five-arms")
    ready(page, 2)
    for name, axis in (
        ("centred cosine", "cosine after removing each view"),
        ("relative L2", "‖with − without‖"),
        ("debiased CKA", "debiased linear CKA"),
        ("cosine", "cosine between the views"),
    ):
        page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()
        expect(page.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text(axis, timeout=20_000)
    page.get_by_text("Distance from identical, log scale").click()
    expect(page.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text("1 − cosine (log scale)")
    ready(page, 2)
    shoot(page, "layers-log-30-layers")


def test_the_url_reproduces_the_view_in_a_new_tab(server, page, browser):
    page.goto(f"{server}/?study=five-arms")
    ready(page, 2)
    page.get_by_test_id("stMultiSelect").get_by_role("button", name=re.compile("base")).first.click()
    expect(page).to_have_url(re.compile("arms="))
    ready(page, 2)
    pick(page, "Context control", "mismatched")
    ready(page, 2)
    page.get_by_role("link", name="Layers").click()
    expect(page.get_by_text("Drift by layer")).to_be_visible(timeout=20_000)
    page.get_by_test_id("stButtonGroup").get_by_text("debiased CKA", exact=True).click()
    expect(page.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text("debiased linear CKA")
    ready(page, 2)
    expect(page).to_have_url(re.compile("measure=debiased"))
    expect(page).to_have_url(re.compile("study=five-arms"))
    assert "control=mismatched" in page.url
    values = metric_values(page, 4)
    for other in watched(browser, viewport={"width": 1400, "height": 1000}):
        other.goto(page.url)
        ready(other, 2)
        expect(other.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text("debiased linear CKA")
        expect(other.get_by_text("mismatched", exact=False).first).to_be_visible()
        assert metric_values(other, 4) == values


def test_a_study_from_the_url_must_be_one_that_was_found(server, page):
    page.goto(f"{server}/?study=../../../etc")
    ready(page, 2)
    expect(page.get_by_role("combobox", name="Study")).to_have_value("a-synthetic")
    assert "etc" not in page.get_by_test_id("stMain").inner_text()


def test_downloads(server, page):
    page.goto(f"{server}/layers?study=a-synthetic")
    ready(page, 2)
    page.get_by_test_id("stPopover").first.get_by_role("button").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Numbers (CSV)").click()
    text = Path(waiting.value.path()).read_text()
    assert waiting.value.suggested_filename == "drift-cosine.csv"
    assert text.startswith("arm,layer,estimate,low,high,seeds,n_tokens,n_examples")
    assert len(text.splitlines()) == 1 + 3 * 5
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Figure, interactive (HTML)").click()
    assert "<figcaption>Cosine between" in Path(waiting.value.path()).read_text()
    page.keyboard.press("Escape")
    chart = page.locator("[data-testid=stPlotlyChart]").first
    chart.hover()
    with page.expect_download() as waiting:
        chart.locator("[data-title*=Download]").click()
    assert waiting.value.suggested_filename == "drift-cosine.svg"
    assert "<svg" in Path(waiting.value.path()).read_text()[:200]


def test_hostile_text_is_shown_as_text(server, page):
    for path, figures in (("/?study=hostile", 2), ("/layers?study=hostile", 2)):
        page.goto(server + path)
        ready(page, figures)
        page.wait_for_timeout(500)
        assert page.evaluate("window.hit") is None
        assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
        expect(page.get_by_test_id("stSidebar")).to_contain_text("rules:shift<script>window.hit=1</script>")
        shoot(page, f"hostile-{'layers' if 'layers' in path else 'overview'}")


def test_a_narrow_window(server, browser):
    for page in watched(browser, viewport={"width": 420, "height": 900}):
        page.goto(f"{server}/layers?study=a-synthetic")
        ready(page, 2)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        shoot(page, "layers-narrow")


def test_only_this_machine_can_connect(server):
    port = int(server.rpartition(":")[2])
    with socket.socket() as probe:
        probe.settimeout(2)
        # Another address of the loopback network: reachable only by a server that listens on all interfaces.
        assert probe.connect_ex(("127.0.0.2", port)) != 0
