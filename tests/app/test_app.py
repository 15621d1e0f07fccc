"""The app's logic without a browser: what pages say, and what they do with studies that are not as they should.

AppTest does not know plotly charts and does not emulate the URL; ``test_browser.py`` looks at those.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study, patching_rows

from app.queries import state, summary
from app.words import plain
from cr_interp.study import searching as studies
from cr_interp.system.percent import percent
from cr_interp.tables import behaviour

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
PAGES = ("screens/overview.py", "screens/layers.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_study(root / "organism-shift", examples=40)
    return root


@pytest.fixture
def good(root: Path, made: Path) -> Path:
    return Path(shutil.copytree(made / "organism-shift", root / "organism-shift"))


def open_app(page: str = PAGES[0], **chosen: object) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in chosen.items():
        app.session_state[key] = value
    return (app if page == PAGES[0] else app.switch_page(page)).run()


def said(app: AppTest) -> str:
    """All text of a page, with the escapes of Markdown removed."""
    parts = [app.markdown, app.caption, app.info, app.error, app.subheader, app.code]
    return "\n".join(str(element.value) for part in parts for element in part).replace("\\", "")


BADGES = {"yes": "Yes", "partly": "Partly", "no": "No", "open": "Not shown"}


def html(app: AppTest) -> str:
    return "\n".join(str(each.proto.body) for each in app.get("html"))


@pytest.mark.slow
def test_overview_answers_the_question_with_the_numbers_of_the_tables(good):
    app = open_app()
    assert not app.exception
    assert not app.error
    text = said(app)
    assert "Did nca reduce Harm without losing accuracy?" in text
    table = behaviour.metrics(studies.Study.open(good).table("generations"))
    row = behaviour.differences(studies.Study.open(good).table("generations"), "nca", "opd").query("seed.isna()")
    harm = row[row["metric"] == "harm"].iloc[0]
    assert f"{100 * harm.estimate:+.1f} [{100 * harm.low:+.1f}, {100 * harm.high:+.1f}] pts".replace(
        "-", "−"
    ) in html(app)
    for arm in ("opd", "nca"):
        assert f"<td>{percent(summary.value(table, arm, 'harm'), unit=' %')}</td>" in html(app)
    rows = html(app).partition("class='ct-verdict'")[2].partition("</table>")[0].count("scope='row'")
    assert rows == 8
    # The verdict says its numbers once: they stand in no card or sentence besides.
    assert not app.metric
    assert f"{100 * harm.estimate:+.1f}".replace("-", "−") not in text
    verdict = summary.headline(
        table, behaviour.differences(studies.Study.open(good).table("generations"), "nca", "opd"), "nca", "opd"
    )
    assert f"<strong>{BADGES[verdict.verdict]}" in html(app)
    assert "<span>3 seeds</span>" in html(app)
    assert "not measured" in html(app)


def test_overview_says_in_two_sentences_what_to_look_at(good):
    intro = open_app().markdown[0].value
    assert "Look at Harm" in intro
    assert intro.count(". ") == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_study_that_lacks_a_table_says_the_command_that_makes_it(root, made, page):
    """Under a name by which it is found: a suite's setting is not found under its own."""
    study = Path(shutil.copytree(made / "organism-shift", root / "mine" / "rules-llama"))
    (study / "tables" / ("generations" if page == PAGES[0] else "drift")).with_suffix(".parquet").unlink()
    app = open_app(page)
    assert not app.exception
    assert not app.error
    assert "This study has no" in said(app)
    command = "evaluate" if page == PAGES[0] else "capture"
    assert app.code[0].value == f"cr-interp {command} mine/rules-llama"
    if page == PAGES[0]:
        assert "What differs between the arms" in said(app)


def test_what_stands_closed_is_not_drawn(good):
    app = open_app()
    assert [each.label for each in app.expander][1:] == ["Every prompt with both arms' answers", "Provenance"]
    assert all(not each.children for each in app.expander)


def test_the_floor_stands_behind_the_curves_and_other_controls_when_they_are_chosen(good):
    app = open_app(PAGES[1])
    assert "Dashed, in each arm's colour: its floor" in said(app)
    assert "Grey, behind" not in said(app)
    app.button_group(key="behind").set_value(["floor", "repeat", "mismatched"]).run()
    assert "Grey, behind" in said(app)
    assert app.query_params["behind"] == ["floor", "repeat", "mismatched"]
    app.button_group(key="behind").set_value([]).run()
    assert "its floor" not in said(app)
    assert app.query_params["behind"] in ("", [""])


