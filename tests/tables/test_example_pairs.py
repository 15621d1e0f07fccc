"""Pairs: the 2×2 agrees with the metrics, differences give the texts back, and texts stay text."""

import doctest
import re

import numpy as np
import pandas as pd
import pytest
from synthetic import make_study

from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import pair_html
from cr_interp.tables import behaviour, example_pairs


def answers(*cells: tuple[str, int, str, str, str], control: str = "exact") -> pd.DataFrame:
    """A pair per (arm, seed, example, outcome without, outcome with)."""
    rows = []
    for arm, seed, example, *outcomes in cells:
        for view, ctrl, outcome in zip(("no_context", "with_context"), ("none", control), outcomes, strict=True):
            rows.append(
                (arm, seed, 10, "test", example, view, ctrl, 0, f"ask {example}", f"{outcome} {view}", 3, outcome)
            )
    columns = [
        "arm",
        "seed",
        "step",
        "split",
        "example_id",
        "view",
        "control",
        "sample",
        "prompt",
        "response",
        "n_tokens",
        "outcome",
    ]
    return pd.DataFrame(rows, columns=columns)


FOUR = answers(
    ("opd", 0, "a", "right", "right"),
    ("opd", 0, "b", "right", "wrong"),
    ("opd", 0, "c", "truncated", "right"),
    ("opd", 0, "d", "unparsable", "truncated"),
    ("base", 0, "a", "wrong", "right"),
)


def test_each_pair_has_its_case():
    pairs = example_pairs.paired(FOUR)
    assert list(pairs["arm"]) == ["base", "opd", "opd", "opd", "opd"]
    assert dict(zip(pairs["example_id"][1:], pairs["case"][1:], strict=True)) == {
        "a": "kept",
        "b": "harmed",
        "c": "rescued",
        "d": "both wrong",
    }
    row = pairs[pairs["example_id"] == "b"].iloc[0]
    assert (row["response_x"], row["response_xc"], row["prompt"]) == (
        "right no_context",
        "wrong with_context",
        "ask b",
    )


def test_other_controls_splits_steps_and_lonely_answers_are_left_out():
    other = answers(("opd", 0, "a", "right", "wrong"), control="mismatched")
    table = pd.concat([FOUR, other[other["view"] == "with_context"], FOUR.assign(step=5, outcome="wrong")])
    table = pd.concat([table, FOUR.assign(split="train")])
    alone = FOUR[FOUR["view"] == "no_context"].iloc[:1].assign(example_id="z")
    table = pd.concat([table, alone], ignore_index=True)
    pd.testing.assert_frame_equal(example_pairs.paired(table), example_pairs.paired(FOUR))
    mismatched = example_pairs.paired(table, "mismatched")
    assert list(mismatched["case"]) == ["harmed"]


def test_answers_twice_are_refused():
    with pytest.raises(UserError, match="twice"):
        example_pairs.paired(pd.concat([FOUR, FOUR]))


def test_an_unknown_split_is_named():
    with pytest.raises(UserError, match="split 'nonesuch'"):
        example_pairs.paired(FOUR, split="nonesuch")


def test_counts_by_hand():
    counts = example_pairs.case_counts(example_pairs.paired(FOUR)).set_index(["arm", "case"])
    assert list(counts.loc["opd", "count"]) == [1, 1, 1, 1]
    assert list(counts.loc["opd", "share"]) == [0.25] * 4
    assert counts.loc[("base", "rescued"), "share"] == 1.0
    assert (counts["n"] == [1, 1, 1, 1, 4, 4, 4, 4]).all()


