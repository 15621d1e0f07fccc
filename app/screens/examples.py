"""Examples: which answers flipped when the context returned, and how do the two responses differ?"""

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import below, download_table, guard, lacks, show_figure
from app.queries.state import Selection, current
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import pair_html
from cr_interp.tables import example_pairs

PAGE = 8
#: What can be listed: all pairs, a case, or the cases that a metric counts.
LISTS = {
    "all": ("all pairs", tuple(example_pairs.CASES)),
    **{case: (f"{case}: {words[2]}", (case,)) for case, words in example_pairs.CASES.items()},
    "right without": ("right without: kept and harmed", ("kept", "harmed")),
    "right with": ("right with: kept and rescued", ("kept", "rescued")),
}


def click(panel: str, x: float, y: float) -> None:
    st.session_state.update(case_arm=panel, cases=example_pairs.case_at(x, y), page=1)


def first_page() -> None:
    st.session_state["page"] = 1


def table(chosen: Selection, counts: pd.DataFrame, pairs: pd.DataFrame, arm: str, cases: tuple[str, ...]) -> None:
    st.subheader("Right and wrong, without and with the context", help=GLOSSARY["case"], anchor="cells")
    seeds = pairs["seed"]
    wide = 90 + 150 * min(4, counts["arm"].nunique())
    code = recipes.cases(chosen, arm, cases)
    show_figure(
        lambda: figures.four_cells(counts, chosen.control, (arm, cases), seeds), "cases", counts, chosen.image,
        on_click=click, wide=wide, code=code, files=chosen.files,
    )  # fmt: skip


def choose(chosen: Selection, counts: pd.DataFrame) -> tuple[str, str]:
    """The arm and the pairs that are listed; at first the harmed ones of whichever compared arm has more of them."""
    arms = list(dict.fromkeys(counts["arm"]))
    harmed = counts[counts["case"] == "harmed"].set_index("arm")["count"]
    pair = [arm for arm in (chosen.baseline, chosen.arm) if arm in arms] or arms
    arm = linked("case_arm", arms, max(pair, key=lambda name: harmed[name]))
    cases = linked("cases", list(LISTS), "harmed" if harmed[arm] else "all")
    return arm, cases


def controls(pairs: pd.DataFrame, arms: list[str]) -> tuple[str, str, list[str], str]:
    """The select boxes of the list: arm, cases, kinds of error, a single example."""
    kinds = [kind for kind in example_pairs.ERRORS if kind in {*pairs["outcome_x"], *pairs["outcome_xc"]}]
    error = linked("error", ["any", *kinds], "any")
    only = linked("only", sorted(set(pairs["example_id"])), None)
    columns = st.columns([2, 4, 3])
    arm = columns[0].selectbox("Arm", arms, key="case_arm", help=GLOSSARY["arm"], on_change=first_page)
    cases = columns[1].selectbox(
        "Pairs", list(LISTS), key="cases", format_func=lambda name: LISTS[name][0], help=GLOSSARY["case"],
        on_change=first_page,
    )  # fmt: skip
    st.segmented_control(
        "Kind of error", ["any", *kinds], key="error", help=GLOSSARY["error_kind"], on_change=first_page,
        required=True,
    )  # fmt: skip
    columns[2].selectbox(
        "Example", sorted(set(pairs["example_id"])), index=None, key="only", placeholder="All",
        help=GLOSSARY["only"], on_change=first_page,
    )  # fmt: skip
    return arm, cases, [] if error == "any" else [error], only or ""


def listed(chosen: Selection, pairs: pd.DataFrame, arms: list[str]) -> None:
    st.subheader("Responses, side by side", help=GLOSSARY["pairs"], anchor="pairs")
    arm, cases, errors, only = controls(pairs, arms)
    found = example_pairs.choose(pairs, arm, LISTS[cases][1], errors)
    if only:
        found = found[found["example_id"] == only]
    if found.empty:
        st.info("No such pair. Click another cell, or choose other pairs.", icon=":material/filter_alt_off:")
        return
    pages = -(-len(found) // PAGE)
    number = linked("page", list(range(1, pages + 1)), 1)
    if pages > 1:
        st.pagination(pages, key="page")
    several = found["seed"].nunique() > 1 or len(chosen.all_seeds) > 1
    sampled = found["sample"].nunique() > 1
    has_tokens = chosen.study.has_table("token_drift")
    for pair in found.iloc[(number - 1) * PAGE : number * PAGE].itertuples():
        with st.container(border=True):
            left, right = st.columns([4, 1], vertical_alignment="center")
            words = [plain(pair.example_id), f"**{pair.case}**"]
            words += [f"seed {pair.seed}"] * several + [f"sample {pair.sample}"] * sampled
            left.markdown(" · ".join(words))
            if has_tokens:
                right.page_link(
                    "screens/tokens.py", label="Tokens", icon=":material/format_ink_highlighter:",
                    query_params=chosen.address(example=pair.example_id, by_arm=pair.arm, token_seed=str(pair.seed)),
                )  # fmt: skip
            st.html(pair_html.pair_html(pair))
    with below(
        f"{len(found)} pairs of {arm}: {LISTS[cases][0]}, context {chosen.control}"
        f"{', ' + errors[0] + ' in either view' if errors else ''}; {PAGE} a page, by example and seed. What only one of "
        f"the two responses says is marked and underlined. Outcomes: {example_pairs.MARKS_SAY}"
    ):
        download_table(found, "pairs")


def page(chosen: Selection) -> None:
    st.markdown(
        "Each prompt is answered twice, without and with the context, and each answer is right or wrong: **an arm is "
        "harmed where it was right until the context returned**. Click a cell to read its responses side by side; what "
        "differs is marked."
    )
    if lacks(chosen, "generations", "responses"):
        return
    pairs = chosen.pairs()
    if pairs.empty:
        raise UserError(
            f"These arms have no pairs of responses without and with the {chosen.control} context. Choose other arms, "
            "or another context control on the left."
        )
    arms = list(dict.fromkeys(pairs["arm"]))
    counts = chosen.case_counts()
    arm, cases = choose(chosen, counts)
    with guard("The table"):
        table(chosen, counts, pairs, arm, LISTS[cases][1])
    with guard("The responses"):
        listed(chosen, pairs, arms)


with guard("The examples"):
    page(current())
