"""Overview: did the anchored arm reduce Harm without losing accuracy, and what exactly was compared?"""

import shlex

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import below, download_table, guard, lacks, show_figure, show_table
from app.queries import summary
from app.queries.shelf import in_words
from app.queries.state import Selection, current
from app.recipes import study as recipes
from app.sending import report_button
from app.shorter import common_ends, short_ids, without_ends
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import verdict_html
from cr_interp.report.study import keyless_sentences
from cr_interp.system.percent import percent
from cr_interp.tables.example_pairs import MARKS_SAY
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.verdict_rows import ROWS, common_open, is_deafer, is_keyless, keyless_verdict, price
from cr_interp.vocabulary import layer_words, of_answers

#: What the pointer says of a row of the verdict.
HELP = {name: GLOSSARY[name] for name in ROWS}
#: Sites in words.
SITES = {"resid_post": "residual stream", "attn_out": "attention's output", "mlp_out": "MLP's output"}
#: Of the answers: whatever became of them.
ALL = "all"
#: metric → the list of the Examples page that has its examples
CASES = {
    "harm": "harmed",
    "rescue": "rescued",
    "both_correct": "kept",
    "acc_x": "right without",
    "acc_xc": "right with",
    "changed": "changed",
    "agreement": "same",
}


def headline(chosen: Selection) -> None:
    """Draw the verdict: a word, what it stands on, and a row per question with both arms and their difference."""
    arm, baseline = chosen.arm, chosen.baseline
    if arm == baseline:
        alone = len(chosen.all_arms) < 2
        st.info(
            "This study has one arm, so there is nothing to compare it with: what it does stands below."
            if alone
            else "Choose two different arms under Compare on the left.",
            icon=":material/compare_arrows:",
        )
        return
    differences = chosen.differences()
    answer = summary.headline(chosen.metrics_of(arm, baseline), differences, arm, baseline)
    rows, chips = chosen.verdict()
    question = f"Did {plain(arm)} reduce Harm without losing accuracy?"
    keyless = is_keyless(rows)
    if keyless:
        question = f"Does the context change {plain(arm)}'s answers less often?"
        answer = summary.Headline(*keyless_verdict(rows, arm, baseline), ())
    with st.container(border=True):
        st.subheader(question, help=GLOSSARY["harm"], anchor="headline")
        st.html(verdict_html.chips_html(in_words(answer.verdict, rows), chips))
        st.markdown(f"**Did it help?** {plain(answer.sentence)}{plain(common(rows))}")
        st.markdown(f"**At what price?** {plain(price(rows, arm))}{plain(heard(rows, arm, baseline))}")
        with guard("Where it is decided"):
            where(chosen)
        st.html(verdict_html.verdict_html(rows, arm, baseline, HELP))
        with below(
            f"Differences are {arm} minus {baseline}, paired over {paired(differences)}, with 95 % intervals: "
            f"{said_intervals(differences[differences['seed'].isna()])}; context: {chosen.control}. A bar has a "
            "colour where its interval excludes 0; shares have one axis, in percentage points, and distances another, in nats a "
            f"token.{'' if keyless else ' No accuracy lost means that the whole interval lies above −2 points.'}"
        ):
            download_table(rows, "verdict")
        columns = st.columns(5)
        for column, name in zip(columns, (arm, baseline), strict=False):
            column.page_link(
                "screens/examples.py",
                label=f"{'Changed' if keyless else 'Harmed'} under {plain(name)}",
                icon=":material/compare:",
                query_params=chosen.address(case_arm=name, cases="changed" if keyless else "harmed"),
                help=GLOSSARY["changed" if keyless else "harm"],
            )
        with columns[4]:
            report_button(chosen.study)
        columns[3].page_link(
            "screens/mechanism.py",
            label="Mechanism",
            icon=":material/account_tree:",
            query_params=chosen.address(),
        )
        columns[2].page_link(
            "screens/training.py",
            label="When did it emerge?",
            icon=":material/trending_up:",
            query_params=chosen.address(),
        )


def where(chosen: Selection) -> None:
    """Say where the flipped answers are decided; without patching, where states move most and the command."""
    st.markdown(f"**Where is it decided?** {plain(decided(chosen)) or moving(chosen)}")


