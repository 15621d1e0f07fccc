"""One server for the tests of a worker, and what they share."""

import shutil
from pathlib import Path

import pytest

from cr_interp.study import searching as studies


@pytest.fixture(scope="session", autouse=True)
def once_for_all_apps():
    """What AppTest does anew for every app, and what is the same for all: look through all installed packages for components of
    Streamlit, and compile the app's pages. And it asks a thousand times a second whether a page has been run, which interrupts
    what runs it; waiting for the end of its thread does not."""
    from streamlit.components.v2 import manifest_scanner
    from streamlit.runtime.scriptrunner.script_cache import ScriptCache
    from streamlit.testing.v1 import app_test, local_script_runner

    components, compiled = manifest_scanner.scan_component_manifests(), ScriptCache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda *_: components)
        for module in (app_test, local_script_runner):
            patch.setattr(module, "ScriptCache", lambda: compiled)
        asks = local_script_runner.require_widgets_deltas

        def waits(runner, timeout=3.0):
            runner._script_thread.join(timeout)
            asks(runner, 0.1)

        patch.setattr(local_script_runner, "require_widgets_deltas", waits)
        yield


@pytest.fixture(scope="session", autouse=True)
def answers_are_kept_for_the_session(tmp_path_factory: pytest.TempPathFactory):
    """Not in the user's own cache; a study that several tests open is compared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CR_INTERP_STORED", str(tmp_path_factory.mktemp("stored")))
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose studies the server shows."""
    import browsing

    studies = tmp_path_factory.mktemp("studies")
    browsing.make_studies(studies)
    return studies


@pytest.fixture(scope="session")
def server(served: Path, tmp_path_factory: pytest.TempPathFactory):
    import browsing

    yield from browsing.serve(served, tmp_path_factory.mktemp("elsewhere"))


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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every table."""
    from synthetic import make_study

    tables = ("generations", "drift", "training", "cka_map", "token_drift")
    return make_study(tmp_path_factory.mktemp("made") / "organism-shift", examples=24, tables=tables).path


@pytest.fixture
def good(root: Path, made: Path) -> Path:
    """A copy of that study, where studies are looked for."""
    return Path(shutil.copytree(made, root / "organism-shift"))
