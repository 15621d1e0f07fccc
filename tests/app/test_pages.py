"""Maps and Tokens without a browser: what they say, what their address means, and studies that lack a table.

AppTest does not know plotly charts; ``test_browser_pages.py`` looks at and clicks those.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import shown_tables
from opened import EXAMPLES, MAPS, PAGES, TOKENS, open_app, queries, said, table
from synthetic import make_study

from app.queries import token_table
from app.queries.token_table import Tokens
from cr_interp.study import searching as studies
from cr_interp.tables import example_pairs, token_view

TABLE = {MAPS: "cka_map", TOKENS: "token_drift", EXAMPLES: "generations"}
ALL = ("generations", "drift", "training", "cka_map", "token_drift")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_and_explains_itself(good, page):
    app = open_app(page)
    assert not app.exception
    assert not app.error
    intro = app.markdown[0].value
    assert "**" in intro
    assert 1 <= intro.count(". ") + intro.count(": ") <= 4
    assert queries(app)["study"] == ["organism-shift"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "view"),
    [
        (name, "")
        for name in ("overview", "layers", "mechanism", "maps", "tokens", "examples", "training", "try_it")
    ]
    + [("suite", view) for view in ("Harm", "Regimes", "Every setting", "Training", "Drift by layer")],
)
def test_every_choice_and_every_section_has_a_tooltip(root, made, name, view):
    shutil.copytree(made, root / "mine" / "rules-llama")
    app = open_app(f"screens/{name}.py", layer_x="1", layer_y="1", **({"view": view} if view else {}))
    assert not app.exception
    kinds = (
        "selectbox", "multiselect", "toggle", "button_group", "select_slider", "number_input", "text_area", "subheader",
    )  # fmt: skip
    silent = [
        f"{kind} {getattr(element, 'label', element.value)}"
        for kind in kinds for element in app.get(kind)
        if not element.proto.help
    ]  # fmt: skip
    assert silent == []
    assert len(app.get("selectbox")) >= (4 if name == "suite" and view == "Drift by layer" else 1)


@pytest.mark.parametrize("page", PAGES)
def test_an_old_study_says_what_it_lacks_and_what_to_do(good, page):
    (good / "tables" / f"{TABLE[page]}.parquet").unlink()
    app = open_app(page)
    assert not app.exception
    assert not app.error
    assert "This study has no" in said(app)
    command = "evaluate" if page == EXAMPLES else "capture"
    assert app.code[0].value == f"cr-interp {command} organism-shift"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("damage", ["noise", "columns", "types", "empty"])
def test_a_damaged_table_costs_its_page_and_no_other(good, page, damage):
    file = good / "tables" / f"{TABLE[page]}.parquet"
    frame = pd.read_parquet(file)
    if damage == "noise":
        file.write_bytes(b"PAR1 this is no parquet file PAR1")
    elif damage == "columns":
        frame.drop(columns="arm").to_parquet(file)
    elif damage == "types":
        column = {"cka_map": "cka", "token_drift": "cosine", "generations": "outcome"}[TABLE[page]]
        frame.assign(**{column: [{"a": 1}] * len(frame)}).to_parquet(file)
    else:
        frame.iloc[:0].to_parquet(file)
    app = open_app(page)
    assert not app.exception
    assert app.error or app.info
    for other in PAGES:
        if other != page and page != EXAMPLES:
            app.switch_page(other).run()
            assert not app.exception
            assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_a_study_without_the_other_tables(root, page):
    make_study(root / "bare", arms=("left", "right"), seeds=(0,), examples=10, tables=ALL)
    for file in (root / "bare" / "tables").glob("*.parquet"):
        if file.stem != TABLE[page]:
            file.unlink()
    app = open_app(page)
    assert not app.exception
    # Arms come from the answers or from the manifest, which names both.
    assert not app.error, said(app)


@pytest.mark.slow
def test_neither_arms_nor_seeds(good):
    for page in PAGES:
        app = open_app(page)
        app.multiselect(key="seeds").set_value([]).run()
        assert "Choose at least one seed" in said(app)
        app.multiselect(key="seeds").set_value([0]).run()
        assert not app.exception
        assert not app.error


# -- maps ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_maps_from_the_address(good):
    app = open_app(MAPS, map="base", colour="distance", layer_x="1", layer_y="emb")
    assert not app.exception
    assert app.button_group(key="map").value == "base"
    assert app.button_group(key="colour").value == "distance"
    assert app.selectbox(key="layer_x").value == "1"
    assert app.selectbox(key="layer_y").value == "emb"
    assert "The chosen cell's row and column" in said(app)
    app.button_group(key="map").set_value("no_context").run()
    assert queries(app)["map"] == ["no_context"]
    assert queries(app)["layer_x"] == ["1"]
    app.button_group(key="map").set_value("views").run()
    assert "map" not in queries(app)


def test_nonsense_in_the_address_is_ignored(good):
    app = open_app(MAPS, map="../../etc", layer_x="99", layer_y="<b>")
    assert not app.exception
    assert not app.error
    assert app.button_group(key="map").value == "views"
    assert set(queries(app)) == {"study"}
    assert "etc" not in said(app)


@pytest.mark.slow
def test_without_a_cell_the_page_says_how_to_get_one(good):
    app = open_app(MAPS)
    assert "Click a cell of a map" in said(app)
    app.selectbox(key="layer_x").set_value("2")
    app.selectbox(key="layer_y").set_value("3").run()
    assert "Click a cell of a map" not in said(app)
    assert "Drift at these layers" in said(app)
    app.selectbox(key="layer_x").set_value(None).run()
    assert "Click a cell of a map" in said(app)
    assert "layer_x" not in queries(app)


def test_a_baseline_without_such_a_map(good):
    app = open_app(MAPS, map="base")
    app.selectbox(key="baseline").set_value("base").run()
    assert not app.exception
    assert not app.error
    assert "have no map of this kind to compare" in said(app)


@pytest.mark.slow
def test_what_is_measured_under_the_exact_context_only_says_so_and_offers_no_other(good):
    for page in (MAPS, TOKENS):
        app = open_app(page, control="mismatched")
        assert "under the exact context" in said(app)
        assert "control" not in {each.key for each in app.sidebar.get("selectbox")}


@pytest.mark.slow
def test_tokens_have_the_measure_of_the_left_where_there_is_one(good):
    app = open_app("screens/layers.py")
    for measure, expected in (("relative_l2", "relative_l2"), ("cka", "cosine")):
        app.switch_page("screens/layers.py").run()
        app.selectbox(key="measure").set_value(measure).run()
        app.switch_page(TOKENS).run()
        assert app.button_group(key="token_measure").value == expected


# -- tokens --------------------------------------------------------------------------------------------------


def harmed(good: Path, arm: str, seed: int) -> set[str]:
    pairs = example_pairs.paired(table(good, "generations"))
    mine = pairs[(pairs["arm"] == arm) & (pairs["seed"] == seed) & (pairs["case"] == "harmed")]
    return set(mine["example_id"])


@pytest.mark.slow
def test_the_first_example_is_the_harmed_one_that_drifts_most(good):
    app = open_app(TOKENS, by_arm="opd", layer="2")
    drift = table(good, "token_drift")
    mine = drift[
        (drift["arm"] == "opd") & (drift["seed"] == 0) & (drift["site"] == "resid_post") & (drift["layer"] == 2)
    ]
    order = token_view.rank(mine, "cosine", "max")
    first = order["example_id"].isin(harmed(good, "opd", 0))
    assert first.any()
    order = pd.concat([order[first], order[~first]], ignore_index=True)
    assert f"the {first.sum()} harmed ones first" in said(app)
    assert app.selectbox(key="example").value == order.loc[0, "example_id"]
    assert f"Example 1 of {len(order)}" in said(app)
    app.button(key="to-Next").click().run()
    assert app.selectbox(key="example").value == order.loc[1, "example_id"]
    assert queries(app)["example"] == [order.loc[1, "example_id"]]
    app.button(key="to-Previous").click().run()
    assert app.selectbox(key="example").value == order.loc[0, "example_id"]
    assert app.button(key="to-Previous").disabled
    last = order["example_id"].iloc[-1]
    app.selectbox(key="example").set_value(last).run()
    assert app.button(key="to-Next").disabled
    app.button(key="to-First").click().run()
    assert app.selectbox(key="example").value == order.loc[0, "example_id"]


def test_tokens_open_at_the_layer_where_the_two_arms_differ_most(good):
    app = open_app(TOKENS)
    drift = table(good, "drift")
    rows = drift[(drift["measure"] == "cosine") & (drift["control"] == "exact") & (drift["site"] == "resid_post")]
    mean = rows.groupby(["layer", "arm"])["estimate"].mean().unstack()
    assert app.select_slider(key="layer").value == str((mean["nca"] - mean["opd"]).abs().idxmax())


def test_tokens_are_sorted_by_the_compared_arm_that_is_harmed_more(good):
    assert open_app(TOKENS).selectbox(key="by_arm").value == "opd"
    assert open_app(TOKENS, baseline="base").selectbox(key="by_arm").value == "nca"


def test_prompt_and_answers_come_before_the_tokens(good):
    headings = [each.value for each in open_app(TOKENS).subheader]
    assert headings[:3] == ["Prompt and responses", "Text, coloured by drift", "Token × layer"]


@pytest.mark.slow
def test_what_was_clicked_stands_beside_the_figure(good):
    app = open_app(TOKENS, example="test-0003", layer="2", column="1")
    shown = shown_tables.shown(app)[1]
    drift = table(good, "token_drift")
    mine = drift[
        (drift["example_id"] == "test-0003") & (drift["seed"] == 0) & (drift["site"] == "resid_post") & (drift["layer"] == 2)
        & (drift["position"] == 1)
    ].set_index("arm")["cosine"]  # fmt: skip
    assert dict(zip(shown["arm"], shown["1 − cosine"].astype(float), strict=True)) == pytest.approx(
        {a: 1 - mine[a] for a in ("base", "opd", "nca")}
    )
    app = open_app(MAPS, layer_x="1", layer_y="2")
    cells = table(good, "cka_map")
    there = (
        cells[(cells["map"] == "views") & (cells["layer_x"] == 1) & (cells["layer_y"] == 2)]
        .groupby("arm")["cka"]
        .mean()
    )
    shown = shown_tables.shown(app)[0].set_index("arm")["CKA"].astype(float)
    assert shown.to_dict() == pytest.approx(there.to_dict())
    app = open_app("screens/layers.py", layer="1")
    assert list(shown_tables.shown(app)[0]["arm"]) == ["base", "opd", "nca"]


@pytest.mark.slow
def test_the_colour_is_the_one_that_tells_cells_apart(good):
    study = studies.Study.open(good)
    cells = study.table("cka_map")
    study.put("cka_map", cells.assign(cka=0.99 + 0.001 * cells["layer_x"]))
    assert open_app(MAPS).button_group(key="colour").value == "distance"
    study.put("cka_map", cells.assign(cka=0.1 + 0.1 * cells["layer_x"]))
    assert open_app(MAPS).button_group(key="colour").value == "value"
    assert open_app(MAPS, colour="distance").button_group(key="colour").value == "distance"


def test_the_order_follows_the_statistic_and_the_example_stays(good):
    app = open_app(TOKENS, by_arm="opd", layer="2", example="test-0003")
    before = said(app)
    app.button_group(key="statistic").set_value("mean").run()
    assert app.selectbox(key="example").value == "test-0003"
    assert "mean of tokens of opd" in said(app)
    assert said(app) != before


@pytest.mark.slow
def test_every_measure(good):
    app = open_app(TOKENS)
    for measure in token_view.MOVES:
        app.button_group(key="token_measure").set_value(measure).run()
        assert not app.exception
        assert not app.error
    assert "output KL" in said(app) or "The output has no layers" in said(app)
    assert not [slider for slider in app.select_slider if slider.key == "layer"]


def test_tokens_show_the_outcomes_of_the_same_example(good):
    app = open_app(TOKENS, example="test-0005")
    generations = table(good, "generations")
    prompt = generations.loc[generations["example_id"] == "test-0005", "prompt"].iloc[0]
    assert prompt in [element.value for element in app.code]
    shown = shown_tables.shown(app)[0]
    assert list(shown["arm"]) == ["base", "opd", "nca"]
    first = generations[
        (generations["example_id"] == "test-0005") & (generations["arm"] == "opd") & (generations["seed"] == 0)
    ].set_index("control")
    mark = example_pairs.MARKS[first.loc["exact", "outcome"]]
    assert shown.set_index("arm").loc["opd", "with context"] == f"{mark} {first.loc['exact', 'response']}"


def test_a_large_table_is_read_in_parts_with_the_same_answers(good, monkeypatch):
    whole = Tokens(studies.Study.open(good))
    answers = (whole.runs(), whole.layers(), whole.scale_end("kl"), whole.ranked("nca", 1, 2, "cosine", "max"))
    example = whole.example("test-0001")
    for name in ("source", "runs", "layers", "scale", "rank", "example"):
        getattr(token_table, f"_token_{name}").clear()
    monkeypatch.setattr(token_table, "_IN_MEMORY", 10)
    parts = Tokens(studies.Study.open(good))
    assert (parts.runs(), parts.layers(), parts.scale_end("kl")) == answers[:3]
    pd.testing.assert_frame_equal(parts.ranked("nca", 1, 2, "cosine", "max"), answers[3])
    pd.testing.assert_frame_equal(parts.example("test-0001"), example)
    full = table(good, "token_drift")
    pd.testing.assert_frame_equal(
        example, full[full["example_id"] == "test-0001"].reset_index(drop=True), check_dtype=False
    )
