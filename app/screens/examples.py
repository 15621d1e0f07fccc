"""Examples: which answers flipped when the context returned, and how do the two responses differ?"""

import pandas as pd
import streamlit as st

from app.address import linked, linked_some, linked_text
from app.parts import below, download_table, guard, lacks, show_figure, show_table
from app.queries.state import Selection, current
from app.queries.token_table import Tokens
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import prompt_html
from cr_interp.tables import example_pairs, token_view

PAGE = 8
#: What can be listed: all pairs, a case, or the cases that a metric counts.
LISTS = {
    "all": ("all pairs", (*example_pairs.CASES, *example_pairs.KEYLESS)),
    **{case: (f"{case}: {words[2]}", (case,)) for case, words in example_pairs.CASES.items()},
    "right without": ("right without: kept and harmed", ("kept", "harmed")),
    "right with": ("right with: kept and rescued", ("kept", "rescued")),
    **{case: (f"{case}: {words}, no key", (case,)) for case, words in example_pairs.KEYLESS.items()},
}


def click(panel: str, x: float, y: float) -> None:
    st.session_state.update(case_arm=panel, cases=example_pairs.case_at(x, y), page=1)


def first_page() -> None:
    st.session_state["page"] = 1


def table(chosen: Selection, counts: pd.DataFrame, pairs: pd.DataFrame, arm: str, cases: tuple[str, ...]) -> None:
    st.subheader("Right and wrong, without and with the context", help=GLOSSARY["case"], anchor="cells")
    keyless = counts[counts["case"].isin(list(example_pairs.KEYLESS))]
    if len(keyless):
        st.caption(
            "Answers to examples without an answer key are neither right nor wrong: they changed when the context returned, or "
            "stayed the same."
        )
        shown = keyless[["arm", "case", "count", "n", "share", "low", "high"]]
        show_table(
            shown,
            "answers without a key: how many changed",
            formats=dict.fromkeys(("share", "low", "high"), ".3f"),
        )
    counts = counts[counts["case"].isin(list(example_pairs.CASES))]
    if counts.empty:
        return
    seeds = pairs["seed"]
    wide = 90 + 150 * min(4, counts["arm"].nunique())
    code = recipes.cases(chosen, arm, cases)
    show_figure(
        lambda: figures.four_cells(counts, chosen.control, (arm, cases), seeds),
        "cases",
        counts,
        chosen.image,
        on_click=click,
        wide=wide,
        code=code,
        files=chosen.files,
    )


def choose(chosen: Selection, counts: pd.DataFrame) -> tuple[str, str]:
    """Choose the arm and the pairs that are listed; at first the harmed ones of whichever compared arm has more of them."""
    arms = list(dict.fromkeys(counts["arm"]))
    harmed = counts[counts["case"] == "harmed"].set_index("arm")["count"]
    pair = [arm for arm in (chosen.baseline, chosen.arm) if arm in arms] or arms
    arm = linked("case_arm", arms, max(pair, key=lambda name: harmed.get(name, 0)))
    first = "harmed" if harmed.get(arm, 0) else "changed" if "changed" in set(counts["case"]) else "all"
    cases = linked("cases", list(lists(chosen, arms)), first)
    return arm, cases


def lists(chosen: Selection, arms: list[str]) -> dict[str, str]:
    """Return what can be listed → its words: the cases, and where the two compared arms part."""
    there = set(chosen.case_counts()["case"])
    words = {name: said for name, (said, cases) in LISTS.items() if name == "all" or there.intersection(cases)}
    if {chosen.arm, chosen.baseline} <= set(arms) and chosen.arm != chosen.baseline:
        words["baseline only"] = f"{chosen.baseline} harmed and {chosen.arm} right"
        words["arm only"] = f"{chosen.arm} harmed and {chosen.baseline} right"
    return words