def test_what_repairs_stands_below_what_moves_or_the_command_that_measures_it(good):
    app = open_app(PAGES[1])
    assert "cr-interp explain organism-shift --analyses patching" in said(app)
    study = studies.Study.open(good)
    study.put("patching", patching_rows())
    app = open_app(PAGES[1])
    assert not app.exception
    assert not app.error
    assert "--analyses patching" not in said(app)
    assert "Below: recovered share of the logit difference" in said(app)
    assert "a random direction of the same norm at most 0.10" in said(app)


@pytest.mark.slow
def test_the_first_page_says_where_it_is_decided_or_how_to_find_out(good):
    app = open_app()
    assert "Where is it decided?" in said(app)
    assert "cr-interp explain organism-shift --analyses patching" in said(app)
    studies.Study.open(good).put("patching", patching_rows())
    text = said(open_app())
    assert (
        "In opd, putting back the residual stream of layer 2 alone returns 100.0 % of 12 harmed answers a seed"
        in text
    )
    assert "controls at most 10.0 %" in text
    assert "--analyses patching" not in text


def test_relative_is_a_measure_where_there_is_a_floor(good):
    app = open_app(PAGES[1])
    app.selectbox(key="measure").set_value("relative").run()
    assert not app.exception
    assert not app.error
    assert "relative to the floor, highest of all layers" in said(app)
    drift = studies.Study.open(good).table("drift")
    at = drift[(drift["measure"] == "cosine") & (drift["site"] == "resid_post") & (drift["arm"] == "opd")]
    exact, floor = (
        at[at["control"] == name].set_index(["seed", "layer"])["estimate"] for name in ("exact", "floor")
    )
    expected = (((1 - exact) / (1 - floor)) ** 0.5).groupby("seed").max().mean()
    assert next(each.value for each in app.metric if each.label == "opd") == f"{expected:.3f}"
    assert app.query_params["measure"] in ("relative", ["relative"])


@pytest.mark.slow
def test_the_measure_is_one_choice_for_all_pages(good):
    app = open_app(PAGES[1])
    app.selectbox(key="measure").set_value("relative_l2").run()
    for page, words in (
        ("training", "Step 100. Relative L2 between"),
        ("layers", "relative L2, highest of all layers"),
    ):
        app.switch_page(f"screens/{page}.py").run()
        assert not app.exception
        assert app.query_params["measure"] in ("relative_l2", ["relative_l2"])
        assert words in said(app) + " ".join(metric.label for metric in app.metric)


def test_a_measure_that_was_not_measured_under_a_control_is_said_so(good):
    app = open_app(PAGES[1])
    app.selectbox(key="measure").set_value("procrustes")
    app.selectbox(key="control").set_value("mismatched").run()
    assert not app.exception
    assert not app.error
    assert "No Procrustes of these arms was measured under the mismatched context" in said(app)


def test_layers_explains_itself_and_orders_the_arms(good):
    app = open_app(PAGES[1])
    assert not app.exception
    assert not app.error
    assert "internalised the context" in said(app)
    assert "robust and deaf look alike" in said(app)
    lowest = {metric.label: float(metric.value) for metric in app.metric}
    assert list(lowest) == ["base", "opd", "nca"]
    assert lowest["base"] < lowest["opd"] < lowest["nca"]
    app.selectbox(key="measure").set_value("relative_l2").run()
    assert "relative L2, highest of all layers" in said(app)
    assert not app.exception


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_choices_change_the_page(good, page):
    app = open_app(page)
    app.multiselect(key="arms").set_value(["opd"])
    app.selectbox(key="control").set_value("mismatched").run()
    assert not app.exception
    assert "mismatched" in said(app)
    if page == PAGES[1]:
        assert [metric.label for metric in app.metric] == ["opd"]


@pytest.mark.slow
def test_choices_hold_on_both_pages(good):
    app = open_app()
    app.multiselect(key="arms").set_value(["opd", "nca"])
    app.selectbox(key="control").set_value("mismatched").run()
    app.switch_page(PAGES[1]).run()
    assert [metric.label for metric in app.metric] == ["opd", "nca"]
    assert app.selectbox(key="control").value == "mismatched"
    app.switch_page(PAGES[0]).run()
    assert app.multiselect(key="arms").value == ["opd", "nca"]
    assert app.selectbox(key="control").value == "mismatched"
    assert not app.exception


