"""The Suite page: counts, figures and the way from a marker to its study, by Streamlit's own test harness."""

import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study
from test_app import MAIN

from cr_interp.study.study import Study

SETTINGS = ("rules-llama", "codebook-qwen3", "sokoban-self")


@pytest.fixture
def suite(root):
    for index, setting in enumerate(SETTINGS):
        make_study(root / "mine" / setting, examples=30, seeds=(0, 1), seed=index)
    return root / "mine"


def opened(**query: str) -> AppTest:
    app = AppTest.from_file(MAIN, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    return app.switch_page("screens/suite.py").run()


def words(app: AppTest) -> str:
    return " ".join(str(element.value) for element in [*app.markdown, *app.info, *app.caption, *app.error])


@pytest.mark.slow
def test_the_counts_are_those_of_the_table(suite):
    from cr_interp.tables.claims import count_fairly, said_fairly
    from cr_interp.tables.suite import comparisons, counts, open_suite

    app = opened(study="mine/rules-llama")
    assert not app.exception
    assert not app.error
    compared = comparisons(open_suite(suite))
    assert said_fairly(count_fairly(compared), "nca", "opd") in words(app).replace("\\", "")
    assert len(app.get("plotly_chart")) == 2
    assert "9 settings are not" in app.expander[1].label
    app.session_state["claims"] = True  # the expander is opened
    app.run()
    expected = counts(open_suite(suite))
    shown = app.dataframe[0].value
    assert list(shown["claim"]) == list(expected["claim"])
    assert list(shown["settings"]) == [f"{row.k} of {row.of}" for row in expected.itertuples()]


@pytest.mark.slow
def test_other_arms_than_the_papers_have_a_figure_of_their_own(suite, root):
    make_study(root / "mine" / "rules-qwen3", ("base", "opd", "nca", "sym_kl"), examples=30, seeds=(0, 1), seed=3)
    app = opened(study="mine/rules-llama", view="Ablations")
    assert not app.exception
    assert not app.error
    assert len(app.get("plotly_chart")) == 1
    assert [each.value for each in app.subheader] == ["Which part of the anchor does it?"]


@pytest.mark.slow
def test_ablations_that_were_not_asked_under_this_context(suite, root):
    arms = ("base", "opd", "nca", "sym_kl")
    make_study(root / "mine" / "rules-qwen3", arms, examples=30, seeds=(0, 1), controls=("exact",))
    app = opened(study="mine/rules-llama", view="Ablations", control="paraphrase")
    assert not app.exception
    assert not app.error
    assert "No setting has answers of these arms yet" in app.get("plotly_chart")[0].proto.spec


@pytest.mark.slow
def test_a_tab_is_in_the_address_and_the_only_one_that_is_made(suite):
    app = opened(study="mine/rules-llama")
    assert "Ablations" not in [tab.label for tab in app.tabs]
    for view in ("Every setting", "Drift by layer"):
        app.session_state["view"] = view  # what a click does
        app.run()
        assert not app.exception
        assert app.query_params["view"] == view
        assert [each.value for each in app.subheader] == [view]
    app.session_state["view"] = "Harm"
    app.run()
    assert "view" not in app.query_params
    app = opened(study="mine/rules-llama", view="Ablations")  # somebody else's suite had them
    assert not app.exception
    assert len(app.get("plotly_chart")) == 2


def test_without_a_suite_it_says_how_to_make_one(root):
    make_study(root / "alone", examples=10)
    app = opened()
    assert not app.exception
    assert "No suite was found" in words(app)
    assert app.code[0].value == "cr-interp suite"


@pytest.mark.slow
def test_of_two_suites_the_one_of_the_study_comes_first(suite, root):
    make_study(root / "another" / "rules-llama", examples=10)
    app = opened(study="mine/sokoban-self")
    assert app.selectbox(key="suite").value == "mine"
    app.selectbox(key="suite").set_value("another").run()
    assert not app.exception
    assert app.query_params["suite"] == "another"


@pytest.mark.slow
def test_an_arm_that_no_setting_has_and_one_arm_twice(suite, root):
    make_study(root / "five", arms=("base", "opd", "sym_kl"), examples=10)
    make_study(root / "mine" / "five", arms=("base", "opd", "sym_kl"), examples=10)
    make_study(root / "mine" / "other", arms=("base", "dual_opd", "nca"), examples=10)
    app = opened(study="five", arm="sym_kl", baseline="dual_opd")
    assert not app.exception
    assert "No setting has answers of both" in words(app)
    app = opened(study="mine/rules-llama", arm="opd", baseline="opd")
    assert "Choose two different arms" in words(app)


def test_nothing_on_the_left_is_asked_of_a_suite(suite):
    app = opened(study="mine/rules-llama", seeds="1", arms="opd")
    assert not app.exception
    keys = {each.key for kind in ("selectbox", "multiselect", "toggle") for each in app.sidebar.get(kind)}
    assert keys == set()
    assert app.selectbox(key="suite_arm").value == "nca"


def test_the_drift_has_the_measure_of_the_left(suite):
    app = opened(study="mine/rules-llama", view="Drift by layer")
    app.selectbox(key="suite_measure").set_value("relative_l2").run()
    assert "Relative L2 between a response token's state after each block" in words(app)


def test_a_damaged_setting_costs_the_page_a_message(suite):
    Study.open(suite / "sokoban-self").table_path("generations").write_bytes(b"no table")
    app = opened(study="mine/rules-llama")
    assert not app.exception
    assert app.error
    assert "generations" in " ".join(str(error.value) for error in app.error)


def test_the_files_of_a_suite_are_looked_up_once_a_run(suite, monkeypatch):
    """There are hundreds of logs, and every table of the page asks for what it is valid for."""
    from app.queries import suite_state

    looked: list[int] = []
    real = suite_state.stamp_of
    monkeypatch.setattr(suite_state, "stamp_of", lambda *files: looked.append(len(files)) or real(*files))
    app = opened()
    assert not app.exception
    assert len(looked) == 1
