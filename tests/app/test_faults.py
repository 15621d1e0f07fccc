"""What once misled: shared keys, links that showed something else, a study that is not here, lines that swallowed clicks."""

import shutil
from pathlib import Path
from urllib.parse import parse_qsl

import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study
from test_pages import open_app, queries, said

from app import parts
from app.main_pages import PAGES

NAMES = [name for name, page in PAGES.items() if "study" in page.parts]


def keys_of(app: AppTest) -> set[str]:
    """The keys of the widgets of a page, without those of the left side."""
    kinds = (
        "selectbox",
        "multiselect",
        "toggle",
        "button_group",
        "select_slider",
        "number_input",
        "text_area",
        "text_input",
        "button",
        "checkbox",
    )
    return {element.key for kind in kinds for element in app.main.get(kind) if element.key}


@pytest.mark.slow
def test_no_two_pages_share_a_key(root, made):
    shutil.copytree(made, root / "mine" / "rules-llama")
    taken: dict[str, str] = {}
    for name in PAGES:
        app = open_app(f"screens/{name}.py", layer_x="1", layer_y="1", layer="1")
        assert not app.exception, name
        for key in keys_of(app):
            assert key not in taken, f"{name} and {taken[key]} share the key {key!r}"
            taken[key] = name


@pytest.mark.slow
def test_from_layers_to_tokens_at_the_layer_that_the_link_says_and_next_stays_there(good):
    """Twice, since the first way round leaves the choice behind: the slider stood at the embedding, and so did *Next*."""
    app = open_app("screens/layers.py", layer="2")
    for layer in ("2", "3"):
        app.session_state["closer"] = layer  # what a click on a curve does
        app.run()
        link = next(each.proto for each in app.get("page_link") if each.proto.label == f"Tokens at layer {layer}")
        app = follow(app, link)
        assert app.select_slider(key="layer").value == layer
        example = app.selectbox(key="example").value
        app.button(key="to-Next").click().run()
        assert app.select_slider(key="layer").value == layer
        assert app.selectbox(key="example").value != example
        app.switch_page("screens/layers.py").run()


def follow(app: AppTest, link: object) -> AppTest:
    """What a click on a link does: the other page, with the query that the link names."""
    page = link.page or "overview"
    app.query_params.clear()
    for key, value in parse_qsl(link.query_string):
        app.query_params[key] = value
    return app.switch_page(f"screens/{page}.py").run()


#: name in a link → where the page shows it.
SHOWS = {
    ("tokens", "layer"): lambda app: app.select_slider(key="layer").value,
    ("tokens", "example"): lambda app: app.selectbox(key="example").value,
    ("tokens", "by_arm"): lambda app: app.selectbox(key="by_arm").value,
    ("tokens", "token_measure"): lambda app: app.button_group(key="token_measure").value,
    ("tokens", "token_seed"): lambda app: str(app.selectbox(key="token_seed").value),
    ("layers", "layer"): lambda app: app.selectbox(key="closer").value,
    ("maps", "layer_x"): lambda app: app.selectbox(key="layer_x").value,
    ("maps", "layer_y"): lambda app: app.selectbox(key="layer_y").value,
    ("examples", "case_arm"): lambda app: app.selectbox(key="case_arm").value,
    ("examples", "cases"): lambda app: app.selectbox(key="cases").value,
    ("examples", "only"): lambda app: app.selectbox(key="only").value,
}


@pytest.mark.slow
def test_every_link_leads_to_what_it_says(good):
    """Of every page with something chosen on it; each link's query is what the page behind it shows."""
    followed = set()
    for name in NAMES:
        app = open_app(f"screens/{name}.py", layer="1", layer_x="1", layer_y="2", control="mismatched")
        links = [each.proto for each in app.main.get("page_link") if each.proto.query_string]
        for link in links:
            signature = (link.page, tuple(key for key, _ in parse_qsl(link.query_string)))
            if (name, signature) in followed:
                continue  # a card like the one before
            followed.add((name, signature))
            there = follow(open_app(f"screens/{name}.py", layer="3"), link)
            assert not there.exception, link.label
            assert not there.error, link.label
            for key, value in parse_qsl(link.query_string):
                if key == "study":
                    assert there.selectbox(key="study").value == value
                elif (link.page, key) in SHOWS:
                    assert SHOWS[link.page, key](there) == value, f"{name}: {link.label}: {key}"
                else:
                    assert queries(there)[key] == [value], f"{name}: {link.label}: {key}"
    assert len(followed) > 6


def test_a_study_that_is_not_here_is_said_and_no_other_opens(good, root):
    make_study(root / "another", examples=10)
    for name in NAMES:
        app = open_app(f"screens/{name}.py", study="nonsense", arm="opd")
        assert not app.exception
        assert "asks for the study **nonsense**, which is not here" in said(app)
        assert {link.proto.label.replace("\\", "") for link in app.main.get("page_link")} >= {
            "organism-shift",
            "another",
        }
        assert queries(app) == {"study": ["nonsense"], "arm": ["opd"]}
        assert not app.get("plotly_chart")
    app.selectbox(key="another study").set_value("another").run()
    assert not app.exception
    assert queries(app)["study"] == ["another"]
    assert app.selectbox(key="study").value == "another"


def test_a_suite_that_is_not_here_is_said(root, made):
    shutil.copytree(made, root / "mine" / "rules-llama")
    app = open_app("screens/suite.py", suite="nonsense")
    assert "asks for the suite **nonsense**, which is not here" in said(app)
    assert queries(app)["suite"] == ["nonsense"]


