"""Home and Mechanism by pointer: from the shelf to a study, the command that the form writes, and from a cell to its layer."""

import re

import pytest
from browsing import click_in, expect, ready, settle

pytestmark = pytest.mark.browser


def test_the_form_writes_the_command_and_a_name_opens_its_study(server, page):
    page.goto(f"{server}/home")
    settle(page)
    page.get_by_role("button", name="I know my way").click()
    settle(page)
    expect(page).to_have_url(re.compile("tour=False"))
    expect(page.get_by_role("heading", name="Four steps through a study")).to_have_count(0)
    page.get_by_role("textbox", name="Checkpoint of base").fill("/models/mine")
    page.get_by_role("textbox", name="Checkpoint of base").press("Enter")
    settle(page)
    expect(page.get_by_test_id("stCode").first).to_contain_text("base=/models/mine")
    page.get_by_text("Open by name").click()
    settle(page)
    page.get_by_role("link", name="a-synthetic", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_visible()
    expect(page).to_have_url(re.compile("[?&]study=a-synthetic"))


def test_a_click_on_a_patched_cell_shows_it_and_leads_to_its_layer(server, page):
    page.goto(f"{server}/mechanism?study=organism-shift")
    ready(page, 1)
    settle(page)
    click_in(page, 0, 0, 0.9, 0.14)
    expect(page).to_have_url(re.compile("cell=opd(/|%2F)resid_post(/|%2F)3"))
    page.get_by_role("link", name="Drift at layer 3").click()
    expect(page.get_by_role("heading", level=1, name="Layers")).to_be_visible()
    expect(page.get_by_role("link", name="Tokens at layer 3")).to_be_visible()
