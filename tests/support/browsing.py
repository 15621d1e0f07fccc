"""What the browser tests share: a server on generated studies, a tab that must stay free of errors, ways to look and click.

The fixtures ``server``, ``browser`` and ``page`` in ``conftest.py`` are made of these.
"""

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import make_study

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
ARTEFACTS = Path(__file__).resolve().parents[1] / "artefacts"
#: Of a browser without a window; beyond that it is as its user has it, which is what times are measured with.
PLAIN = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FLAGS = [
    *PLAIN,
    "--num-raster-threads=1",
    # No page is open for long enough to be worth compiling twice, nor is there a core to spare for a collector of its own; a page
    # is gone before it has filled what it may have, and the next one finds its code compiled.
    "--js-flags=--no-opt --no-maglev --single-threaded-gc --min-semi-space-size=64 --max-semi-space-size=128"
    " --initial-old-space-size=512 --no-incremental-marking --no-flush-bytecode",
]
HOSTILE = "<script>window.hit=1</script><img src=x onerror='window.hit=1'> **b** ![i](http://x.invalid/i.png)"

chromium = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")
if chromium is None:
    pytest.skip("no `chromium` on the path; install Debian's to run the browser tests", allow_module_level=True)

Page = playwright.Page
expect = playwright.expect
expect.set_options(timeout=30_000)  # of 5 seconds a busy machine takes all

ALL = ("generations", "drift", "training", "cka_map", "token_drift")


def make_studies(root: Path) -> None:
    """``five-arms`` is an old study, without maps and tokens; ``long-responses`` has 600 tokens a response."""
    make_study(root / "a-synthetic", examples=60, tables=ALL)
    make_study(root / "five-arms", arms=("base", "opd", "nca", "dual_opd", "sym_kl"), layers=30, seeds=(0, 1))
    make_study(root / "hostile", examples=20, text=HOSTILE, arms=("base", "opd", f"nca{HOSTILE[:8]}"), tables=ALL)
    make_study(root / "long-responses", examples=6, seeds=(0,), layers=12, tables=ALL, repeat=100)
    for number, setting in enumerate(("rules-llama", "rules-qwen3", "codebook-llama", "sokoban-self")):
        make_study(root / "four" / setting, examples=40, seeds=(0, 1), seed=number)


def log_of(server: str) -> Path:
    """What a server says; each its own file, since workers of a test run have one each."""
    return ARTEFACTS / f"server-{server.rpartition(':')[2]}.log"


