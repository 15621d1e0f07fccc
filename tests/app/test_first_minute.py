"""Three questions that a stranger can answer after a minute on a bundled study's first page, and what stands there.

Did it help, at what price, where is it decided: each is a line that begins with the question, and what it says is worked out
here once more, from the tables that come with the study.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study

from cr_interp.study.searching import BUNDLED, studies_in
from cr_interp.study.study import Study
from cr_interp.tables.stored import SHIPPED

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
QUESTIONS = ("Did it help?", "At what price?", "Where is it decided?")
BADGES = {"yes": "Yes", "partly": "Partly", "no": "No", "open": "Not shown"}


def first_page(page: str, **query: str) -> tuple[dict[str, str], str]:
    """The lines by their question, and the page's HTML."""
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    app = app.switch_page(f"screens/{page}.py").run()
    assert not app.exception
    lines = [each.value.replace("\\", "").replace("\u2060", "") for each in app.markdown]
    found = {
        question: line.removeprefix(f"**{question}** ")
        for question in QUESTIONS
        for line in lines
        if line.startswith(f"**{question}** ")
    }
    return found, "\n".join(str(each.proto.body) for each in app.get("html"))


def verdict_of(path: Path) -> pd.DataFrame:
    (file,) = (path / SHIPPED).glob("verdict_rows-*.parquet")
    return pd.read_parquet(file).set_index("metric")


def test_of_a_single_arm_the_same_is_said_beside_its_base(tmp_path, monkeypatch):
    """What is explained of an arm is said where there is nothing to compare it with but the base."""
    two, one = Study.open(BUNDLED / "smollm2-sentiment-why"), tmp_path / "one-arm"
    one.mkdir()
    arms = {"opd": two.manifest["arms"]["opd"]}
    (one / "manifest.json").write_text(json.dumps({**two.manifest, "name": "one-arm", "arms": arms}))
    for name in ("generations", "drift", "patching"):
        rows = two.table(name)
        mine = rows["arm"].isin(["base", "opd"]) & (rows["seed"] == 0)
        Study.open(one).put(name, rows[mine].reset_index(drop=True))
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    lines, _ = first_page("overview", study="one-arm")
    assert tuple(lines) == QUESTIONS
    assert "opd has more Harm than base. This is one seed" in lines["Did it help?"]
    patching = pd.read_parquet(one / "tables" / "patching.parquet")
    returned = patching[
        (patching["group"] == "harmed") & (patching["readout"] == "answer") & (patching["control"] == "none")
    ]
    assert returned["estimate"].max() == 1.0
    # Many places return all; at this one the controls do least.
    where = lines["Where is it decided?"]
    assert "the residual stream of layer 26 alone returns 100.0 % of 16 harmed answers" in where
    assert "controls at most 25.0 %" in where
    assert "A control does as much there" not in where
    assert set(patching["arm"]) == {"opd"}
    # Where another example's state returns as many everywhere, no place is shown to decide.
    everywhere = patching["estimate"].where(patching["control"] != "other", 1.0)
    Study.open(one).put("patching", patching.assign(estimate=everywhere))
    lines, _ = first_page("overview", study="one-arm")
    assert "A control does as much there, so this place is not shown to decide." in lines["Where is it decided?"]


@pytest.mark.parametrize("name", studies_in(BUNDLED))
def test_a_stranger_can_say_three_things(name):
    lines, html = first_page("overview", study=name)
    assert tuple(lines) == QUESTIONS
    rows = verdict_of(BUNDLED / name)
    harm, accuracies = rows.loc["harm"], rows.loc[["acc_x", "acc_xc"]]
    helped, price, where = lines.values()
    assert ("nca has less Harm than opd" in helped and "open whether" not in helped) == (harm["high"] < 0)
    assert ("more Harm" in helped) == (harm["low"] > 0)
    assert ("On the prompts that both solve without the context it is open" in helped) == (
        not harm["low"] <= 0 <= harm["high"]
        and rows.loc["harm_common", "low"] <= 0 <= rows.loc["harm_common", "high"]
    )
    badge, _, deafer = re.search(r"<strong>(.*?)</strong>", html).group(1).partition(", ")
    assert deafer in ("", "but deafer" if badge in ("Yes", "Partly") else "and deafer")
    wanted = "open" if harm["low"] <= 0 <= harm["high"] else "no" if harm["low"] > 0 else None
    kept = (accuracies["low"] >= -0.02).all()
    assert badge == BADGES[wanted or ("yes" if kept else "partly")]
    for metric, said in (("acc_x", "Acc_x"), ("acc_xc", "Acc_xc")):
        row = rows.loc[metric]
        of = [part for part in re.split(r"(?<=\.) ", price) if re.search(rf"\b{said}\b", part)]
        assert len(of) == 1  # each accuracy is said once
        if row["high"] < 0:
            assert "is worse in" in of[0]
        elif row["low"] < -0.02:
            assert "not excluded" in of[0]
        else:
            assert re.match("It is excluded in|No loss of 2 points or more in", of[0])
    if (BUNDLED / name / "tables" / "patching.parquet").exists():
        patching = pd.read_parquet(BUNDLED / name / "tables" / "patching.parquet")
        arm, layer, share = re.search(
            r"In (\w+), putting back .*? of layer (\d+) alone returns ([\d.]+) %", where
        ).groups()
        mine = patching[
            (patching["arm"] == arm)
            & (patching["group"] == "harmed")
            & (patching["direction"] == "repair")
            & (patching["readout"] == "answer")
            & (patching["control"] == "none")
            & (patching["layer"] == int(layer))
        ]
        means = 100 * mine.groupby("site")["estimate"].mean()
        assert (means - float(share)).abs().min() < 0.05
        low, control = re.search(r"interval ([\d.]+) to [\d.]+ %; controls at most ([\d.]+) %", where).groups()
        assert ("A control does as much there" in where) == (float(control) >= float(low))
    else:
        assert "Not measured" in where
        assert f"cr-interp explain {name} --analyses patching" in where