def decided(chosen: Selection) -> str:
    """Name the first layer whose state repairs most of what any layer's does, of the compared arm that has more to repair."""
    if not chosen.study.has_table("patching"):
        return ""
    first = chosen.deciding()
    if first is None:
        return ""
    beside = max(value for value in (first["random"], first["other"], 0.0) if value == value)
    return (
        f"In {first['arm']}, putting back the {SITES.get(first['site'], first['site'])} of "
        f"{layer_words(int(first['place']))} alone "
        f"returns {percent(first['estimate'], unit=' %')} of {counted(first)} {first['group']} answers a seed (interval "
        f"{percent(first['low'])} to {percent(first['high'], unit=' %')}; controls at most {percent(beside, unit=' %')})."
        f"{as_much(beside, first)}{at_the_end(chosen, first)}"
    )


def as_much(control: float, first: pd.Series) -> str:
    """Say that a place is not shown to decide if what stands there does not matter: a control returns as many answers."""
    return (
        " A control does as much there, so this place is not shown to decide." if control >= first["low"] else ""
    )


def at_the_end(chosen: Selection, first: pd.Series) -> str:
    """Say that a place decides nothing if it is the last layer's stream, which holds whatever was decided before it."""
    last = int(chosen.mechanism("patching")["layer"].max())
    if (first["site"], int(first["place"])) != ("resid_post", last):
        return ""
    return " That is the last layer, whose stream is the answer itself: no single place before it does as much."


def counted(row: pd.Series) -> str:
    """Say how many examples a seed has: ``12``, or ``20 to 64``."""
    return " to ".join(str(int(n)) for n in dict.fromkeys((row["n_examples"], row["n_most"])))


def moving(chosen: Selection) -> str:
    """Say what is known without patching: where states move most, which is not where answers are decided."""
    command = f"`cr-interp explain {shlex.quote(chosen.name)} --analyses patching`"
    try:
        facts = {fact["arm"]: fact for fact in chosen.extremes().to_dict("records")}
    except UserError:
        facts = {}
    lowest = facts.get(chosen.baseline) or facts.get(chosen.arm)
    moved = ""
    if lowest:
        moved = f"States of {plain(lowest['arm'])} move most at layer {plain(lowest['layer'])} ({plain(chosen.measure)} "
        moved += f"{lowest['estimate']:.3f}), which need not be where answers are decided. "
    return f"{moved}Not measured: {command} does so where the checkpoints are."


def heard(rows: pd.DataFrame, arm: str, baseline: str) -> str:
    """Explain in a sentence what the badge calls deafer; nothing else would."""
    if not is_deafer(rows):
        return ""
    return f" {arm} obeys a new instruction in its context less often than {baseline}: it may have learnt to ignore contexts."


def common(rows: pd.DataFrame) -> str:
    """Say where the two arms' Harm differs, and may do so only because they are right on other prompts."""
    return " On the prompts that both solve without the context it is open." if common_open(rows) else ""


def paired(differences: pd.DataFrame) -> str:
    """Say what a difference is paired over: with one seed there is nothing to pair but examples."""
    return "examples and seeds" if differences["seed"].nunique() > 1 else "examples"


def metrics(chosen: Selection) -> None:
    st.subheader("Metrics, side by side", help=GLOSSARY["interval"], anchor="metrics")
    table = chosen.metrics()
    show_figure(
        lambda: figures.metric_forest(table, control=chosen.control),
        "metrics",
        table,
        chosen.image,
        on_click=lambda metric, _, y: examples(metric, figures.arm_order(table["arm"])[round(y)]),
        wide=640,
        code=recipes.metrics(chosen),
        files=chosen.files,
    )
    asked = st.session_state.pop("examples", None)
    if asked is not None:
        arm, cases = asked
        st.switch_page("screens/examples.py", query_params=chosen.address(case_arm=arm, cases=cases))
    st.caption("Click a marker to see the responses behind it.")
    regimes = chosen.regimes().set_index("arm")["regime"]
    shown = chosen.once("metric_table", lambda: summary.metric_table(table))
    shown = shown.assign(regime=shown["arm"].map(regimes).fillna("–").astype(str))
    columns = {summary.in_percent(name): GLOSSARY.get(name, metric.axis) for name, metric in of_answers().items()}
    helps = {"arm": GLOSSARY["arm"], "regime": GLOSSARY["regime"], **columns}
    show_table(shown, "metrics of each arm, over seeds, with their intervals", help_of=helps)
    for told in keyless_sentences(chosen.study):
        st.caption(plain(told))


def examples(metric: str, arm: str) -> None:
    """Follow a click on a marker of the forest: its arm and the pairs that its metric counts are wanted."""
    st.session_state["examples"] = (arm, CASES.get(metric, "all"))


