"""The report of a study: it says what the tables say, whatever is missing, and no text in it can act."""

import json
import re

import pandas as pd
import pytest
from journeys import commands, run
from synthetic import make_study

from cr_interp.errors import UserError
from cr_interp.report.flips import _words, choose_flips
from cr_interp.report.parts import Answer, Drawing, Numbers, Pairs, Points, Words
from cr_interp.report.sections import sections
from cr_interp.report.sending import MOST_BYTES, form_of, report_text, write_report
from cr_interp.report.study import markdown_study
from cr_interp.study.study import Study
from cr_interp.tables.example_pairs import paired

HOSTILE = "</script><script>window.hit=1</script><img src=x onerror='window.hit=1'> | `` ```` **b** ![i](http://x.invalid/i.png)"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return make_study(tmp_path_factory.mktemp("r") / "mine", examples=40)


@pytest.fixture(scope="module")
def made(study):
    return {section.anchor: section for section in sections(study)}


def of(section, kind):
    return [part for part in section.parts if isinstance(part, kind)]


@pytest.mark.slow
def test_the_verdict_counts_what_the_answers_say(study, made):
    rows = study.table("generations").query("control in ['none', 'exact']")
    right = rows.assign(right=rows["outcome"] == "right").pivot(
        index=["arm", "seed", "example_id"], columns="view", values="right"
    )
    told = of(made["verdict"], Points)[0].items
    for arm in ("opd", "nca"):
        mine = right.loc[arm].astype(bool)
        x, c = mine["no_context"], mine["with_context"]
        harm = ((x & ~c).groupby("seed").sum() / x.groupby("seed").sum()).mean()
        (sentence,) = [each for each in told if each.startswith(f"{arm}:")]
        assert f"of {int(x.sum())} answers that are right without the context, {100 * harm:.1f} % [" in sentence
        assert f"Accuracy {100 * x.mean():.1f} % [" in sentence
        assert sentence.endswith("3 seeds.")
    (answer,) = of(made["verdict"], Answer)
    assert answer.question == "Has nca less Harm than opd, without losing accuracy?"


def test_the_limits_are_those_of_the_study(study, made, tmp_path):
    limits = " ".join(of(made["verdict"], Points)[-1].items)
    assert "40 examples" in limits
    assert "3 seeds an arm" in limits
    assert "No analysis of mechanism" in limits
    assert "Not given" not in limits
    alone = make_study(tmp_path / "alone", arms=("base", "mine"), seeds=(0,), controls=("exact",), examples=20)
    parts = {section.anchor: section for section in sections(alone)}
    assert not of(parts["verdict"], Answer), "there is no arm to compare with"
    limits = " ".join(of(parts["verdict"], Points)[-1].items)
    assert "One seed" in limits
    assert "Not given: a context that is paraphrase, mismatched, irrelevant" in limits
    assert any("Only the exact context was given" in part.text for part in of(parts["controls"], Words))


def test_eight_flips_harmed_first_one_of_each_cluster_and_arms_take_turns(study, made):
    (shown,) = of(made["flips"], Pairs)
    assert len(shown.rows) == len(shown.titles) == 8
    cases = [row.case for row in shown.rows]
    assert cases == sorted(cases, key=["harmed", "rescued"].index)
    assert {row.arm for row in shown.rows} <= {"opd", "nca"}
    pairs = paired(study.table("generations"))
    pairs = pairs.assign(cluster=pairs["example_id"].str[-1])  # ten clusters of four
    chosen = choose_flips(pairs)
    of_opd = chosen[(chosen["arm"] == "opd") & (chosen["case"] == "harmed")]
    there = pairs[(pairs["arm"] == "opd") & (pairs["case"] == "harmed")]["cluster"].nunique()
    assert of_opd["cluster"].nunique() == min(len(of_opd), there)
    both = pairs.copy()
    both.loc[both.index[both["arm"] == "nca"][:3], "case"] = "harmed"
    assert list(choose_flips(both)["arm"].head(4)) == ["opd", "nca", "opd", "nca"]
    few = pairs[~((pairs["arm"] == "nca") & (pairs["case"] == "harmed"))]
    assert list(choose_flips(few)["arm"].head(2)) == ["opd", "opd"], "an arm without flips is passed over"