@pytest.mark.parametrize("page", PAGES)
def test_no_studies(root, page):
    app = open_app(page)
    assert not app.exception
    assert "No study was found" in said(app)
    assert "cr-interp reproduce organism" in said(app)


def test_damaged_manifest_is_named_and_another_study_can_be_chosen(good, root):
    (root / "broken").mkdir()
    (root / "broken" / "manifest.json").write_text("{ not json")
    app = open_app(study="broken")
    assert not app.exception
    assert "manifest of" in said(app)
    assert "damaged" in said(app)
    app.selectbox(key="study").set_value("organism-shift").run()
    assert not app.error
    assert "ct-verdict" in html(app)


def test_newer_study_is_refused_clearly(good):
    manifest = json.loads((good / "manifest.json").read_text())
    (good / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    app = open_app()
    assert not app.exception
    assert "schema version 99" in said(app)
    assert "Update cr_interp" in said(app)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("table", ["generations", "drift"])
@pytest.mark.parametrize("damage", ["missing", "noise", "columns", "types", "empty"])
def test_damaged_tables_cost_their_own_part_only(good, page, table, damage):
    file = good / "tables" / f"{table}.parquet"
    frame = pd.read_parquet(file)
    if damage == "missing":
        file.unlink()
    elif damage == "noise":
        file.write_bytes(b"PAR1 this is no parquet file PAR1")
    elif damage == "columns":
        frame.drop(columns="arm").to_parquet(file)
    elif damage == "types":
        frame.assign(
            **{("outcome" if table == "generations" else "estimate"): [{"a": 1}] * len(frame)}
        ).to_parquet(file)
    else:
        frame.iloc[:0].to_parquet(file)
    app = open_app(page)
    assert not app.exception
    concerned = (page == PAGES[0]) == (table == "generations")
    if concerned:
        assert app.error or app.info or damage == "types"
    elif page == PAGES[0]:
        assert "What differs between the arms" in said(app)
        assert "ct-verdict" in html(app)
    else:
        assert len(app.metric) == 3


@pytest.mark.slow
def test_a_study_without_optional_things(root):
    make_study(root / "bare", arms=("left", "right"), seeds=(0,), examples=20, controls=("exact",))
    studies.Study.create(root / "bare", {})
    for file in (root / "bare" / "runs").rglob("train.jsonl"):
        file.unlink()
    app = open_app()
    assert not app.exception
    assert not app.error
    assert "Did right reduce Harm" in said(app)
    app.switch_page(PAGES[1]).run()
    assert not app.exception
    assert not app.error


@pytest.mark.slow
def test_manifest_of_the_wrong_shape(good):
    (good / "manifest.json").write_text(
        json.dumps(
            {"schema_version": 1, "arms": ["opd"], "seeds": 3, "training": "x", "context": None, "task": 1}
        )
    )
    for page in PAGES:
        app = open_app(page)
        assert not app.exception
        assert not app.error


@pytest.mark.slow
def test_no_arm_and_twice_the_same_arm(good):
    app = open_app()
    app.multiselect(key="arms").set_value([]).run()
    assert "Choose at least one arm" in said(app)
    app.multiselect(key="arms").set_value(["opd"])
    app.selectbox(key="arm").set_value("opd").run()
    assert "Choose two different arms" in said(app)
    assert not app.exception


def test_a_study_that_is_made_again_is_read_again(good):
    study = studies.Study.open(good)
    first = state.table(study, "drift")
    assert state.table(study, "drift") is first
    one = first[(first["arm"] == "opd") & (first["seed"] == 0)]
    study.put("drift", one.assign(arm="other", seed=7))
    assert "other" in set(state.table(study, "drift")["arm"])


@pytest.mark.slow
def test_neither_the_app_nor_its_data_import_torch(good):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run()
for page in ("layers", "maps", "tokens", "examples"):
    app.switch_page(f"screens/{{page}}.py").run()
    assert not app.exception and not app.error, (page, app.exception)
print([name for name in ("torch", "transformers", "training") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=good,
        env={**os.environ, "CR_INTERP_STUDIES": str(good.parent)},
    )
    assert done.stdout.strip() == "[]", done.stderr


# -- sentences -----------------------------------------------------------------------------------------------


def changes(harm: tuple[float, float, float], acc_x: tuple[float, float, float]) -> pd.DataFrame:
    rows = [("harm", *harm), ("acc_x", *acc_x), ("acc_xc", 0.0, -0.01, 0.01)]
    table = pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])
    return table.assign(seed=pd.array([pd.NA] * 3, dtype="Int64"), n=10)