def test_the_table_is_the_metrics_taken_apart(tmp_path):
    generations = make_study(tmp_path / "s", examples=40, tables=("generations",)).table("generations")
    pairs = example_pairs.paired(generations)
    counts = example_pairs.case_counts(pairs, interval="within").set_index(["arm", "case"])
    metrics = behaviour.metrics(generations, interval="within")
    metrics = metrics[metrics["seed"].isna()].set_index(["arm", "metric"])
    for arm in ("base", "opd", "nca"):
        count = counts.loc[arm, "count"]
        kept, both = counts.loc[(arm, "kept")], metrics.loc[(arm, "both_correct")]
        assert list(kept[["share", "low", "high"]]) == pytest.approx(list(both[["estimate", "low", "high"]]))
        harm = count["harmed"] / (count["kept"] + count["harmed"])
        assert harm == pytest.approx(metrics.loc[(arm, "harm"), "estimate"])
        rescue = count["rescued"] / (count["rescued"] + count["both wrong"])
        assert rescue == pytest.approx(metrics.loc[(arm, "rescue"), "estimate"])
    across = example_pairs.case_counts(pairs).set_index(["arm", "case"]).xs("kept", level="case")
    metrics = behaviour.metrics(generations).query("seed.isna() and metric == 'both_correct'").set_index("arm")
    for name in ("low", "high"):
        assert across[name].to_dict() == pytest.approx(metrics[name].to_dict())
    assert set(across["interval"]) == {"across"}


def test_cases_of_a_metric_are_its_numerator():
    pairs = example_pairs.paired(FOUR)
    assert list(example_pairs.choose(pairs, "opd", ("harmed",))["example_id"]) == ["b"]
    assert list(example_pairs.choose(pairs, "opd", ("kept", "harmed"))["example_id"]) == ["a", "b"]
    assert list(example_pairs.choose(pairs, "opd", ("kept", "rescued"))["example_id"]) == ["a", "c"]


def test_kinds_of_error_are_looked_for_in_both_views():
    pairs, every = example_pairs.paired(FOUR), list(example_pairs.CASES)
    for kind, expected in (("wrong", ["b"]), ("truncated", ["c", "d"]), ("unparsable", ["d"])):
        assert list(example_pairs.choose(pairs, "opd", every, [kind])["example_id"]) == expected
    assert example_pairs.choose(pairs, "opd", ["kept"], ["wrong"]).empty


def test_the_figure_has_right_first_and_frames_what_is_chosen():
    counts = example_pairs.case_counts(example_pairs.paired(FOUR))
    figure = figures.four_cells(counts, chosen=("opd", ("harmed",)))
    heats = {
        trace.meta["panel"]: np.asarray(trace.z, dtype=float) for trace in figure.data if trace.type == "heatmap"
    }
    assert heats["base"].tolist() == [[0, 0], [1, 0]]  # wrong without (row 1), right with (column 0)
    assert heats["opd"].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    frames = {(shape.x0, shape.y0, shape.xref) for shape in figure.layout.shapes}
    assert frames == {(0.53, -0.47, "x2")}  # wrong with, right without, in the second panel
    assert list(figure.layout.yaxis.range) == [1.5, -0.5]
    assert "n = 1–4 pairs" in figures.caption(figure)
    assert "harmed" not in figures.alt_text(figure)
    assert "opd: right in both 1, right without, wrong with 1" in figures.alt_text(figure)


@pytest.mark.parametrize(
    ("x", "y", "case"), [(0, 0, "kept"), (1, 0, "harmed"), (0, 1, "rescued"), (1, 1, "both wrong")]
)
def test_a_cell_is_its_case(x, y, case):
    assert example_pairs.case_at(x, y) == case


def test_no_pairs_is_a_figure_that_says_so():
    counts = example_pairs.case_counts(example_pairs.paired(FOUR).iloc[:0])
    assert "No pairs" in figures.four_cells(counts).layout.annotations[0].text


# -- text ----------------------------------------------------------------------------------------------------


def joined(parts: list[tuple[str, bool]]) -> str:
    return "".join(text for text, _ in parts)