def picked(chosen: Selection, pairs: pd.DataFrame, arm: str, cases: str) -> tuple[str, pd.DataFrame]:
    """Return whose pairs are listed, and which."""
    if cases == "baseline only":
        return chosen.baseline, example_pairs.contrast(pairs, chosen.baseline, chosen.arm)
    if cases == "arm only":
        return chosen.arm, example_pairs.contrast(pairs, chosen.arm, chosen.baseline)
    return arm, example_pairs.choose(pairs, arm, LISTS[cases][1])


def controls(
    chosen: Selection, pairs: pd.DataFrame, arms: list[str]
) -> tuple[str, str, list[str], str, list[str], str]:
    """Draw the boxes above the list: arm, cases, search, kinds of error, one example, pins and the order."""
    kinds = [kind for kind in example_pairs.ERRORS if kind in {*pairs["outcome_x"], *pairs["outcome_xc"]}]
    ids = sorted(set(pairs["example_id"]))
    words = lists(chosen, arms)
    error = linked("error", ["any", *kinds], "any")
    only = linked("only", ids, None)
    orders = orders_of(chosen)
    order = linked("sort", list(orders), "id")
    text = linked_text("search")
    pins = linked_some("pins", ids, [])
    columns = st.columns([2, 4, 3])
    columns[0].selectbox("Arm", arms, key="case_arm", help=GLOSSARY["arm"], on_change=first_page)
    columns[1].selectbox(
        "Pairs",
        list(words),
        key="cases",
        format_func=words.__getitem__,
        help=GLOSSARY["case"],
        on_change=first_page,
    )
    columns[2].text_input(
        "Search",
        key="search",
        placeholder="In prompt, responses or id",
        help=GLOSSARY["search"],
        on_change=first_page,
    )
    columns = st.columns([2, 4, 3])
    columns[0].selectbox(
        "Sorted by", list(orders), key="sort", format_func=orders.__getitem__, help=GLOSSARY["sort"]
    )
    columns[1].multiselect("Pinned", ids, key="pins", placeholder="None", help=GLOSSARY["pins"])
    columns[2].selectbox(
        "Example", ids, index=None, key="only", placeholder="All", help=GLOSSARY["only"], on_change=first_page
    )
    st.segmented_control(
        "Kind of error",
        ["any", *kinds],
        key="error",
        help=GLOSSARY["error_kind"],
        on_change=first_page,
        required=True,
    )
    return text, order, [] if error == "any" else [error], only or "", pins, words[str(st.session_state["cases"])]


def orders_of(chosen: Selection) -> dict[str, str]:
    """Return how the list can be sorted: movements need the table of single tokens."""
    orders = {"id": "id", "length": "change of length"}
    return orders | ({"drift": "drift", "kl": "output KL"} if chosen.study.has_table("token_drift") else {})


def sorted_ids(chosen: Selection, found: pd.DataFrame, arm: str, order: str, pins: list[str]) -> list[str]:
    """Sort the examples in the order asked for, the pinned ones first."""
    ids = list(dict.fromkeys(found.sort_values("example_id", kind="stable")["example_id"]))
    if order == "length":
        change = (found["n_tokens_xc"] - found["n_tokens_x"]).abs().groupby(found["example_id"]).max()
        ids.sort(key=lambda name: -change[name])
    elif order in ("drift", "kl"):
        moved = movement(chosen, arm, order)
        ids.sort(key=lambda name: -moved.get(name, -1.0))
    return [name for name in pins if name in ids] + [name for name in ids if name not in pins]


def movement(chosen: Selection, arm: str, order: str) -> dict[str, float]:
    """Map example → how far the arm's farthest token moves at the last layer, or the mean output KL, in its first run."""
    tokens = Tokens(chosen.study)
    seeds = tokens.runs().get(arm)
    if not seeds:
        return {}
    seed = next((seed for seed in seeds if seed in chosen.seeds), seeds[0])
    if order == "kl":
        ranked = tokens.ranked(arm, seed, token_view.OUTPUT, "kl", "mean")
    else:
        layers = [place for place in tokens.layers() if place != token_view.OUTPUT]
        ranked = tokens.ranked(arm, seed, layers[-1], "cosine", "max")
    return dict(ranked[["example_id", "drift"]].itertuples(index=False))