def outcomes(chosen: Selection) -> None:
    shares = chosen.outcome_shares()
    if shares.empty:  # without a key no answer is wrong
        return
    st.subheader("What kind of wrong", help=GLOSSARY["outcome"], anchor="outcomes")
    show_figure(
        lambda: figures.outcomes_bar(shares, chosen.control),
        "outcomes",
        shares,
        chosen.image,
        code=recipes.outcomes(chosen),
        files=chosen.files,
    )


def configuration(chosen: Selection) -> None:
    st.subheader("What differs between the arms", help=GLOSSARY["arm"], anchor="configuration")
    differing, shared = summary.configuration(chosen.study.manifest, list(chosen.arms))
    if differing.empty:
        st.caption("The manifest declares no setting that differs between these arms.")
    else:
        wide = differing.set_index("setting").T.rename_axis("arm").reset_index()
        show_table(wide, "settings that differ between the arms")
        if "objective" in set(differing["setting"]):
            st.caption(
                "Terms of the loss: q_x the student without the context, q_c with it, f the frozen teacher with it; "
                "sg[…] is not differentiated."
            )
    # What a closed expander holds would be drawn nevertheless, each time the page is opened.
    more = st.expander(f"What all arms share ({len(shared)} settings)", key="shared", on_change="rerun")
    if more.open:
        with more:
            show_table(shared, "settings that all arms share")


def answers(chosen: Selection) -> None:
    st.subheader("Answers, side by side", help=GLOSSARY["answers"], anchor="answers")
    # Closed, it costs nothing; a link to some of the answers opens it.
    asked = any(name in st.query_params for name in ("prompts", "seed"))
    linked("answers", [False, True], asked)
    more = st.expander("Every prompt with both arms' answers", key="answers", on_change="rerun")
    if more.open:
        with more:
            every_answer(chosen)


def every_answer(chosen: Selection) -> None:
    """Draw a table with a prompt a row, both arms' answers in both views."""
    generations = chosen.generations()
    pair = [arm for arm in dict.fromkeys((chosen.baseline, chosen.arm)) if arm in chosen.all_arms]
    seeds = list(chosen.seeds) or sorted(int(seed) for seed in generations["seed"].dropna().unique())
    harmed_ones = pair if keyed(chosen) else []
    under = linked("prompts", [*harmed_ones, ALL], pair[0] if harmed_ones else ALL)
    seed = linked("seed", seeds, seeds[0])
    left, right, _ = st.columns([3, 1, 3])
    left.selectbox(
        "Prompts",
        [*harmed_ones, ALL],
        key="prompts",
        help=GLOSSARY["harm"],
        format_func=lambda arm: ALL if arm == ALL else f"harmed under {arm}",
    )
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
        shown.rename(columns={"example_id": "example"}),
        hide_index=True,
        key="answers-table",
        height=min(38 + 35 * max(1, len(table)), 320),
        column_config={"example": st.column_config.TextColumn(help=GLOSSARY["example"])},
    )
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
            show_table(summary.provenance(manifest), "where this study comes from")


LOOK = (
    "**Look at Harm: how often an answer that was right without the context is wrong with it**, and whether an arm avoids that "
    "without losing accuracy; a click on a marker shows the answers behind it."
)
#: The same of a study whose examples have no answers.
LOOK_KEYLESS = (
    "**Look at how often it changes an answer**: no key says which answers are right; a click on a marker shows the answers "
    "behind it."
)


def keyed(chosen: Selection) -> bool:
    """Tell whether any answer is right or wrong. Of a damaged table the sections that draw it say what is wrong."""
    if not chosen.study.has_table("generations"):
        return True
    try:
        return not chosen.outcome_shares().empty
    except Exception:
        return True


def page(chosen: Selection) -> None:
    st.markdown(
        "A model was trained to behave without a context as it did with it; here the context comes back. "
        + (LOOK if keyed(chosen) else LOOK_KEYLESS)
    )
    answered = not lacks(chosen, "generations", "responses")
    for what, draw, wanted in (
        ("The headline", headline, True),
        ("The metrics", metrics, True),
        ("The outcomes", outcomes, True),
        ("The configuration", configuration, False),
        ("The answers", answers, True),
        ("The provenance", provenance, False),
    ):
        if answered or not wanted:
            with guard(what):
                draw(chosen)


with guard("The overview"):
    page(current())