@pytest.mark.parametrize(
    ("harm", "acc_x", "verdict"),
    [
        ((-0.3, -0.4, -0.2), (0.0, -0.02, 0.02), "yes"),
        ((-0.3, -0.4, -0.2), (-0.1, -0.15, -0.05), "partly"),
        ((0.2, 0.1, 0.3), (0.0, -0.02, 0.02), "no"),
        ((-0.02, -0.06, 0.02), (0.0, -0.02, 0.02), "open"),
        ((float("nan"),) * 3, (0.0, -0.02, 0.02), "open"),
    ],
)
def test_headline_follows_the_intervals(harm, acc_x, verdict):
    metrics = pd.DataFrame(columns=["arm", "seed", "metric", "estimate", "low", "high", "n"])
    answer = summary.headline(metrics, changes(harm, acc_x), "nca", "opd")
    assert answer.verdict == verdict
    assert ("lower Acc_x" in answer.sentence) == (verdict == "partly")


def test_no_loss_is_said_of_a_margin_and_one_seed_is_said():
    metrics = pd.DataFrame(columns=["arm", "seed", "metric", "estimate", "low", "high", "n"])
    wide = summary.headline(metrics, changes((-0.3, -0.4, -0.2), (0.0, -0.2, 0.2)), "nca", "opd")
    assert wide.verdict == "partly", (
        "an interval that reaches from -20 to 20 points does not say that nothing is lost"
    )
    assert "Acc_x is lost by 2 points is open" in wide.sentence
    alone = changes((-0.3, -0.4, -0.2), (0.0, -0.02, 0.02)).assign(interval="within")
    assert "one seed" in summary.headline(metrics, alone, "nca", "opd").sentence


def test_configuration_keeps_apart_what_differs_and_what_is_shared():
    manifest = {
        "task": "rules:shift",
        "arms": {"opd": {"terms": ["A"], "lr": 1}, "nca": {"terms": ["A", "0.5 * B"], "lr": 1, "beta": 0.5}},
        "training": {"steps": 100},
    }
    differing, shared = summary.configuration(manifest, ["base", "opd", "nca"])
    assert differing.set_index("setting").loc["objective"].tolist() == ["not trained", "A", "A + 0.5 * B"]
    assert differing.set_index("setting").loc["beta"].tolist() == ["not trained", "–", "0.5"]
    assert dict(zip(shared["setting"], shared["value"], strict=True)) == {
        "task": "rules:shift",
        "lr": "1",
        "training.steps": "100",
    }


def test_answers_keep_the_harmed_prompts_only(made):
    generations = studies.Study.open(made / "organism-shift").table("generations")
    table = summary.answers(generations, ["opd", "nca"], "exact", 1, harmed_under="opd")
    mine = generations[(generations["arm"] == "opd") & (generations["seed"] == 1)].set_index("example_id")
    right = set(mine[(mine["view"] == "no_context") & (mine["outcome"] == "right")].index)
    wrong = set(mine[(mine["control"] == "exact") & (mine["outcome"] != "right")].index)
    assert set(table["example_id"]) == right & wrong
    assert table["opd · without"].str.startswith("✓").all()
    assert not table["opd · with"].str.startswith("✓").any()


def test_text_from_files_cannot_become_markdown():
    assert plain("![x](//a) **b** <i> :red[c] $d$") == r"\!\[x\]\(//a\) \*\*b\*\* \<i\> \:red\[c\] \$d\$"
    for address in ("http://a.invalid", "www.a.invalid", "me@a.invalid"):
        assert "\u2060" in plain(address)


@pytest.mark.parametrize(
    ("arms", "pair"),
    [
        (["base", "opd", "nca"], ("nca", "opd")),
        (["base", "opd"], ("opd", "base")),
        (["base", "nca"], ("nca", "base")),
        (["mine"], ("mine", "mine")),
    ],
)
def test_an_arm_is_not_compared_with_itself_while_there_is_another(arms, pair):
    from app.sidebar import default_pair

    arm, baseline = default_pair(arms)
    assert (arms[arm], arms[baseline]) == pair
    default_pair([])
