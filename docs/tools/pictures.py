"""Make the pictures of README.md and the site from the bundled studies: ``python docs/tools/pictures.py`` (needs chromium)."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from playwright.sync_api import Browser, Playwright, sync_playwright

DOCS = Path(__file__).resolve().parent.parent
PAGES = {
    "layers": "layers?study=organism-shift",
    "overview": "?study=organism-shift",
    "suite": "suite?study=suite/rules-qwen3",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@contextmanager
def serving(log: IO[str] | int = subprocess.DEVNULL, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve the workbench; gives its address. ``settings`` are variables of its environment; ``log`` takes what it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(DOCS.parent / "app" / "main.py")]
    command += [f"--server.port={port}", "--server.headless=true"]
    server = subprocess.Popen(
        command, cwd=DOCS, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(settings or {})}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def launched(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)


def main() -> None:
    with serving(settings={"CR_INTERP_STUDIES": ""}) as address, sync_playwright() as playwright:
        browser = launched(playwright)
        page = browser.new_page(viewport={"width": 1360, "height": 900}, color_scheme="light")
        for name, path in PAGES.items():
            page.goto(f"{address}/{path}")
            page.locator(".js-plotly-plot").first.wait_for(timeout=180_000)
            page.wait_for_timeout(1500)
            page.screenshot(path=DOCS / "assets" / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