@pytest.mark.slow
def test_a_flip_stands_below_the_context_of_its_own(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=12)
    answers = study.table("generations")
    texts = [
        json.dumps({"messages": [{"role": "system", "content": f"hint <{name}>"}], "splice": "{prompt}"})
        for name in answers["example_id"]
    ]
    study.replace("generations", answers.assign(before=texts))
    found = {section.anchor: section for section in sections(study)}
    (shown,) = of(found["flips"], Pairs)
    assert list(shown.contexts) == [f"[system] hint <{row.example_id}>" for row in shown.rows]
    first = shown.rows[0].example_id
    assert f"hint &lt;{first}&gt;" in report_text(study)
    assert f"[system] hint <{first}>" in report_text(study, "md")


def test_every_figure_stands_beside_its_numbers(made):
    for anchor in ("metrics", "drift"):
        assert of(made[anchor], Drawing)
        assert of(made[anchor], Numbers)


@pytest.mark.slow
def test_patching_is_shown_with_its_controls(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=20)
    rows = [
        {"arm": "opd", "seed": 0, "step": 100, "group": "harmed", "direction": direction, "site": site, "layer": layer,
         "control": control, "readout": readout, "estimate": value, "low": value - 0.1, "high": value + 0.1,
         "before": 0.0, "n_examples": 12}
        for direction in ("repair", "break") for site in ("resid_post", "attn_out") for layer in (0, 1)
        for control, value in (("none", 0.5 + 0.3 * layer), ("random", 0.125), ("other", 0.25))
        for readout in ("share", "answer")
    ]  # fmt: skip
    study.put("patching", pd.DataFrame(rows))
    parts = {section.anchor: section for section in sections(study)}["mechanism"]
    (table,) = of(parts, Numbers)
    assert set(table.table["layer"]) == {"1"}
    assert set(table.table["share [95 %]"]) == {"0.80 [0.70, 0.90]"}
    assert set(table.table["other"]) == {"0.25"}
    assert set(table.table["random"]) in ({"0.12"}, {"0.13"})
    assert table.heads == 4
    assert of(parts, Drawing)
    limits = " ".join(of(sections(study)[0], Points)[-1].items)
    assert "No analysis of mechanism" not in limits


@pytest.mark.slow
def test_without_an_answer_key_it_says_what_needs_none(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), examples=20)
    answers = study.table("generations").assign(outcome="ungraded")
    study.replace("generations", answers)
    found = {section.anchor: section for section in sections(study)}
    rows = answers[(answers["arm"] == "opd") & answers["control"].isin(["none", "exact"])]
    wide = rows.pivot(index=["seed", "example_id"], columns="view", values="response")
    changed = (wide["no_context"] != wide["with_context"]).groupby("seed").mean().mean()
    told = of(found["verdict"], Points)
    assert f"opd: {100 * changed:.1f} % [" in told[0].items[0]
    assert "of the answers change" in told[0].items[0]
    assert any("No example has an answer key" in each for each in told[-1].items)
    assert not of(found["verdict"], Answer)
    assert {row.case for row in of(found["flips"], Pairs)[0].rows} == {"changed"}
    assert set(of(found["controls"], Numbers)[0].table["metric"]) == {"changed"}
    assert report_text(study).endswith("</html>\n")


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["generations", "drift"])
def test_a_missing_table_costs_its_own_section(missing, tmp_path):
    other = {"generations": "drift", "drift": "generations"}[missing]
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=12, tables=(other,))
    found = {section.anchor for section in sections(study)}
    assert "provenance" in found
    assert ("metrics" in found) == (other == "generations")
    assert ("drift" in found) == (other == "drift")
    assert report_text(study).endswith("</html>\n")


