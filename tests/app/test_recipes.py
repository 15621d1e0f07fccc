"""The lines of Python that the Save button gives run as printed, and make the figure that the page shows."""

import json
from functools import cache

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study
from test_app import MAIN

from app import parts
from cr_interp.study import searching as studies

#: A page, and which of its tabs.
PAGES = (
    "overview",
    "layers",
    "maps",
    "tokens",
    "examples",
    "training",
    "suite",
    "suite Ablations",
    "suite Training",
    "suite Drift by layer",
    "suite Regimes",
)
ALL = ("generations", "drift", "training", "cka_map", "token_drift")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    arms = ("base", "opd", "nca", "sym_kl")
    for index, setting in enumerate(("rules-llama", "sokoban-self")):
        some = arms[: 3 + index]  # the second has an ablation
        make_study(folder / "mine" / setting, some, examples=20, seeds=(0, 1), tables=ALL, layers=3, seed=index)
    return folder


@pytest.fixture
def shown(made, monkeypatch):
    """name → (what is drawn, code) of every figure that pages show."""
    monkeypatch.setattr(studies, "BUNDLED", made / "no-examples")
    monkeypatch.setenv("CR_INTERP_STUDIES", str(made))
    monkeypatch.chdir(made)
    found: dict[str, tuple[dict, str]] = {}
    original = parts.show_figure

    def spy(figure, name, *arguments, code="", **options):
        assert options["files"], name  # or it would be kept for ever
        made = figure()
        found[name] = (drawing(made), code)
        return original(lambda: made, name, *arguments, code=code, **options)

    monkeypatch.setattr(parts, "show_figure", spy)
    return found


def opened(page: str, **chosen: object) -> AppTest:
    app = AppTest.from_file(MAIN, default_timeout=60)
    page, _, view = page.partition(" ")
    for key, value in (chosen | ({"view": view} if view else {})).items():
        app.session_state[key] = value
    return (app if page == "overview" else app.switch_page(f"screens/{page}.py")).run()


@cache
def drawn_by(code: str) -> dict:
    """What the lines draw: of the same studies, which no test here changes, the same each time."""
    return drawing(made_by(code))


def made_by(code: str) -> go.Figure:
    names: dict[str, object] = {}
    *body, last = code.rstrip().split("\n")
    assert last == "figure.show()"
    exec("\n".join(body), names)
    return names["figure"]


def drawing(figure: go.Figure) -> dict:
    """What is drawn: without what only a click in the app needs."""
    found = json.loads(figure.to_json())
    for trace in found["data"]:
        for key in ("meta", "unselected", "selected"):
            trace.pop(key, None)
    return found


CHOICES = {
    "as they open": {},
    "one seed, two arms, another context": {"control": "irrelevant", "seeds": [1], "arms": ["opd", "nca"]},
    "a cell, a layer, a measure": {
        "layer_x": "emb",
        "layer_y": "2",
        "layer": "1",
        "closer": "1",
        "measure": "relative_l2",
        "token_measure": "kl",
        "colour": "distance",
        "cases": "all",
    },
    "a measure that only grey lines go with, without them": {"measure": "knn_overlap", "behind": [], "log": True},
    "another control": {"control": "mismatched", "measure": "norm_ratio"},
}


@pytest.mark.slow
@pytest.mark.parametrize("query", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("page", PAGES)
def test_the_lines_make_the_figure(shown, page, query):
    app = opened(page, study="mine/rules-llama", **query)
    assert not app.exception
    assert not app.error
    assert shown
    for name, (drawn, code) in shown.items():
        assert code, name
        assert drawn_by(code) == drawn, name
        assert code.rstrip() in [element.value for element in app.code], name
