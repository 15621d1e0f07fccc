"""The Suite page in a real browser: from a marker to its study, the same view in a new tab, both themes, a narrow window."""

import re

import pytest
from browsing import click_marker, expect, pick, ready, same_in_a_new_tab, settle, shoot

pytestmark = pytest.mark.browser


def test_from_a_marker_to_its_study(server, page):
    page.goto(f"{server}/suite?study=four/rules-llama")
    ready(page, 2)
    expect(page.get_by_text(re.compile(r"harmed in (\d|any) of 4|in any of 4"))).to_be_visible()
    shoot(page, "suite")
    # Four settings down, the last one the lowest; a click takes the nearest marker.
    click_marker(page, 1, -1)
    expect(page.get_by_role("heading", name=re.compile("reduce Harm without"))).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile(r"study=four(/|%2F)sokoban-self"))
    page.go_back()
    expect(page.get_by_role("heading", name="Harm by setting")).to_be_visible(timeout=20_000)
    ready(page, 2)


def test_a_marker_of_the_differences_opens_its_study(server, page):
    page.goto(f"{server}/suite?suite=four")
    ready(page, 2)
    settle(page)
    first = page.locator(".js-plotly-plot").first.locator(".ytick text").first.text_content()
    click_marker(page, 0, 0)
    expect(page.get_by_role("heading", name=re.compile("reduce Harm without"))).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile(r"[?&]study=four(/|%2F)"))
    assert first


def test_a_marker_of_the_regimes_opens_its_study(server, page):
    page.goto(f"{server}/suite?study=four/rules-llama&view=Regimes")
    ready(page, 1)
    settle(page)
    click_marker(page, 0, 0)
    expect(page.get_by_role("heading", name=re.compile("reduce Harm without"))).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile(r"[?&]study=four(/|%2F)"))


def test_a_panel_of_the_drift_opens_its_study(server, page):
    page.goto(f"{server}/suite?study=four/sokoban-self")
    ready(page, 2)
    page.get_by_role("tab", name="Drift by layer").click()
    ready(page, 1)
    expect(page).to_have_url(re.compile("[?&]view=Drift"))
    shoot(page, "suite-drift")
    click_marker(page, 0, 0)
    expect(page).to_have_url(re.compile(r"study=four(/|%2F)rules-llama"), timeout=20_000)


def test_the_address_shows_the_same_to_somebody_else(server, page, browser):
    page.goto(f"{server}/suite?study=four/rules-llama&view=Drift+by+layer")
    ready(page, 1)
    pick(page, "Context control", "paraphrase")
    settle(page)
    pick(page, "Measure", "relative L2")
    settle(page)
    expect(page).to_have_url(re.compile("[?&]measure=relative_l2"))
    same_in_a_new_tab(browser, page, 1)
