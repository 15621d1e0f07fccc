"""The built site: strict, with the pages that are made from the code, and nothing loaded from elsewhere."""

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import warm

pytest.importorskip("mkdocs", reason="the documentation's packages are in the extra `docs`")

ROOT = Path(__file__).resolve().parents[2]

#: What a browser fetches by itself; a link that is clicked is not.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


class Fetched(HTMLParser):
    """Collects the addresses of whatever a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get(FETCHED.get(tag, ""))
        if value and dict(attrs).get("rel") != "canonical":
            self.found.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    for command in (
        ["docs/tools/generate.py", "reference"],
        ["-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
    ):
        done = warm.run([sys.executable, *command], cwd=ROOT, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text("utf-8"))
        assert fetched.found
        assert [each for each in fetched.found if re.match(r"(https?:)?//", each)] == [], page
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), style


@pytest.mark.slow
def test_commands_keys_and_columns_are_described(site):
    from cr_interp.study.schema import COLUMNS
    from training.settings import StudyConfig

    page = (site / "reference" / "cli.html").read_text("utf-8")
    for command in ("table", "compare", "distill", "reproduce", "plan", "capture"):
        assert f'<h2 id="{command}">' in page, command
    page = (site / "reference" / "configuration.html").read_text("utf-8")
    for key in StudyConfig.model_fields:
        assert f"<code>{key}</code>" in page, key
    page = (site / "reference" / "tables.html").read_text("utf-8")
    for column in {name for columns in COLUMNS.values() for name in columns}:
        assert f"<code>{column}</code>" in page, column
    assert ":func:" not in (site / "reference" / "python.html").read_text("utf-8")
