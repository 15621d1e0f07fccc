"""Overview: did the anchored arm reduce Harm without losing accuracy, and what exactly was compared?"""

from typing import Literal

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import below, download_table, guard, lacks, show_figure
from app.queries import summary
from app.queries.state import Selection, current
from app.recipes import study as recipes
from app.shorter import common_ends, short_ids, without_ends
from app.words import GLOSSARY, measure_name, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.tables.drift import extreme_word
from cr_interp.tables.example_pairs import MARKS_SAY
from cr_interp.tables.interval_words import said_intervals
from cr_interp.vocabulary import COMPOSITION, RATIOS

BADGES: dict[summary.Verdict, tuple[str, Literal["green", "orange", "red", "gray"], str]] = {
    "yes": ("Yes", "green", ":material/check_circle:"),
    "partly": ("Partly", "orange", ":material/contrast:"),
    "no": ("No", "red", ":material/cancel:"),
    "open": ("Not shown", "gray", ":material/help:"),
}
#: Of the answers: whatever became of them.
ALL = "all"
#: metric → the list of the Examples page that has its examples
CASES = {
    "harm": "harmed", "rescue": "rescued", "both_correct": "kept", "acc_x": "right without", "acc_xc": "right with",
}  # fmt: skip


def headline(chosen: Selection) -> None:
    arm, baseline = chosen.arm, chosen.baseline
    if arm == baseline:
        st.info("Choose two different arms under Compare on the left.", icon=":material/compare_arrows:")
        return
    both = chosen.metrics_of(arm, baseline)
    differences = chosen.differences()
    answer = summary.headline(both, differences, arm, baseline)
    with st.container(border=True):
        st.subheader(
            f"Did {plain(arm)} reduce Harm without losing accuracy?", help=GLOSSARY["harm"], anchor="headline"
        )
        word, shade, icon = BADGES[answer.verdict]
        st.badge(word, color=shade, icon=icon)
        st.markdown(f"**{plain(answer.sentence)}**\n" + "".join(f"\n- {plain(line)}" for line in answer.numbers))
        st.caption(
            plain(
                f"Differences are {arm} minus {baseline} in percentage points, paired over {paired(differences)}, "
                f"with 95 % intervals: {said_intervals(differences[differences['seed'].isna()])}; context: {chosen.control}. "
                "No accuracy lost means that the whole interval lies above −2 points."
            )
        )
        cards(chosen, both, differences)
        columns = st.columns(4)
        for column, name in zip(columns, (arm, baseline), strict=False):
            column.page_link(
                "screens/examples.py", label=f"Harmed under {plain(name)}", icon=":material/compare:",
                query_params=chosen.address(case_arm=name, cases="harmed"), help=GLOSSARY["harm"],
            )  # fmt: skip
        columns[2].page_link(
            "screens/training.py", label="When did it emerge?", icon=":material/trending_up:",
            query_params=chosen.address(),
        )  # fmt: skip


def paired(differences: pd.DataFrame) -> str:
    """What a difference is paired over: with one seed there is nothing to pair but examples."""
    return "examples and seeds" if differences["seed"].nunique() > 1 else "examples"


def cards(chosen: Selection, metrics: pd.DataFrame, differences: pd.DataFrame) -> None:
    against = f"vs {plain(chosen.baseline)}"
    columns = st.columns(4)
    for column, metric in zip(columns, ("harm", "acc_x", "acc_xc"), strict=False):
        moved = summary.change(differences, metric)
        column.metric(
            plain(f"{summary.SHORT[metric]} of {chosen.arm}"),
            summary.percent(summary.value(metrics, chosen.arm, metric)),
            delta=delta(moved),
            delta_description=against,
            delta_color="inverse" if metric == "harm" else "normal",
            help=GLOSSARY[metric],
        )
    try:
        facts = {fact["arm"]: fact for fact in chosen.extremes().to_dict("records")}
    except UserError:
        return  # a study without captured states; the Layers page says so
    if chosen.arm in facts:
        mine, other = facts[chosen.arm], facts.get(chosen.baseline)
        columns[3].metric(
            plain(extreme_of(chosen)),
            f"{mine['estimate']:.3f}",
            delta=f"{mine['estimate'] - other['estimate']:+.3f}" if other else None,
            delta_description=against if other else None,
            delta_color=drift_colour(chosen.measure),
            help=f"{GLOSSARY['lowest']} Here at layer {mine['layer']}.",
        )


