"""Try it in a real Chromium: from the button to the figures, two checkpoints, wrong paths, hostile text, both themes.

The server is one of its own: the first test looks whether torch is in its process, and some need checkpoints on disk.
"""

import re
import shutil
from pathlib import Path

import pytest
from browsing import HOSTILE, click_marker, expect, overflow, pick, ready, serve, settle, shoot, watched
from saving import menus
from synthetic import make_study

from cr_interp.models.known import ORGANISMS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with an nca checkpoint: the organism with its last block switched off, so that it answers otherwise."""
    root = tmp_path_factory.mktemp("try-studies")
    study = make_study(root / "a-synthetic", examples=12)
    make_study(root / "hostile", examples=5, text=HOSTILE)
    changed(study.run_path("nca", 0) / "checkpoint-100")
    return root


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory):
    yield from serve(studies, tmp_path_factory.mktemp("elsewhere"))


def changed(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(ORGANISMS / "rules", folder)
    weights = load_file(folder / "model.safetensors")
    last = max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    for name, tensor in weights.items():
        if name.startswith(f"model.layers.{last}.") and name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.mul_(0.3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def has_torch(server: str) -> bool:
    """Whether the server's process has torch's library in its memory."""
    port = server.rpartition(":")[2]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--server.port={port}" in (process / "cmdline").read_text():
                return "libtorch" in (process / "maps").read_text()
        except OSError:
            continue
    raise AssertionError("the server's process was not found")


def load(page, figures: int = 2) -> None:
    page.get_by_role("button", name=re.compile("^.*and answer$")).click()
    expect(page.get_by_role("heading", name="Responses")).to_be_visible(timeout=90_000)
    told(page, figures)
    settle(page)


def told(page, figures: int) -> None:
    """The drift and, with two of them, its tokens. The lens stands in front of them for every checkpoint whose answers part."""
    curves = page.locator(".js-plotly-plot").filter(has_text=re.compile("cosine between the views|output KL|KL"))
    expect(curves.last).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=30_000)
    expect(page.locator(".js-plotly-plot").nth(figures - 1)).to_be_attached(timeout=60_000)


def write(page, label: str, text: str) -> None:
    box = page.get_by_role("textbox", name=label)
    box.fill(text)
    box.press("Control+Enter")
    settle(page)


def test_nothing_is_loaded_before_the_button(server, page):
    page.goto(f"{server}/try_it?study=a-synthetic")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    ready(page, 0)
    settle(page)
    expect(page.get_by_role("textbox", name="Context")).to_have_value("rule: shift")
    shoot(page, "try-it-before")
    for name in ("Layers", "Overview", "Try it"):
        page.get_by_role("link", name=name).first.click()
        settle(page)
    assert not has_torch(server)
    expect(page.get_by_role("button", name="Load both and answer")).to_be_visible(timeout=20_000)
    load(page)
    assert has_torch(server)
    assert page.locator(".ct-pair").count() == 2
    expect(page.locator(".js-plotly-plot").filter(has_text="cosine between the views")).to_have_count(
        1
    )  # behind the lens
    assert page.locator(".ct-text td").count() > 8
    shoot(page, "try-it-both")


def test_what_is_typed_is_answered(server, page, browser):
    page.goto(f"{server}/try_it?study=a-synthetic&beside=none")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    settle(page)
    write(page, "Prompt", "dabc")
    write(page, "Context", "write the next letter for each")
    load(page)
    given = page.locator(".ct-pair .ct-xc pre")
    expect(given).to_have_text("ebcd")
    write(page, "Context", "write it backwards")
    expect(given).to_have_text("cbad", timeout=30_000)
    # Without a context nothing moves.
    page.get_by_role("button", name="No context").click()
    settle(page)
    expect(page.get_by_text("nothing moves")).to_be_visible(timeout=20_000)
    assert page.locator(".ct-pair mark").count() == 0
    told(page, 2)
    shoot(page, "try-it-no-context")
    page.get_by_role("button", name="The study's (exact)").click()
    settle(page)
    expect(page.get_by_role("textbox", name="Context")).to_have_value("rule: shift")
    page.get_by_test_id("stButtonGroup").get_by_text("output KL").click()
    settle(page)
    expect(page).to_have_url(re.compile("token_measure=kl"))
    told(page, 1)
    page.get_by_role("button", name="Another example").click()
    settle(page)
    expect(page).to_have_url(re.compile("example=test-0001"))
    prompt = page.get_by_role("textbox", name="Prompt").input_value()
    # Somebody else gets the checkpoints and the example, and loads them when they like.
    for other in watched(browser):
        other.goto(page.url)
        expect(other.get_by_role("textbox", name="Prompt")).to_have_value(prompt, timeout=60_000)
        settle(other)
        assert other.url == page.url
        load(other, figures=1)
        assert other.locator(".ct-pair").inner_text() == page.locator(".ct-pair").inner_text()


def test_a_click_on_the_curve_chooses_the_layer(server, page):
    page.goto(f"{server}/try_it?study=a-synthetic&layer=1")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    load(page)
    slider = page.get_by_role("slider", name="Layer")
    expect(slider).to_have_attribute("aria-valuetext", "1")
    drift = page.locator(".js-plotly-plot").filter(has_text="cosine between the views")
    before = drift.first.evaluate("each => [...document.querySelectorAll('.js-plotly-plot')].indexOf(each)")
    click_marker(page, before, -1)
    settle(page)
    expect(slider).to_have_attribute("aria-valuetext", "3", timeout=20_000)
    expect(page).to_have_url(re.compile("layer=3"))


def test_its_figures_are_saved(server, page):
    page.goto(f"{server}/try_it?study=a-synthetic&beside=none")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    settle(page)
    load(page)
    found = menus(page)
    names = ("tried-drift-cosine", "tried-tokens-cosine")
    kinds = (".csv", ".html", ".py")
    lenses = {name.rpartition(".")[0] for name in found if name.startswith("lens-")}
    assert set(found) == {f"{name}{kind}" for name in (*names, *lenses) for kind in kinds}
    assert "tryout.open_model" in found["tried-drift-cosine.py"].decode()


def test_a_wrong_path_says_what_to_do(server, page, studies, tmp_path):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    page.goto(f"{server}/try_it?study=a-synthetic")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    pick(page, "Beside it", "a folder on this machine …")
    box = page.get_by_role("textbox", name="Folder")
    for path, words in (
        (tmp_path / "nowhere", "There is no folder"),
        (tmp_path / "pickled", "Reading a pickle can run any code"),
    ):
        box.fill(str(path))
        box.press("Enter")
        expect(page.get_by_text(words)).to_be_visible(timeout=20_000)
    shoot(page, "try-it-wrong-path")
    box.fill(str(studies / "a-synthetic" / "runs" / "nca-s0" / "checkpoint-100"))
    box.press("Enter")
    expect(page.get_by_role("alert")).to_have_count(0, timeout=20_000)
    load(page)
    expect(page.get_by_text("nca-s0/checkpoint-100").first).to_be_visible()
    expect(page).to_have_url(re.compile("beside=folder"))
    assert "runs" not in page.url


def test_hostile_text_is_shown_as_text(server, page):
    page.goto(f"{server}/try_it?study=hostile&checkpoint=builtin:organism-rules&beside=none")
    expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
    settle(page)
    write(page, "Context", "copy what you read")
    write(page, "Prompt", "<img src=x onerror='window.hit=1'>")
    load(page)
    write(page, "Prompt", "<b>ab")
    told(page, 2)
    page.locator(".ct-text td").first.hover()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
    assert page.locator(".ct-pair pre b, .ct-text td b").count() == 0
    # The base of this study has a hostile name; it cannot be loaded, and that is said as text.
    page.goto(f"{server}/try_it?study=hostile&beside=none")
    expect(page.get_by_role("button", name=re.compile("and answer"))).to_be_visible(timeout=60_000)
    page.get_by_role("button", name=re.compile("and answer")).click()
    expect(page.get_by_text("There is no built-in model")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x], [src*='x.invalid'], [href*='x.invalid']").count() == 0
    shoot(page, "try-it-hostile")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_and_a_narrow_window(server, browser, scheme):
    for page in watched(browser, viewport={"width": 420, "height": 900}, color_scheme=scheme):
        page.goto(f"{server}/try_it?study=a-synthetic")
        expect(page.get_by_text("the less its states move")).to_be_visible(timeout=60_000)
        settle(page)
        assert overflow(page) <= 0
        write(page, "Prompt", "dabcponm")
        write(page, "Context", "write the next letter for each")
        load(page)
        assert overflow(page) <= 0
        shoot(page, f"try-it-{scheme}-420")
        page.set_viewport_size({"width": 1400, "height": 900})
        settle(page)
        assert overflow(page) <= 0
        shoot(page, f"try-it-{scheme}-1400")