def serve(
    studies: Path, elsewhere: Path, main: Path = MAIN, settings: dict[str, str] | None = None
) -> Iterator[str]:
    """Started from a folder that is not the repository, with nothing but the command of the README; ``settings`` are variables of
    its user's environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ARTEFACTS.mkdir(exist_ok=True)
    log = log_of(f"http://127.0.0.1:{port}").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(main), f"--server.port={port}", "--server.headless=true"],
        cwd=elsewhere,
        env={**os.environ, "CR_INTERP_STUDIES": str(studies), **(settings or {})},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, "the server stopped"
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


_running: list[playwright.Browser] = []


def launched(flags: list[str] = FLAGS) -> Iterator[playwright.Browser]:
    """A browser; the one that runs already, since a process can drive one only."""
    if _running:
        yield _running[0]
        return
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=flags)
        _running.append(running)
        yield running
        _running.remove(running)
        _idle.pop(running, None)
        running.close()


#: Tabs that no test uses at the moment, each in a context of its own. Compiling Streamlit's and Plotly's code for a new tab takes
#: longer than most tests; a tab that has been used has done it.
_idle: dict[playwright.Browser, list[Page]] = {}


def watched(browser: playwright.Browser, viewport: object = None, color_scheme: str = "light") -> Iterator[Page]:
    """A tab that knows nothing of earlier tests; at the end it must not have logged an error nor asked another host."""
    tabs = _idle.setdefault(browser, [])
    page = tabs.pop() if tabs else new_tab(browser)
    page.set_viewport_size(viewport or {"width": 1280, "height": 720})
    # What moves is drawn sixty times a second while a test waits for the server.
    page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
    problems: list[str] = []
    watching = {
        "pageerror": lambda error: problems.append(f"exception: {error}"),
        "console": lambda message: problems.append(console(message)),
        "request": lambda request: problems.append(foreign(request.url)),
    }
    for event, note in watching.items():
        page.on(event, note)
    try:
        yield page
    except BaseException:
        page.context.close()
        raise
    for event, note in watching.items():
        page.remove_listener(event, note)
    forget(page)
    tabs.append(page)
    assert not [problem for problem in problems if problem]


#: ``lastWord``: when the page last told the server something, or was told.
LAST_WORD = """
window.lastWord = 0
window.WebSocket = class extends WebSocket {
    constructor(...given) {
        super(...given)
        this.addEventListener("message", () => { window.lastWord = performance.now() })
    }
    send(data) {
        window.lastWord = performance.now()
        super.send(data)
    }
}
"""


def new_tab(browser: playwright.Browser) -> Page:
    context = browser.new_context()
    context.add_init_script(LAST_WORD)
    return context.new_page()


def visit(page: Page, address: str) -> None:
    """Go to an address within the app, as the browser's way back does; open it, if the tab is not there yet.

    What runs in the tab stays, as does its session on the server, so that it takes about half of what opening takes: for what a
    page says, not for what a fresh session shows.
    """
    if not page.url.startswith("http"):
        page.goto(address)
        settle(page)
        return
    before = page.evaluate(
        """address => {
            const before = window.lastWord
            history.pushState({}, "", address)
            dispatchEvent(new PopStateEvent("popstate"))
            return before
        }""",
        address,
    )
    page.wait_for_function("before => window.lastWord > before", arg=before, timeout=30_000)
    settle(page)


def forget(page: Page) -> None:
    if page.url.startswith("http"):
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear() }")
    page.context.clear_cookies()
    page.mouse.move(0, 0)
    page.goto("about:blank")


def console(message: playwright.ConsoleMessage) -> str:
    where = str(message.location.get("url", ""))
    # Opening a link to a page, Streamlit first asks below that page's own address: its way to find the root.
    if message.type != "error" or re.search(
        r"/(home|overview|layers|mechanism|maps|tokens|examples|suite|training|try_it)/_stcore/(health|host-config)$",
        where,
    ):
        return ""
    return f"console: {message.text} ({where})"


def foreign(url: str) -> str:
    return "" if re.match(r"(https?|wss?)://127\.0\.0\.1|data:|blob:", url) else f"asked for {url}"


def pick(page: Page, label: str, option: str) -> None:
    """Choose in a select box, until it shows the choice: scrolling, or a rerun that is still under way, closes its list.

    An open list is closed by the button that opened it, never by Escape, which also clears a box that may be empty.
    """
    box = page.get_by_test_id("stSelectbox").filter(has_text=label)
    field = box.get_by_role("combobox")
    for _ in range(5):
        box.scroll_into_view_if_needed()
        settle(page)
        if field.get_attribute("aria-expanded") != "true":
            box.get_by_role("button", name="Open").click()
        try:
            page.get_by_role("option", name=option, exact=True).click(timeout=4_000)
            expect(field).to_have_value(option, timeout=4_000)
            return
        except (playwright.TimeoutError, AssertionError):
            continue
    raise AssertionError(f"the list of {label!r} never showed {option!r}")


def ready(page: Page, figures: int) -> None:
    """Until the page has drawn its figures and is not running any more."""
    expect(page.locator(".js-plotly-plot")).to_have_count(figures, timeout=60_000)
    for index in range(figures):
        expect(page.locator(".js-plotly-plot").nth(index).locator(".main-svg").first).to_be_attached(
            timeout=30_000
        )
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=30_000)


def shoot(page: Page, name: str) -> None:
    """A picture of the whole page, if ``CR_INTERP_PICTURES`` is set: the window is made as tall as the scrolled part first, and
    every figure is drawn anew twice, which takes longer than most tests."""
    if not os.environ.get("CR_INTERP_PICTURES"):
        return
    ARTEFACTS.mkdir(exist_ok=True)
    size = page.viewport_size
    assert size
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": height + 40})
    page.wait_for_timeout(250)  # figures are drawn anew
    page.screenshot(path=ARTEFACTS / f"{name}.png")
    page.set_viewport_size(size)


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def metric_values(page: Page, number: int) -> list[str]:
    expect(page.get_by_test_id("stMetricValue")).to_have_count(number, timeout=20_000)
    return page.get_by_test_id("stMetricValue").all_inner_texts()


QUIET = """asked => {
    if (window.asked !== asked)
        [window.asked, window.askedAt] = [asked, performance.now()]
    return performance.now() - Math.max(window.askedAt, window.lastWord) > 200
}"""
_asked = itertools.count()


def settle(page: Page) -> None:
    """Until the page is not running any more, and page and server have had nothing to say to each other for a while: what is done
    to a page begins a run a moment later, and its address is written at the end of a run."""
    asked = next(_asked)
    page.wait_for_function(QUIET, arg=asked, polling=40, timeout=30_000)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=30_000)
    page.wait_for_function(QUIET, arg=asked, polling=40, timeout=30_000)


def click_in(page: Page, chart: int, panel: int, x: float, y: float) -> None:
    """Click a figure's panel at a share of its width and height, from the top left."""
    plot = page.locator(".js-plotly-plot").nth(chart)
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").nth(panel).bounding_box()
    assert box
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.wait_for_timeout(250)  # plotly looks for the nearest point as the pointer moves
    page.mouse.down()
    page.mouse.up()
    settle(page)


def click_marker(page: Page, chart: int, number: int) -> None:
    """Click a marker of a figure by its number in the order they are drawn; negative ones count from the last."""
    plot = page.locator(".js-plotly-plot").nth(chart)
    plot.scroll_into_view_if_needed()
    settle(page)
    marker = plot.locator(".scatterlayer .trace .points path.point")
    marker.nth(number if number >= 0 else marker.count() + number).hover(force=True)
    page.wait_for_timeout(300)  # plotly looks for the nearest point as the pointer moves
    page.mouse.down()
    page.mouse.up()


def same_in_a_new_tab(browser: playwright.Browser, page: Page, figures: int) -> None:
    """The page's address shows the same text and the same figures to somebody else."""
    for other in watched(browser, viewport=page.viewport_size):
        other.goto(page.url)
        ready(other, figures)
        settle(other)
        main, there = (each.get_by_test_id("stMain").inner_text() for each in (page, other))
        assert there == main
        assert other.url == page.url