def drift_colour(measure: str) -> Literal["normal", "inverse", "off"]:
    """Whether more of a measure is good; of those that say what a movement is like it is neither."""
    if measure in (*RATIOS, *COMPOSITION):
        return "off"
    return "inverse" if measure in figures.MOVEMENTS else "normal"


def extreme_of(chosen: Selection) -> str:
    """``Lowest cosine of nca``, ``Norm ratio farthest from 1 of nca``."""
    name, word = measure_name(chosen.measure), extreme_word(chosen.measure)
    words = f"{name} {word}" if " " in word else f"{word} {name}"
    return f"{words[:1].upper()}{words[1:]} of {chosen.arm}"


def delta(moved: float) -> str | int | None:
    """What a card shows below its number; the number 0 makes st.metric draw it grey and without an arrow."""
    if pd.isna(moved):
        return None
    return 0 if abs(moved) < 5e-4 else summary.points(moved, unit=" pts")


def metrics(chosen: Selection) -> None:
    st.subheader("Metrics, side by side", help=GLOSSARY["interval"], anchor="metrics")
    table = chosen.metrics()
    show_figure(
        lambda: figures.metric_forest(table, control=chosen.control), "metrics", table, chosen.image,
        on_click=lambda metric, _, y: examples(metric, figures.arm_order(table["arm"])[round(y)]), wide=640,
        code=recipes.metrics(chosen), files=chosen.files,
    )  # fmt: skip
    asked = st.session_state.pop("examples", None)
    if asked is not None:
        arm, cases = asked
        st.switch_page("screens/examples.py", query_params=chosen.address(case_arm=arm, cases=cases))
    st.caption("Click a marker to see the responses behind it.")
    regimes = chosen.regimes().set_index("arm")["regime"]
    shown = chosen.once("metric_table", lambda: summary.metric_table(table))
    shown = shown.assign(regime=shown["arm"].map(regimes).fillna("–").astype(str))
    st.caption(plain(f"95 % intervals: {said_intervals(table[table['seed'].isna()])}."))
    st.dataframe(
        shown, hide_index=True, key="metric-table",
        column_config={
            "arm": st.column_config.TextColumn(help=GLOSSARY["arm"], pinned=True),
            "regime": st.column_config.TextColumn(help=GLOSSARY["regime"]),
            **{
                f"{short} (%)": st.column_config.TextColumn(help=GLOSSARY[name])
                for name, short in summary.SHORT.items()
            },
        },
    )  # fmt: skip


def examples(metric: str, arm: str) -> None:
    """A marker of the forest was clicked: its arm and the pairs that its metric counts are wanted."""
    st.session_state["examples"] = (arm, CASES.get(metric, "all"))


def outcomes(chosen: Selection) -> None:
    st.subheader("What kind of wrong", help=GLOSSARY["outcome"], anchor="outcomes")
    shares = chosen.outcome_shares()
    show_figure(
        lambda: figures.outcomes_bar(shares, chosen.control), "outcomes", shares, chosen.image,
        code=recipes.outcomes(chosen), files=chosen.files,
    )  # fmt: skip


