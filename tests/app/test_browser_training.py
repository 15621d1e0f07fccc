"""The page Training in a real Chromium: its figures, a run in progress that is followed, the address in a new tab."""

import re
from pathlib import Path

import browsing
import numpy as np
import pytest
import synthetic
from browsing import click_marker, expect, overflow, pick, ready, same_in_a_new_tab, settle, shoot, watched
from synthetic import make_study

from cr_interp.files import append_jsonl
from cr_interp.study.study import Study

pytestmark = pytest.mark.browser

ARMS = ("opd", "nca")


@pytest.fixture(scope="session", autouse=True)
def folder(served: Path) -> Path:
    """``steps`` was measured at four steps, ``hostile-log`` has bad names, ``empty`` no log."""
    found = served
    study = make_study(found / "steps", examples=20)
    rng = np.random.default_rng(1)
    for step in (10, 25, 50):
        rows = synthetic.drift(rng, ARMS, (0, 1, 2), 4, 20, ("exact",), step)
        for name in ("estimate", "low", "high"):  # it emerges
            rows[name] = np.maximum(
                1 - (1 - rows[name]) * (1 + 4 * np.exp(-step / 20)), -1
            )  # no cosine is beyond
        study.put("drift", rows)
        study.put("generations", synthetic.generations(rng, ARMS, (0, 1, 2), 20, ("exact",), step))
    make_study(
        found / "hostile-log", examples=10, text=browsing.HOSTILE, arms=("base", f"nca{browsing.HOSTILE[:8]}")
    )
    log = (
        Study.open(found / "hostile-log").run_path(f"opd{browsing.HOSTILE[8:24]}".replace("/", ""), 0)
        / "train.jsonl"
    )
    append_jsonl(log, {"kind": "train", "step": 1, "loss": 1.0, "terms": {browsing.HOSTILE: 1.0}})
    make_study(found / "empty", examples=10, tables=("generations",))
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_as_the_very_first_request(server, browser, theme):
    for page in watched(browser, viewport={"width": 1400, "height": 1000}, color_scheme=theme):
        page.goto(f"{server}/training?study=steps")
        ready(page, 4)
        expect(page.get_by_text("Look for the order of events")).to_be_visible()
        assert page.locator(".js-plotly-plot").first.locator("path.js-line").count() >= 3 + 3
        shoot(page, f"training-steps-{theme}")


def test_a_narrow_window(server, browser):
    for page in watched(browser, viewport={"width": 420, "height": 900}):
        page.goto(f"{server}/training?study=steps")
        ready(page, 4)
        settle(page)
        assert overflow(page) <= 0
        box = page.locator(".js-plotly-plot").first.bounding_box()
        assert box
        assert box["width"] > 700
        shoot(page, "training-narrow")


def test_every_choice_is_in_the_address(server, page, browser):
    page.goto(f"{server}/training?study=steps")
    ready(page, 4)
    page.get_by_test_id("stButtonGroup").get_by_text("gradient, speed and memory").click()
    expect(page.get_by_role("heading", name="Gradient, speed and memory")).to_be_visible(timeout=20_000)
    page.get_by_text("Logarithmic losses").click()
    settle(page)
    page.get_by_test_id("stButtonGroup").get_by_text("checkpoints, afterwards").click()
    expect(page.get_by_text("across (other seeds; Student")).to_be_visible(timeout=20_000)
    pick(page, "Measure", "debiased CKA")
    settle(page)
    page.get_by_text("Distance from identical, log scale").click()
    expect(page.locator(".js-plotly-plot").nth(2)).to_contain_text("1 − debiased CKA (log scale)", timeout=20_000)
    slider = page.get_by_role("slider", name="Step")
    slider.press("ArrowLeft")
    settle(page)
    expect(page).to_have_url(re.compile("step=50"))
    expect(page.get_by_text("Step 50. ")).to_be_visible()
    for part in (
        "curves_of=speed",
        "log_loss=False",
        "evaluated=checkpoints",
        "[?&]measure=cka",
        "step_log=True",
    ):
        expect(page).to_have_url(re.compile(part))
    ready(page, 4)
    same_in_a_new_tab(browser, page, 4)
    shoot(page, "training-choices")


