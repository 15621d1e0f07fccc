"""Photograph every page of the workbench, to be gone through by eye: ``python docs/tools/gallery.py FOLDER [STUDY ...]``.

Each page of each study at 1440 and 420 pixels, light and dark, whole height; beside the pictures ``problems.txt`` has what the
browser's console and the server said. Studies are those that are found (``CR_INTERP_STUDIES``, the bundled ones); without
names, three bundled ones. One server and one browser serve them all. Needs chromium.
"""

import argparse
import re
from pathlib import Path

from pictures import launched, serving
from playwright.sync_api import Page, sync_playwright

SIZES = (1440, 420)
THEMES = ("light", "dark")
STUDIES = ("organism-shift", "smollm2-sentiment", "suite")
OF_A_STUDY = ("", "layers", "mechanism", "maps", "tokens", "examples", "training", "try_it")
TABS = ("Harm", "Regimes", "Every setting", "Ablations", "Training", "Drift by layer")
QUIET = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"


def addresses(studies: list[str], only: list[str]) -> dict[str, str]:
    """Name of the picture → path and query."""
    found = {"home": "home"}
    for study in studies:
        if study == "suite":
            found |= {f"suite-{tab.split()[0].lower()}": f"suite?suite=suite&view={tab}" for tab in TABS}
        else:
            found |= {f"{study}-{name or 'overview'}": f"{name}?study={study}" for name in OF_A_STUDY}
    return {name: path for name, path in found.items() if not only or any(each in name for each in only)}


def photograph(page: Page, file: Path, width: int) -> None:
    """Photograph the whole page: the window is made as tall as what it scrolls through."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(700)
    tall = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(tall + 20, 9000)})
    page.wait_for_timeout(700)
    page.screenshot(path=file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    parser.add_argument("--only", nargs="*", default=[], help="parts of the pictures' names")
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--themes", nargs="*", default=list(THEMES))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    log = given.folder / "server.log"
    with log.open("w") as said, serving(said, {}) as address, sync_playwright() as playwright:
        browser = launched(playwright)
        for theme in given.themes:
            page = browser.new_page(color_scheme=theme)
            page.on(
                "console",
                lambda told: (
                    problems.append(told.text)
                    if told.type in ("error", "warning") and "_stcore" not in str(told.location.get("url"))
                    else None
                ),
            )
            page.on("pageerror", lambda error: problems.append(str(error)))
            for name, path in addresses(given.studies, given.only).items():
                problems.append(f"-- {name} {theme}")
                page.set_viewport_size({"width": given.sizes[0], "height": 900})
                page.goto(f"{address}/{path}")
                page.get_by_role("heading", level=1).wait_for(timeout=120_000)
                page.wait_for_timeout(1500)
                page.wait_for_function(QUIET, timeout=120_000)
                for width in given.sizes:
                    photograph(page, given.folder / f"{name}-{width}-{theme}.png", width)
            page.close()
        browser.close()
    told = [
        line for line in log.read_text().splitlines() if re.search("warn|error|deprecat|Traceback", line, re.I)
    ]
    (given.folder / "problems.txt").write_text("\n".join([*problems, "-- server", *told]) + "\n")


if __name__ == "__main__":
    main()