def configuration(chosen: Selection) -> None:
    st.subheader("What differs between the arms", help=GLOSSARY["arm"], anchor="configuration")
    differing, shared = summary.configuration(chosen.study.manifest, list(chosen.arms))
    if differing.empty:
        st.caption("The manifest declares no setting that differs between these arms.")
    else:
        wide = differing.set_index("setting").T.rename_axis("arm").reset_index()
        st.dataframe(wide, hide_index=True, key="configuration-table")
        if "objective" in set(differing["setting"]):
            st.caption(
                "Terms of the loss: q_x the student without the context, q_c with it, f the frozen teacher with it; "
                "sg[…] is not differentiated."
            )
    # What a closed expander holds would be drawn nevertheless, each time the page is opened.
    more = st.expander(f"What all arms share ({len(shared)} settings)", key="shared", on_change="rerun")
    if more.open:
        more.dataframe(shared, hide_index=True, key="shared-table")


def answers(chosen: Selection) -> None:
    st.subheader("Answers, side by side", help=GLOSSARY["answers"], anchor="answers")
    generations = chosen.generations()
    pair = [arm for arm in dict.fromkeys((chosen.baseline, chosen.arm)) if arm in chosen.all_arms]
    seeds = list(chosen.seeds) or sorted(int(seed) for seed in generations["seed"].dropna().unique())
    under = linked("prompts", [*pair, ALL], pair[0] if pair else ALL)
    seed = linked("seed", seeds, seeds[0])
    left, right, _ = st.columns([3, 1, 3])
    left.selectbox(
        "Prompts", [*pair, ALL], key="prompts", help=GLOSSARY["harm"],
        format_func=lambda arm: ALL if arm == ALL else f"harmed under {arm}",
    )  # fmt: skip
    right.selectbox("Seed", seeds, key="seed", help=GLOSSARY["seeds"])
    harmed = None if under == ALL else under
    table = chosen.once(
        "answers", lambda: summary.answers(generations, pair, chosen.control, seed, harmed), seed, harmed
    )
    head, tail = common_ends(list(generations["prompt"].drop_duplicates()))
    ids = short_ids(list(generations["example_id"].drop_duplicates()))
    shown = table.head(500)
    shown = shown.assign(
        example_id=shown["example_id"].map(ids),
        prompt=[without_ends(each, head, tail) for each in shown["prompt"]],
    )
    if head or tail:
        st.caption(f"Every prompt: {plain(head)}… {plain(tail)}")
    # A data frame draws on a canvas: whatever a model has written is shown as text.
    st.dataframe(
        shown.rename(columns={"example_id": "example"}), hide_index=True, key="answers-table",
        height=min(38 + 35 * max(1, len(table)), 320),
        column_config={"example": st.column_config.TextColumn(help=GLOSSARY["example"])},
    )  # fmt: skip
    text = (
        f"{len(table)} prompts, responses without and with the context ({chosen.control}), seed {seed}. "
        f"{MARKS_SAY}" + (" The first 500 are shown." if len(table) > 500 else "")
    )
    with below(text):
        download_table(table, "answers")


def provenance(chosen: Selection) -> None:
    manifest = chosen.study.manifest
    more = st.expander("Provenance", icon=":material/fingerprint:", key="provenance", on_change="rerun")
    if more.open:
        with more:
            st.caption(GLOSSARY["provenance"])
            if manifest.get("command"):
                st.code(str(manifest["command"]), language="bash", wrap_lines=True)
            st.dataframe(summary.provenance(manifest), hide_index=True, key="provenance-table")


def page(chosen: Selection) -> None:
    st.markdown(
        "A model was trained to behave without a context as it did with it; here the context comes back. **Look at Harm: "
        "how often an answer that was right without the context is wrong with it**, and whether an arm avoids that without "
        "losing accuracy; a click on a marker shows the answers behind it."
    )
    answered = not lacks(chosen, "generations", "responses")
    for what, draw, of_answers in (
        ("The headline", headline, True),
        ("The metrics", metrics, True),
        ("The outcomes", outcomes, True),
        ("The configuration", configuration, False),
        ("The answers", answers, True),
        ("The provenance", provenance, False),
    ):
        if answered or not of_answers:
            with guard(what):
                draw(chosen)


with guard("The overview"):
    page(current())