def test_a_stranger_can_say_them_of_the_suite():
    lines, _ = first_page("suite", suite="suite")
    assert tuple(lines) == QUESTIONS
    helped, price, where = lines.values()
    found = [
        pd.read_parquet(file).assign(setting=file.parents[1].name)
        for file in (BUNDLED / "suite").glob(f"*/{SHIPPED}/comparisons-*.parquet")
    ]
    rows = pd.concat(found)
    harm = rows[rows["metric"] == "harm"]
    harmed = harm["baseline_low"] > harm["baseline_floor"].fillna(0.0)
    assert f"opd is harmed in {harmed.sum()} of {len(harm)} settings" in helped
    assert f"nca repairs {(harmed & (harm['high'] < 0)).sum()}" in helped
    assert f"adds Harm in {(~harmed & (harm['low'] > 0)).sum()}." in helped
    for metric, said in (("acc_x", "Acc_x"), ("acc_xc", "Acc_xc")):
        mine = rows[rows["metric"] == metric]
        lower = set(mine.loc[mine["high"] < 0, "setting"])
        count, named = re.search(rf"{said} is lower in (\d+) of {len(mine)}(?: \((.*?)\))?,", price).groups()
        assert int(count) == len(lower)
        assert set((named or "").split(", ")) - {""} == lower  # few enough to be named
    patched = list((BUNDLED / "suite").glob("*/tables/patching.parquet"))
    assert ("Not measured" in where) == (not patched)


def test_the_last_stream_is_not_called_the_place_that_decides():
    said = {
        name: first_page("overview", study=name)[0]["Where is it decided?"]
        for name in ("suite-why/sokoban-self", "organism-shift")
    }
    assert ["is the answer itself" in line for line in said.values()] == [True, False]


def test_of_the_suite_made_again_it_is_said_where():
    lines, _ = first_page("suite", suite="suite-why")
    folders = [each.parents[1] for each in (BUNDLED / "suite-why").glob("*/tables/patching.parquet")]
    assert len(folders) == 5
    assert "Not measured" not in lines["Where is it decided?"]
    for folder in folders:  # what is explained of a run is explained of the answers that stand beside it
        answers = pd.read_parquet(folder / "tables" / "generations.parquet")
        right = answers.assign(right=answers["outcome"] == "right")
        exact = right[
            right["control"].isin(["exact", ""]) | right["control"].isna() | (right["view"] == "no_context")
        ]
        by_view = exact.groupby(["arm", "seed", "example_id", "view"])["right"].first().unstack()
        harmed = by_view["no_context"] & ~by_view["with_context"]
        patched = pd.read_parquet(folder / "tables" / "patching_examples.parquet").query("group == 'harmed'")
        keys = set(map(tuple, patched[["arm", "seed", "example_id"]].drop_duplicates().to_numpy().tolist()))
        assert keys
        assert all(harmed[key] for key in keys)


def test_a_study_of_one_arm_compares_nothing_and_says_so(root):
    make_study(root / "alone", arms=("opd",), seeds=(0,), examples=10, layers=2)
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert not app.exception
    assert any("has one arm" in each.value for each in app.info)
    assert not any("Compare on the left" in each.value for each in app.info)
    assert "compared" not in "".join(
        str(each.proto.body) for each in app.get("html") if "ct-line" in str(each.proto.body)
    )


def test_without_a_key_nothing_is_called_harm(root):
    study = make_study(root / "keyless", seeds=(0,), examples=10, layers=2)
    study.replace("generations", study.table("generations").assign(outcome="ungraded"))
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    app.query_params["answers"] = "True"
    app = app.run()
    assert not app.exception
    assert not app.error
    assert "how often it changes an answer" in app.markdown[0].value
    assert "Look at Harm" not in app.markdown[0].value
    assert "What kind of wrong" not in [each.value for each in app.subheader]
    assert app.selectbox(key="prompts").options == ["all"]
    assert len(app.dataframe[-1].value) == 10
    labels = [each.proto.label for each in app.get("page_link")]
    assert not [label for label in labels if "Harmed" in label]
    assert [label for label in labels if label.startswith("Changed under")]


def test_the_answers_are_drawn_when_they_are_opened(root):
    make_study(root / "closed", seeds=(0,), examples=10, layers=2)
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert not app.dataframe
    assert not [each for each in app.selectbox if each.key == "prompts"]
    linked = AppTest.from_file(str(MAIN), default_timeout=60)
    linked.query_params["prompts"] = "all"
    assert len(linked.run().dataframe) == 1, "a link to some of the answers opens them"
