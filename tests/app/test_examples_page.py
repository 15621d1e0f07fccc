"""Examples without a browser: cards by prompt, filters, orders, pins, and what the address says of them."""

from pathlib import Path

import pandas as pd
import pytest
from opened import EXAMPLES, open_app, queries, said, table

from app.queries.token_table import Tokens
from cr_interp.study.rows import rows_of
from cr_interp.study.study import Study
from cr_interp.tables import example_pairs


def expected(good: Path, arm: str, *cases: str, seeds: tuple[int, ...] | None = None) -> pd.DataFrame:
    pairs = example_pairs.paired(rows_of(table(good, "generations"), seeds=seeds))
    return example_pairs.choose(pairs, arm, cases)


def test_examples_open_on_the_harmed_ones_of_the_arm_that_has_most(good):
    app = open_app(EXAMPLES)
    assert app.selectbox(key="case_arm").value == "opd"
    assert app.selectbox(key="cases").value == "harmed"
    harmed = expected(good, "opd", "harmed")
    assert f"{len(harmed)} pairs of opd: harmed" in said(app)
    assert harmed["example_id"].iloc[0] in said(app)


@pytest.mark.slow
def test_cases_errors_and_pages(good):
    app = open_app(EXAMPLES, case_arm="base", cases="rescued", page="2")
    rescued = expected(good, "base", "rescued")
    ids = sorted(set(rescued["example_id"]))
    assert len(ids) > 8
    assert f"{len(rescued)} pairs of base" in said(app)
    assert f"{len(ids)} prompts" in said(app)
    assert queries(app)["page"] == ["2"]
    shown = {each.value.split(" · ")[0].replace("\\", "") for each in app.markdown if " · **" in str(each.value)}
    assert shown == set(ids[8:16])  # a card a prompt, whatever its seeds
    app.button_group(key="error").set_value("truncated").run()
    kept = example_pairs.choose(rescued, "base", ["rescued"], ["truncated"])
    assert f"{len(kept)} pairs of base" in said(app)
    assert "page" not in queries(app)
    app.selectbox(key="cases").set_value("kept").run()
    assert "No such pair" in said(app)
    app.button_group(key="error").set_value("any")
    app.selectbox(key="cases").set_value("all").run()
    everything = expected(good, "base", *example_pairs.CASES)
    assert f"{len(everything)} pairs of base" in said(app)
    app.selectbox(key="only").set_value("test-0002").run()
    assert f"{(everything['example_id'] == 'test-0002').sum()} pairs of base" in said(app)


def test_a_card_has_all_arms_and_every_seed(good):
    app = open_app(EXAMPLES, cases="all", only="test-0004")
    cards = [str(each.proto.body) for each in app.main.get("html") if "ct-prompt" in str(each.proto.body)]
    assert len(cards) == 1
    answers = table(good, "generations")
    mine = answers[(answers["example_id"] == "test-0004") & answers["control"].isin(["none", "exact"])]
    for arm in ("base", "opd", "nca"):
        assert f">{arm}</th>" in cards[0]
    for seed in (0, 1, 2):
        assert cards[0].count(f"<i>seed {seed}</i>") == 3  # once an arm
    assert all(f"{example_pairs.MARKS[outcome]} {outcome}" in cards[0] for outcome in set(mine["outcome"]))


def test_search_and_where_two_arms_part(good):
    app = open_app(EXAMPLES, cases="baseline only")
    pairs = example_pairs.paired(table(good, "generations"))
    opd, nca = (pairs[pairs["arm"] == arm].set_index(["example_id", "seed"])["case"] for arm in ("opd", "nca"))
    parted = [key for key in opd.index if opd[key] == "harmed" and nca[key] in ("kept", "rescued")]
    assert f"{len(parted)} pairs of opd: opd harmed and nca right" in said(app)
    prompt = pairs.loc[pairs["example_id"] == parted[0][0], "prompt"].iloc[0]
    app.text_input(key="search").set_value(prompt.upper()).run()
    found = [key for key in parted if pairs.loc[pairs["example_id"] == key[0], "prompt"].iloc[0] == prompt]
    assert f"{len(found)} pairs of opd" in said(app)
    assert queries(app)["search"] == [prompt.upper()]
    app = open_app(EXAMPLES, cases="all", search="nowhere to be found")
    assert app.text_input(key="search").value == "nowhere to be found"
    assert "No such pair" in said(app)


@pytest.mark.slow
def test_the_order_and_the_pins_are_in_the_address(good):
    app = open_app(EXAMPLES, cases="all", case_arm="opd", sort="length")
    pairs = example_pairs.paired(table(good, "generations"))
    mine = pairs[pairs["arm"] == "opd"]
    change = (mine["n_tokens_xc"] - mine["n_tokens_x"]).abs().groupby(mine["example_id"]).max()
    cards = [each.value.split(" · ")[0].replace("\\", "") for each in app.markdown if " · **" in str(each.value)]
    assert change[cards[0]] == change.max()
    assert list(change[cards]) == sorted(change[cards], reverse=True)
    last = sorted(change.index)[-1]
    app = open_app(EXAMPLES, cases="all", case_arm="opd", pins=last)
    cards = [each.value.split(" · ")[0].replace("\\", "") for each in app.markdown if " · **" in str(each.value)]
    assert cards[0] == last
    app.button(key=f"pin-{cards[1]}").click().run()
    assert queries(app)["pins"] == sorted([last, cards[1]])
    app.button(key=f"pin-{last}").click().run()
    assert queries(app)["pins"] == [cards[1]]


@pytest.mark.parametrize(
    ("order", "layer", "measure", "statistic"), [("drift", 3, "cosine", "max"), ("kl", -2, "kl", "mean")]
)
def test_the_order_by_movement_is_that_of_the_single_tokens(good, order, layer, measure, statistic):
    app = open_app(EXAMPLES, cases="all", case_arm="opd", sort=order)
    assert not app.exception
    ranked = Tokens(Study.open(good)).ranked("opd", 0, layer, measure, statistic)
    cards = [each.value.split(" · ")[0].replace("\\", "") for each in app.markdown if " · **" in str(each.value)]
    assert cards == list(ranked["example_id"])[: len(cards)]


@pytest.mark.slow
def test_examples_of_one_seed_and_another_control(good):
    app = open_app(EXAMPLES, case_arm="opd", cases="harmed")
    app.multiselect(key="seeds").set_value([1]).run()
    assert f"{len(expected(good, 'opd', 'harmed', seeds=(1,)))} pairs of opd" in said(app)
    app.selectbox(key="control").set_value("irrelevant").run()
    pairs = example_pairs.paired(rows_of(table(good, "generations"), seeds=(1,)), "irrelevant")
    assert f"{len(example_pairs.choose(pairs, 'opd', ['harmed']))} pairs of opd" in said(app)
