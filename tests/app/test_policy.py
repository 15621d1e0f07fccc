"""What the server lets nobody do: settings of its user's that open it, and suites of which a part is broken."""

import shutil
import tomllib
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest
from synthetic import make_study

from app.policy import CLOSED, open_doors

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"


@pytest.fixture
def opened(request):
    """An option that a user's settings have opened, as a variable of the environment does."""
    before = config.get_option(request.param[0])
    config.set_option(*request.param)
    yield request.param[0]
    config.set_option(request.param[0], before)


@pytest.mark.parametrize(
    "opened",
    [
        ("server.enableCORS", False),
        ("server.enableXsrfProtection", False),
        ("server.enableAgentApi", True),
        ("server.corsAllowedOrigins", ["https://evil.example"]),
        ("server.enableStaticServing", True),
    ],
    indirect=True,
)
def test_nothing_is_shown_while_other_sites_could_read_it(opened, good):
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert [opened in error.value for error in app.error] == [True]
    assert "STREAMLIT_SERVER_" in app.error[0].value
    assert not app.sidebar.selectbox
    assert not app.metric


def test_the_apps_own_file_closes_what_is_asked_for():
    told = tomllib.loads((MAIN.parent / ".streamlit" / "config.toml").read_text())
    assert open_doors() == []
    for option, value in CLOSED.items():
        section, name = option.split(".")
        assert told[section][name] == value, option


def test_a_broken_setting_is_named_on_the_suites_page_and_the_others_are_shown(root):
    for number, setting in enumerate(("rules-llama", "rules-qwen3", "codebook-llama")):
        make_study(root / "four" / setting, examples=20, seeds=(0, 1), seed=number)
    (root / "four" / "rules-qwen3" / "manifest.json").write_text("{")
    app = AppTest.from_file(str(MAIN), default_timeout=60).switch_page("screens/suite.py").run()
    assert not app.exception
    told = [warning.value.replace("\\", "") for warning in app.warning]
    assert any("rules-qwen3 is left out" in each and "damaged" in each for each in told), told
    assert any(
        "2 settings" in str(each.value) or "of 2" in str(each.value)
        for each in [*app.subheader, *app.markdown, *app.caption]
    )
    shutil.rmtree(root / "four")