@pytest.mark.parametrize(
    ("one", "other", "only_one", "only_other"),
    [
        ("abcd", "abdd", ["c"], ["d"]),
        ("it is good", "it is bad", ["good"], ["bad"]),
        ("vehicle", "plane", ["vehicle"], ["plane"]),
        ("the same", "the same", [], []),
        ("", "all new", [], ["all new"]),
        ("one two three", "one three", ["two "], []),
        ("a, b", "a; b", [","], [";"]),
    ],
)
def test_differences(one, other, only_one, only_other):
    left, right = pair_html.differences(one, other)
    assert (joined(left), joined(right)) == (one, other)
    assert [text for text, common in left if not common] == only_one
    assert [text for text, common in right if not common] == only_other
    assert joined([part for part in left if part[1]]) == joined([part for part in right if part[1]])


def test_long_texts_are_compared_in_time():
    one = " ".join(["left right"] * 3000)
    left, right = pair_html.differences(one, one.replace("left", "up", 1))
    assert [text for text, common in left if not common] == ["left"]
    assert joined(right).startswith("up right")


def pair(**fields: object):
    table = example_pairs.paired(FOUR).assign(**fields)
    return next(table[table["example_id"] == "b"].itertuples())


def test_html_shows_both_texts_and_marks_what_differs():
    html = pair_html.pair_html(pair(response_x="abcd", response_xc="abdd", answer="abcd"))
    assert "<pre>ab<mark>c</mark>d</pre>" in html
    assert "<pre>ab<mark>d</mark>d</pre>" in html
    assert "✓ right, 3 tokens" in html
    assert "✗ wrong, 3 tokens" in html
    assert "<small>expected</small><pre>abcd</pre>" in html


def test_html_of_an_empty_and_of_an_endless_text():
    html = pair_html.pair_html(pair(response_x="", response_xc="x" * 50_000))
    assert "(empty)" in html
    assert "44000 more characters" in html
    assert len(html) < 12_000


@pytest.mark.parametrize(
    "hostile", ["<script>window.hit=1</script>", "</pre><img src=x onerror=alert(1)>", "\"'&<b>"]
)
def test_hostile_texts_stay_text(hostile):
    row = pair(
        prompt=hostile,
        response_x=hostile + "1",
        response_xc=hostile + "2",
        answer=hostile,
        outcome_x=hostile,
        n_tokens_x=hostile,
    )
    html = pair_html.pair_html(row).replace(pair_html.STYLE, "")
    assert set(re.findall(r"</?([a-zA-Z]+)", html)) == {"div", "small", "pre", "b", "mark"}
    assert "<script" not in html
    assert "onerror" not in re.sub(r">[^<]*<", "", html)


def test_figures_escape_names():
    name = "<b>opd<script>"
    figure = figures.four_cells(
        example_pairs.case_counts(example_pairs.paired(FOUR.assign(arm=FOUR["arm"].replace("opd", name))))
    )
    labels = [trace.hovertemplate for trace in figure.data if trace.hovertemplate]
    labels += [annotation.text for annotation in figure.layout.annotations]
    assert any("&lt;script" in label for label in labels)
    assert not any("<script" in label for label in labels)


def test_examples_in_the_documentation():
    assert doctest.testmod(example_pairs).failed == 0


def test_two_labels_that_end_alike_differ_as_a_whole():
    assert pair_html.differences("positive", "negative") == ([("positive", False)], [("negative", False)])


def test_a_contrast_is_of_the_runs_that_meet():
    """Seed by seed between trained arms, one of which may have been run once; the untrained base meets every seed."""
    table = answers(
        *(("opd", seed, "a", "right", "wrong") for seed in (0, 1)),
        ("nca", 0, "a", "right", "right"),
        ("base", 0, "a", "wrong", "right"),
        ("late", 1, "a", "right", "right"),
    )
    pairs = example_pairs.paired(table)
    found = {
        arm: list(example_pairs.contrast(pairs, "opd", arm)["seed"]) for arm in ("nca", "base", "late", "none")
    }
    assert found == {"nca": [0], "base": [0, 1], "late": [1], "none": []}
