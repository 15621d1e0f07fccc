"""What is chosen: on the left, in the address, and from one page to the next.

Pages themselves are in ``test_pages.py``, whose study and ways to look these tests share.
"""

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study
from test_app import MAIN
from test_pages import ALL, MAPS, PAGES, TOKENS, open_app, queries, said, table

from cr_interp.study import searching as studies
from cr_interp.study.rows import rows_of
from cr_interp.tables import behaviour, example_pairs, token_view


@pytest.mark.slow
def test_chosen_seeds_hold_on_every_page_and_enter_the_numbers(good):
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    app.multiselect(key="seeds").set_value([2]).run()
    metrics = behaviour.metrics(rows_of(table(good, "generations"), seeds=(2,)))
    harm = metrics[(metrics["arm"] == "nca") & (metrics["metric"] == "harm") & metrics["seed"].isna()][
        "estimate"
    ].iloc[0]
    verdict = next(str(each.proto.body) for each in app.get("html") if "<tbody>" in str(each.proto.body))
    assert f"<td>{100 * harm:.1f} %</td>" in verdict
    for page in ("screens/layers.py", *PAGES):
        app.switch_page(page).run()
        assert not app.exception
        assert app.multiselect(key="seeds").value == [2]


def test_an_arm_that_was_run_once_stays_whatever_seeds_are_chosen():
    frame = pd.DataFrame({"arm": ["base", "opd", "opd"], "seed": [0, 0, 1]})
    assert list(rows_of(frame, seeds=(1,))["arm"]) == ["base", "opd"]
    assert rows_of(frame) is frame


@pytest.mark.slow
def test_another_study_starts_with_all_its_arms_and_seeds_unless_some_were_left_out(good, root):
    make_study(root / "two-seeds", arms=("base", "opd"), seeds=(0, 1), examples=10, tables=ALL)
    make_study(root / "strange", arms=("left", "right"), seeds=(7, 8), examples=10, tables=ALL)

    def chosen(study: str) -> tuple[list[str], list[int]]:
        app.selectbox(key="study").set_value(study).run()
        assert not app.exception
        return app.multiselect(key="arms").value, app.multiselect(key="seeds").value

    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert chosen("two-seeds") == (["base", "opd"], [0, 1])
    assert chosen("organism-shift") == (["base", "opd", "nca"], [0, 1, 2])
    app.multiselect(key="arms").set_value(["opd", "nca"])
    app.multiselect(key="seeds").set_value([1]).run()
    assert chosen("two-seeds") == (["opd"], [1])
    assert chosen("strange") == (["left", "right"], [7, 8])


@pytest.mark.slow
def test_what_a_page_was_set_to_is_found_again(good):
    app = open_app(TOKENS, example="test-0007", layer="1")
    app.switch_page(MAPS).run()
    app.query_params.clear()  # as the menu does
    app.switch_page(TOKENS).run()
    assert app.selectbox(key="example").value == "test-0007"
    assert app.select_slider(key="layer").value == "1"
    assert queries(app)["example"] == ["test-0007"]


@pytest.mark.slow
def test_a_new_address_wins_over_what_was_chosen(good):
    app = open_app(TOKENS, example="test-0007")
    app.query_params["example"] = "test-0001"
    app.run()
    assert app.selectbox(key="example").value == "test-0001"


@pytest.mark.slow
def test_what_nobody_chose_follows_its_default_and_what_was_chosen_stays(good):
    app = open_app(TOKENS, layer="2")
    first = app.selectbox(key="example").value
    app.selectbox(key="by_arm").set_value("base").run()
    drift = table(good, "token_drift")
    mine = drift[
        (drift["arm"] == "base") & (drift["seed"] == 0) & (drift["site"] == "resid_post") & (drift["layer"] == 2)
    ]
    order = token_view.rank(mine, "cosine", "max")
    pairs = example_pairs.paired(table(good, "generations"))
    harmed = pairs[(pairs["arm"] == "base") & (pairs["seed"] == 0) & (pairs["case"] == "harmed")]
    in_front = order[order["example_id"].isin(harmed["example_id"])]
    assert (
        app.selectbox(key="example").value
        == (in_front if len(in_front) else order)["example_id"].iloc[0]
        != first
    )
    assert "example" not in queries(app)
    app.selectbox(key="example").set_value("test-0009").run()
    app.selectbox(key="by_arm").set_value("opd").run()
    assert app.selectbox(key="example").value == "test-0009"
    assert queries(app)["example"] == ["test-0009"]


def test_links_carry_the_study_and_what_the_other_page_needs(good):
    app = open_app("screens/layers.py", layer="2")
    links = {link.proto.label: link.proto for link in app.get("page_link")}
    assert set(links) == {"Tokens at layer 2", "Maps at layer 2"}
    assert links["Maps at layer 2"].query_string == "study=organism-shift&layer_x=2&layer_y=2"
    assert links["Tokens at layer 2"].query_string == "study=organism-shift&layer=2&token_measure=cosine"


@pytest.mark.slow
def test_the_switch_for_sinks_takes_their_table_or_says_why_it_changes_nothing(good):
    def switched(on: bool) -> AppTest:
        app = open_app("screens/layers.py")
        return app.toggle(key="sinks").set_value(on).run()

    app = switched(True)
    assert not app.exception
    assert "was measured without sinks only" in said(app)
    study = studies.Study.open(good)
    drift = study.table("drift")
    study.put("drift", drift.assign(n_masked=3))
    study.put("drift_with_sinks", drift[drift["measure"] == "cosine"].assign(estimate=0.25, low=0.2, high=0.3))
    app = switched(True)
    assert "Up to 3 tokens at a site" in said(app)
    assert {metric.value for metric in app.metric} == {"0.250"}
    assert "0.250" not in {metric.value for metric in switched(False).metric}


def test_a_study_that_was_measured_with_its_sinks_is_not_said_to_have_none(good):
    study = studies.Study.open(good)
    study.put("drift", study.table("drift").assign(n_masked=0))  # none was masked, since none was looked for
    study.update_manifest(evaluation={**study.manifest["evaluation"], "mask_sinks": False})
    app = open_app("screens/layers.py").toggle(key="sinks").set_value(True).run()
    assert "measured with sinks throughout" in said(app)
    assert "None of this study's tokens" not in said(app)


@pytest.mark.slow
def test_a_figure_is_made_once_until_its_study_changes(good, monkeypatch):
    from cr_interp import figures

    made = []
    original = figures.metric_forest
    monkeypatch.setattr(
        figures, "metric_forest", lambda *given, **more: made.append(1) or original(*given, **more)
    )
    open_app("screens/overview.py")
    open_app("screens/overview.py")
    assert len(made) == 1
    study = studies.Study.open(good)
    study.put("generations", study.table("generations"))
    open_app("screens/overview.py")
    assert len(made) == 2
