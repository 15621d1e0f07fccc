"""``synthetic.py`` lies one folder up; pytest puts only a test's own folder on the path."""

import sys
from pathlib import Path

import pytest

from cr_interp import study as studies

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory):
    import browsing

    studies = tmp_path_factory.mktemp("studies")
    browsing.make_studies(studies)
    yield from browsing.serve(studies, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def browser():
    import browsing

    yield from browsing.launched()


@pytest.fixture
def page(browser):
    import browsing

    yield from browsing.watched(browser, viewport={"width": 1400, "height": 1000})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the only place where studies are looked for."""
    monkeypatch.setattr(studies, "BUNDLED", tmp_path / "no-examples")
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path
