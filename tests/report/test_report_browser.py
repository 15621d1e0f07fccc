"""The report in a real browser, on a machine that has nothing but the file: it is drawn, it prints, and no text in it acts."""

import re

import pytest
from browsing import HOSTILE, expect, launched
from synthetic import make_study

from cr_interp.report.sending import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    yield from launched()


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A file in a folder of its own: no study, no package beside it."""
    made, away = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("away")
    study = make_study(
        made / "hostile",
        examples=20,
        text="</script>" + HOSTILE,
        arms=("base", "opd", f"nca{HOSTILE[:8]}"),
    )
    return write_report(study, away / "report.html")


def test_it_is_drawn_asks_nobody_and_runs_nothing_of_what_a_study_says(browser, sent):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(sent.as_uri())
    expect(page.locator("html[data-drawn]")).to_be_attached()
    assert page.locator("html").get_attribute("data-drawn") == "yes"
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [sent.as_uri()]
    assert page.evaluate("() => window.hit") is None
    assert page.locator("img[src='x']").count() == 0
    assert not problems
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_attached()
    # It answers to the pointer.
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    plot.locator(".scatterlayer .trace .points path.point").first.hover(force=True)
    expect(plot.locator(".hoverlayer .hovertext")).to_be_attached()
    # In a narrow window only tables and wide figures scroll, each in itself.
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    # On paper every figure is a still picture, and what is folded is open.
    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    figures = page.locator("figure").count()
    assert figures >= 3
    assert page.locator(".printed:visible").count() == figures
    assert page.locator(".plot:visible").count() == 0
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) > 3
    page.close()


def test_an_injected_script_is_refused_by_the_page_s_own_policy(browser, sent, tmp_path):
    """Were a text ever put in unescaped, it would not run all the same."""
    broken = tmp_path / "broken.html"
    text = sent.read_text("utf-8")
    broken.write_text(
        text.replace("<main>", "<main><script>window.hit=1</script><img src=x onerror='window.hit=2'>", 1)
    )
    page = browser.new_page()
    got = []
    page.on("requestfinished", lambda request: got.append(request.url))
    page.goto(broken.as_uri())
    expect(page.locator("html[data-drawn]")).to_be_attached()
    assert page.evaluate("() => window.hit") is None
    assert [url for url in got if not url.startswith(("data:", "blob:"))] == [broken.as_uri()]
    page.close()
