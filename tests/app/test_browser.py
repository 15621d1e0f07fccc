"""The app as people see it, in a real Chromium: pages, links, addresses in a new tab, hostile text, and who may connect.

With ``CR_INTERP_PICTURES=1`` a screenshot of every page is kept in ``tests/artefacts``: look at them. Every page in both themes
and in a narrow window is in ``test_browser_looks.py``; Maps, Tokens and Examples are in ``test_browser_pages.py``.
"""

import base64
import http.client
import re
import socket
import tomllib

import pytest
from browsing import (
    MAIN,
    expect,
    metric_values,
    pick,
    ready,
    same_in_a_new_tab,
    settle,
    shoot,
    watched,
)

pytestmark = pytest.mark.browser


def test_a_link_to_a_page_works_as_the_very_first_request_and_every_measure_is_there(server, page):
    """Streamlit's older kind of multipage app would run the page without main.py here."""
    page.goto(f"{server}/layers?study=five-arms")
    ready(page, 2)
    expect(page.get_by_text("Drift by layer")).to_be_visible()
    metric_values(page, 5)
    for name, axis in (
        ("norm ratio", "‖with‖ / ‖without‖"),
        ("centred cosine", "cosine after removing each view"),
        ("relative L2", "‖with − without‖"),
        ("debiased CKA", "debiased linear CKA"),
        ("cosine", "cosine between the views"),
    ):
        pick(page, "Measure", name)
        expect(page.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text(axis, timeout=20_000)
    settle(page)
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
    pick(page, "Measure", "debiased CKA")
    expect(page.locator(".js-plotly-plot").first.locator(".ytitle")).to_contain_text("debiased linear CKA")
    ready(page, 2)
    expect(page).to_have_url(re.compile("[?&]measure=cka"))
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
    """What is not here is said, and which there are; no other study opens, and the address stays."""
    page.goto(f"{server}/?study=../../../etc")
    expect(page.get_by_text("which is not here")).to_be_visible(timeout=30_000)
    ready(page, 0)
    assert page.url == f"{server}/?study=../../../etc"
    expect(page.get_by_role("combobox", name="Study")).to_have_value("")
    page.get_by_test_id("stMain").get_by_role("link", name="a-synthetic").click()
    ready(page, 2)
    expect(page.get_by_role("combobox", name="Study")).to_have_value("a-synthetic")
    expect(page).to_have_url(re.compile("study=a-synthetic"))


def test_the_first_page_is_found_by_its_name_too(server, page):
    page.goto(f"{server}/overview?study=a-synthetic&arms=nca&arms=opd")
    ready(page, 2)
    expect(page).to_have_url(f"{server}/?study=a-synthetic&arms=nca&arms=opd")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.get_by_text("Page not found")).to_have_count(0)


def test_hostile_text_is_shown_as_text(server, page):
    suite = "/suite?study=hostile"
    paths = {
        "/?study=hostile": 2,
        "/layers?study=hostile": 2,
        suite: 2,
        f"{suite}&view=Every+setting": 0,
        f"{suite}&view=Training": 1,
    }
    for path, figures in paths.items():
        page.goto(server + path)
        ready(page, figures)
        settle(page)
        assert page.evaluate("window.hit") is None
        assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
        if "suite" not in path:
            expect(page.get_by_test_id("stSidebar")).to_contain_text("rules:shift<script>window.hit=1</script>")
        shoot(page, f"hostile-{path[1:].partition('?')[0] or 'overview'}")


def test_what_overview_was_set_to_is_the_same_in_a_new_tab(server, page, browser):
    page.goto(f"{server}/?study=five-arms")
    ready(page, 2)
    pick(page, "Baseline", "sym_kl")
    pick(page, "Arm", "opd")
    settle(page)
    page.get_by_text("Every prompt with both arms' answers").click()
    pick(page, "Prompts", "harmed under opd")
    pick(page, "Seed", "1")
    settle(page)
    for part in ("arm=opd", "baseline=sym_kl", "prompts=opd", "seed=1"):
        expect(page).to_have_url(re.compile(f"[?&]{part}"))
    expect(page.get_by_role("heading", name="Did opd reduce Harm without losing accuracy?")).to_be_visible()
    same_in_a_new_tab(browser, page, 2)


def test_from_overview_to_the_training(server, page):
    page.goto(f"{server}/?study=a-synthetic")
    ready(page, 2)
    settle(page)
    page.get_by_role("link", name="When did it emerge?").click()
    expect(page.get_by_role("heading", name="Losses")).to_be_visible(timeout=20_000)
    ready(page, 3)
    expect(page).to_have_url(re.compile("/training.*study=a-synthetic"))


def test_only_this_machine_can_connect(server):
    port = int(server.rpartition(":")[2])
    with socket.socket() as probe:
        probe.settimeout(2)
        # Another address of the loopback network: reachable only by a server that listens on all interfaces.
        assert probe.connect_ex(("127.0.0.2", port)) != 0


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 101), ("evil.example", 403)])
@pytest.mark.parametrize("origin", [False, True])
def test_only_a_page_of_this_machine_gets_at_the_data(server, host, status, origin):
    """All data go through the websocket: another site that lets its name point here (DNS rebinding) is refused."""
    address = server.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    headers = {
        "Host": f"{host}:{address.rpartition(':')[2]}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    if origin:
        headers["Origin"] = f"http://{headers['Host']}"
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_nobody_is_told_of_its_use():
    """The tabs' own check finds requests to other hosts; this one, that the setting which forbids them is there."""
    settings = tomllib.loads((MAIN.parent / ".streamlit" / "config.toml").read_text())
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["server"]["address"] == "127.0.0.1"