def test_an_arm_with_states_and_no_answers_yet_has_a_row(tmp_path):
    study = make_study(tmp_path / "s", seeds=(0, 1), examples=8)
    answers = study.table("generations")
    study.table_path("generations").unlink()
    study.put("generations", answers[answers["arm"] != "nca"])
    lines = markdown_study(study, "exact", "within").splitlines()
    (row,) = [line for line in lines if line.startswith("| `nca`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "–"
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", cells[-1])


def test_a_damaged_table_is_said_and_the_rest_stands(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=12)
    study.table_path("drift").write_bytes(b"PAR1 nonsense")
    found = {section.anchor: section for section in sections(study)}
    assert "not readable as Parquet" in found["drift"].parts[0].text
    assert of(found["flips"], Pairs)


def test_nothing_to_report_is_said(tmp_path):
    study = make_study(tmp_path / "s", tables=())
    with pytest.raises(UserError, match="neither answers nor drift"):
        sections(study)


@pytest.mark.slow
def test_hostile_texts_stay_texts(tmp_path):
    study = make_study(tmp_path / "s", examples=12, seeds=(0,), text=HOSTILE, arms=("opd", f"nca{HOSTILE[:8]}"))
    text = report_text(study)
    assert "<script>window.hit" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;window.hit=1" in text
    assert len(re.findall("<script", text)) == len(re.findall("</script>", text))
    for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text):
        assert set(json.loads(found)) == {"data", "layout"}
    markdown = report_text(study, "md")
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)!\[", outside)
    for block in re.split(r"\n\s*\n", outside):
        if block.startswith("|"):
            assert len({re.sub(r"\\.", "", line).count("|") for line in block.splitlines()}) == 1, block


@pytest.mark.slow
def test_the_file_is_small_asks_nobody_and_is_the_same_each_time(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=12)
    path = write_report(study, tmp_path / "a.html")
    assert path.stat().st_size < MOST_BYTES
    assert write_report(study, tmp_path / "b.html").read_bytes() == path.read_bytes()
    text = re.sub(r'id="plotly">[^<]*<', "", path.read_text("utf-8"))
    assert {*re.findall(r"<[^>]*\s(?:src|href)=\"?([^\">]*)", text)} == {
        f"#{each.anchor}" for each in sections(study)
    }
    assert "default-src 'none'" in text


def test_formats(study, tmp_path):
    assert form_of(tmp_path / "x.md") == "md"
    assert form_of(tmp_path / "x.html") == form_of(tmp_path / "x.HTM") == form_of(tmp_path / "x") == "html"
    assert form_of(tmp_path / "x.html", "md") == "md"
    with pytest.raises(UserError, match="prints well"):
        form_of(tmp_path / "x.pdf")
    with pytest.raises(UserError, match="docx"):
        form_of(tmp_path / "x.docx")
    with pytest.raises(UserError, match="is a folder"):
        write_report(study, tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "tables/drift.parquet", "runs/opd-s0/train.jsonl", "new.txt"])
def test_no_file_of_the_study_is_written_over(name, study):
    before = {file: file.read_bytes() for file in study.path.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="in the study's folder"):
        write_report(study, study.path / name, "md")
    assert before == {file: file.read_bytes() for file in study.path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["a\u202e.md", "a\n.md", "x" * 300 + ".md"])
def test_a_name_that_no_file_can_have(name, study, tmp_path):
    with pytest.raises(UserError, match=r"cannot be seen|bytes"):
        write_report(study, tmp_path / name)


def test_what_stood_before_a_prompt_may_be_anything():
    for before in ("[" * 100_000, "[]", "{}", '{"messages": 1}', None, 1.5):
        assert _words(before) == (before if isinstance(before, str) else "")


@pytest.mark.slow
def test_the_page_s_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_study(tmp_path / "studies" / "organism-shift", arms=("base", "opd"), seeds=(0,), examples=12)
    done = commands("how-to/send-a-report.md")
    assert len(done) == 2
    for command in done:
        assert "MB" in run(command).output
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "appendix.md").read_text("utf-8").startswith("# ")