def test_a_study_with_one_arm_does_not_stand_before_the_suite(root, made):
    shutil.copytree(made, root / "mine" / "rules-llama")
    make_study(root / "alone", arms=("mine",), examples=10)
    app = open_app("screens/overview.py", study="alone")
    app.switch_page("screens/suite.py").run()
    assert not app.exception
    assert not app.error
    assert len(app.get("plotly_chart")) == 2


def test_a_damaged_study_does_not_stand_before_the_suite(root, made):
    shutil.copytree(made, root / "mine" / "rules-llama")
    (root / "broken").mkdir()
    (root / "broken" / "manifest.json").write_text("{ not json")
    app = open_app("screens/overview.py", study="broken")
    assert app.error
    app.switch_page("screens/suite.py").run()
    assert not app.error
    assert len(app.get("plotly_chart")) == 2


def test_every_line_that_the_pointer_finds_can_be_clicked():
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="floor", hovertemplate="%{y}")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", hoverinfo="skip")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines+markers", meta={"panel": "opd"}, marker={"opacity": 0.5})
    parts.reachable(figure)
    assert [trace.mode for trace in figure.data] == ["lines+markers", "lines", "lines+markers"]
    assert figure.data[0].marker.opacity == 0
    assert figure.data[0].meta == {"panel": "floor"}
    assert figure.data[2].marker.opacity == 0.5


@pytest.mark.slow
def test_figures_that_answer_clicks_have_no_line_that_swallows_them(good, monkeypatch):
    from app import parts as shown

    seen = []
    original = shown.st.plotly_chart

    def spy(figure, **options):
        if options["on_select"] != "ignore":
            seen.append(figure)
        return original(figure, **options)

    monkeypatch.setattr(shown.st, "plotly_chart", spy)
    for name in NAMES:
        open_app(f"screens/{name}.py")
    assert len(seen) >= 6
    for figure in seen:
        for trace in figure.data:
            found = (
                trace.type == "scatter" and trace.hoverinfo != "skip" and trace.x is not None and len(trace.x) > 0
            )
            assert not found or "markers" in trace.mode, trace.name


@pytest.mark.slow
def test_one_seed_is_paired_over_examples_only(root):
    make_study(root / "one", seeds=(0,), examples=20)
    assert "paired over examples and seeds" not in said(open_app("screens/overview.py"))
    assert "paired over examples" in said(open_app("screens/overview.py"))
    make_study(root / "two", seeds=(0, 1), examples=20)
    assert "paired over examples and seeds" in said(open_app("screens/overview.py", study="two"))


def test_chosen_seeds_that_leave_one_are_one_seed(good):
    app = open_app("screens/overview.py", seeds="0")
    assert "paired over examples and seeds" not in said(app)
    assert "one seed" in said(app)


@pytest.mark.parametrize("page", NAMES)
def test_a_page_has_a_title_and_says_what_it_shows(good, page):
    app = open_app(f"screens/{page}.py", control="mismatched")
    assert [each.value for each in app.title] == [PAGES[page].title]
    line = next(
        str(each.proto.body) for each in app.main.get("html") if "class='ct-line'" in str(each.proto.body)
    )
    assert "study <b>organism-shift</b>" in line
    assert ("context <b>mismatched</b>" in line) == ("control" in PAGES[page].parts)
    assert ("seeds <b>0, 1, 2</b>" in line) == ("seeds" in PAGES[page].parts)
    # What a page does not use is not offered, and is in the address nevertheless.
    offered = {
        element.key for kind in ("selectbox", "multiselect", "toggle") for element in app.sidebar.get(kind)
    }
    assert ("control" in offered) == ("control" in PAGES[page].parts)
    assert queries(app)["control"] == ["mismatched"]


def test_pages_about_no_single_study_have_a_line_too(root, made):
    shutil.copytree(made, root / "mine" / "rules-llama")
    for name, words in (("suite", "suite <b>mine</b>"), ("home", "studies <b>1</b>")):
        app = open_app(f"screens/{name}.py")
        assert [each.value for each in app.title] == [PAGES[name].title]
        assert any(
            words in str(each.proto.body) and "Copy link" in str(each.proto.body) for each in app.main.get("html")
        )


def test_choices_that_a_page_does_not_use_are_kept(good):
    app = open_app("screens/layers.py")
    app.selectbox(key="control").set_value("irrelevant")
    app.multiselect(key="arms").set_value(["opd", "nca"]).run()
    app.switch_page("screens/tokens.py").run()
    assert "control" not in {element.key for element in app.sidebar.get("selectbox")}
    app.switch_page("screens/layers.py").run()
    assert app.selectbox(key="control").value == "irrelevant"
    assert app.multiselect(key="arms").value == ["opd", "nca"]


def test_names_of_a_line_come_from_files_and_are_escaped():
    from app.context_line import line_html

    assert "<script>" not in line_html([("study", "<script>x</script>")])


@pytest.mark.slow
def test_what_overview_lists_is_not_cut(root: Path):
    study = make_study(root / "long", examples=12)
    answers = study.table("generations")
    names = {each: f"sentiment-test-set-{each}" for each in answers["example_id"].unique()}
    answers = answers.assign(
        example_id=answers["example_id"].map(names),
        prompt="Please read this review: " + answers["prompt"] + ". Is it good?",
    )
    study.put("generations", answers)
    app = open_app("screens/overview.py", prompts="all")
    shown = next(each.value for each in app.dataframe if "prompt" in each.value)
    assert all(len(str(name)) <= 9 for name in shown["example"])
    assert not pd.Series(shown["prompt"]).str.contains("Please read").any()
    assert "Please read this review: … . Is it good?" in said(app)