def test_a_click_on_a_marker_chooses_its_step(server, page):
    page.goto(f"{server}/training?study=steps")
    ready(page, 4)
    # Four steps an arm; the base's line has no markers. The last arm's second marker is step 25.
    click_marker(page, 3, -3)
    settle(page)
    expect(page).to_have_url(re.compile(r"[?&]step=25"))
    expect(page.get_by_text("Step 25. ")).to_be_visible()


LAST_STEP = """() => {
    const plot = document.querySelector('.js-plotly-plot');
    return Math.max(...plot._fullData.filter(trace => trace.name).map(trace => Math.max(...Array.from(trace.x))));
}"""


def test_a_run_in_progress_is_followed(server, page, browser, folder):
    study = make_study(folder / "running", arms=ARMS, seeds=(0,), tables=("training",))
    study.update_manifest(training={"steps": 200, "batch_size": 64})
    page.goto(f"{server}/training?study=running")
    ready(page, 2)
    expect(page.get_by_text("2 runs, 2 of them not yet at step 200")).to_be_visible()
    assert page.evaluate(LAST_STEP) == 100
    page.get_by_text("Follow a run in progress").click()
    settle(page)
    expect(page).to_have_url(re.compile("follow=True"))

    def more(step: int) -> None:
        for arm in ARMS:
            row = {"kind": "train", "step": step, "loss": 0.01, "terms": {"KL(q_x || f)": 0.01}}
            append_jsonl(study.run_path(arm, 0) / "train.jsonl", row)

    for step in (120, 150):
        more(step)
        page.wait_for_function(f"({LAST_STEP})() === {step}", timeout=20_000)
        expect(page.get_by_text(f"opd seed 0 at step {step}")).to_be_visible()
    # A half-written row is not there yet; its second half makes it whole.
    for arm in ARMS:
        with open(study.run_path(arm, 0) / "train.jsonl", "a") as file:
            file.write('{"kind": "train", "step": 200, "lo')
    page.wait_for_timeout(4_500)
    assert page.evaluate(LAST_STEP) == 150
    for arm in ARMS:
        with open(study.run_path(arm, 0) / "train.jsonl", "a") as file:
            file.write('ss": 0.005}\n')
    page.wait_for_function(f"({LAST_STEP})() === 200", timeout=20_000)
    expect(page.get_by_text("2 runs, all at step 200, the last one planned")).to_be_visible()
    expect(page.get_by_text("could not be read")).to_have_count(0)
    # A run that begins while it is followed is shown although it cannot be chosen on the left.
    append_jsonl(study.run_path("late", 0) / "train.jsonl", {"kind": "train", "step": 5, "loss": 1.0})
    expect(page.get_by_text("late seed 0 at step 5")).to_be_visible(timeout=20_000)
    shoot(page, "training-followed")
    for other in watched(browser, viewport=page.viewport_size):
        other.goto(page.url)
        ready(other, 2)
        expect(other.get_by_text("late seed 0 at step 5")).to_be_visible(timeout=20_000)
        expect(other.get_by_role("switch", name="Follow a run in progress")).to_be_checked()


def test_hostile_names_are_shown_as_text(server, page):
    page.goto(f"{server}/training?study=hostile-log")
    ready(page, 3)
    settle(page)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
    shoot(page, "training-hostile")


def test_a_study_without_a_log(server, page):
    page.goto(f"{server}/training?study=empty")
    expect(page.get_by_text("There is no training log of these arms")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("This study has no measured states")).to_be_visible()
    ready(page, 0)
    shoot(page, "training-empty")