def listed(chosen: Selection, pairs: pd.DataFrame, arms: list[str]) -> None:
    st.subheader("Prompt by prompt", help=GLOSSARY["pairs"], anchor="pairs")
    text, order, errors, only, pins, words = controls(chosen, pairs, arms)
    arm, found = picked(chosen, pairs, str(st.session_state["case_arm"]), str(st.session_state["cases"]))
    if errors:
        found = found[found["outcome_x"].isin(errors) | found["outcome_xc"].isin(errors)]
    found = example_pairs.search(found, text)
    if only:
        found = found[found["example_id"] == only]
    if found.empty:
        st.info("No such pair. Click another cell, or choose other pairs.", icon=":material/filter_alt_off:")
        return
    ids = sorted_ids(chosen, found, arm, order, pins)
    pages = -(-len(ids) // PAGE)
    number = linked("page", list(range(1, pages + 1)), 1)
    if pages > 1:
        st.pagination(pages, key="page")
    has_tokens = chosen.study.has_table("token_drift")
    for example in ids[(number - 1) * PAGE : number * PAGE]:
        card(
            chosen,
            pairs[pairs["example_id"] == example],
            found[found["example_id"] == example],
            arm,
            example in pins,
            has_tokens,
        )
    with below(
        f"{len(found)} pairs of {arm}: {words}, context {chosen.control}"
        f"{', ' + errors[0] + ' in either view' if errors else ''}; {len(ids)} prompts, {PAGE} a page, with the answers of all "
        f"chosen arms. What only one of the two views says is marked and underlined. Outcomes: {example_pairs.MARKS_SAY}"
    ):
        download_table(found, "pairs")


def card(
    chosen: Selection, every: pd.DataFrame, mine: pd.DataFrame, arm: str, pinned: bool, has_tokens: bool
) -> None:
    """Draw one prompt with all arms' answers to it. ``mine`` are the pairs for which it is listed."""
    example = str(mine["example_id"].iloc[0])
    with st.container(border=True):
        cases = ", ".join(dict.fromkeys(mine["case"]))
        seeds = list(dict.fromkeys(mine["seed"]))
        of = f" · seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if len(chosen.all_seeds) > 1 else ""
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"{plain(example)} · **{cases}** under {plain(arm)}{of}", width="stretch")
            st.button(
                "Unpin" if pinned else "Pin",
                icon=":material/keep_off:" if pinned else ":material/keep:",
                key=f"pin-{example}",
                type="tertiary",
                on_click=pin,
                args=(example, not pinned),
            )
            if has_tokens:
                st.page_link(
                    "screens/tokens.py",
                    label="Tokens",
                    icon=":material/format_ink_highlighter:",
                    width="content",
                    query_params=chosen.address(
                        example=example, by_arm=arm, token_seed=str(mine["seed"].iloc[0])
                    ),
                )
        st.html(chosen.once("card", lambda: prompt_html.prompt_html(every, chosen.all_arms), example))


def pin(example: str, keep: bool) -> None:
    others = [each for each in st.session_state.get("pins", []) if each != example]
    st.session_state["pins"] = [*others, example] if keep else others


def page(chosen: Selection) -> None:
    st.markdown(
        "Each prompt is answered twice, without and with the context, and each answer is right or wrong: **an arm is "
        "harmed where it was right until the context returned**. Click a cell to read its prompts, with every arm's "
        "answers side by side; what differs is marked."
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
        whose = {"baseline only": chosen.baseline, "arm only": chosen.arm}.get(cases, arm)
        table(chosen, counts, pairs, whose, LISTS[cases][1] if cases in LISTS else ("harmed",))
    with guard("The responses"):
        listed(chosen, pairs, arms)


with guard("The examples"):
    page(current())
