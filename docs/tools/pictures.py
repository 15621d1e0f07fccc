"""Make the pictures of README.md and the site from the bundled studies: ``python docs/tools/pictures.py`` (needs chromium)."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).resolve().parent.parent
PAGES = {
    "layers": "layers?study=organism-shift",
    "overview": "?study=organism-shift",
    "suite": "suite?study=suite/rules-qwen3",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(DOCS.parent / "app" / "main.py")]
    command += [f"--server.port={port}", "--server.headless=true"]
    server = subprocess.Popen(
        command, cwd=DOCS, stdout=subprocess.DEVNULL, env={**os.environ, "CR_INTERP_STUDIES": ""}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1360, "height": 900}, color_scheme="light")
            for name, path in PAGES.items():
                page.goto(f"{address}/{path}")
                page.locator(".js-plotly-plot").first.wait_for(timeout=180_000)
                page.wait_for_timeout(1500)
                page.screenshot(path=DOCS / "assets" / f"{name}.png")
            browser.close()
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
