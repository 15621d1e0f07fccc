"""Suite: in how many of the settings does the claim hold, and which are they?"""

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import below, download_table, guard, show_figure
from app.queries import suite_state, summary
from app.queries.state import Selection, current
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp.errors import UserError
from cr_interp.figures import suite as suite_figures
from cr_interp.report.suite import said_of_differences
from cr_interp.tables.claims import count_claims
from cr_interp.tables.suite import Suite, find_suites, in_order, open_suite
from cr_interp.vocabulary import arm_order

NO_SUITE = """
**No suite was found.** A suite is a folder of studies, one for each setting, and stands where studies stand. This makes
one of the paper's twelve settings, as far as there are organisms for them: if some are missing, it first says which
settings can be run, to be named with `--settings`.
"""
#: Curves of the page's training figure.
DURING = ("acc_x", "acc_xc", "harm")


def choose_suite(chosen: Selection) -> Suite | None:
    """The suite that the study on the left belongs to comes first."""
    suites = find_suites()
    if not suites:
        st.info(NO_SUITE, icon=":material/folder_off:")
        st.code("cr-interp suite", language="bash")
        return None
    own = chosen.study.path.parent.name
    names = sorted(suites, key=lambda name: (name != own, name))
    name = linked("suite", names, names[0], always=True)
    if len(names) > 1:
        st.selectbox("Suite", names, key="suite", help=GLOSSARY["suite"])
    return open_suite(suites[name])


def headline(chosen: Selection, mine: Suite) -> None:
    """The sentence that the paper's table is about, with the counts that support it."""
    arm, baseline = chosen.arm, chosen.baseline
    compared = suite_state.comparisons(mine, arm, baseline, chosen.control)
    if compared.empty:
        st.info(
            f"No setting has answers of both {plain(arm)} and {plain(baseline)} under the {plain(chosen.control)} "
            "context. Choose other arms under Compare on the left.",
            icon=":material/compare_arrows:",
        )
        return
    counts = count_claims(compared, arm, baseline)
    lower, surely = counts.iloc[0], counts.iloc[1]
    with st.container(border=True):
        st.subheader(
            f"In how many settings does {plain(arm)} reduce Harm?", help=GLOSSARY["harm"], anchor="counts"
        )
        st.markdown(
            f"**In {lower['k']} of {lower['of']}** the 95 % interval over seeds (across) of the difference from "
            f"{plain(baseline)} lies below 0; in {surely['k']} after Holm's adjustment for so many settings."
            if lower["of"]
            else "**Not known:** every setting here has one seed, so nothing can be said about other seeds."
        )
        shown = pd.DataFrame(
            {
                "settings": [f"{row.k} of {row.of}" for row in counts.itertuples()],
                "claim": counts["claim"],
                "which": [", ".join(in_order(row.settings)) or "–" for row in counts.itertuples()],
            }
        )
        st.dataframe(
            shown, hide_index=True, key="counts-table", height=_height(shown),
            column_config={
                "claim": st.column_config.TextColumn(width="large", help=GLOSSARY["claim"]),
                "settings": st.column_config.TextColumn(width="small", help=GLOSSARY["of"]),
                "which": st.column_config.TextColumn(help=GLOSSARY["setting"]),
            },
        )  # fmt: skip
        with below(
            f"{arm} minus {baseline}, paired over examples and seeds; intervals: {said_of_differences(compared)}; context: "
            f"{chosen.control}. Settings are not a sample from anything, so there is no interval over them."
        ):
            download_table(compared, "suite-comparisons")
    left_out(mine)
    unfinished(mine)


def left_out(mine: Suite) -> None:
    """Settings that cannot be opened, and why: they are in none of the tables."""
    for setting, why in mine.broken.items():
        st.warning(f"{plain(setting)} is left out: {plain(why)}", icon=":material/broken_image:")


def unfinished(mine: Suite) -> None:
    lacking = suite_state.lacking(mine)
    if lacking:
        listed = "\n".join(f"- {plain(name)}: {plain(reason)}" for name, reason in lacking.items())
        with st.expander(f"{len(lacking)} settings are not, or not wholly, in these tables"):
            st.markdown(listed)


def regimes(chosen: Selection, mine: Suite) -> None:
    st.subheader("What the context's return does", help=GLOSSARY["regime"], anchor="regimes")
    rows = _rows(chosen, mine)

    def click(panel: str, x: float, y: float) -> None:
        near = rows[rows["arm"] == panel]
        distance = (near["harm"] - x).abs() + (100 * near["acc_change"] - y).abs()
        if len(near):
            st.session_state["open setting"] = near.loc[distance.idxmin(), "setting"]

    code = recipes.suite_regimes(chosen, mine.name, _arms(chosen))
    show_figure(
        lambda: suite_figures.regime_scatter(rows, chosen.baseline, chosen.arm), "suite-regimes", rows, chosen.image,
        on_click=click, code=code, files=suite_state.stamp(mine),
    )  # fmt: skip


def forest(chosen: Selection, mine: Suite) -> None:
    st.subheader("Harm by setting", help=GLOSSARY["harm"], anchor="harm")
    rows = _rows(chosen, mine)
    rows = rows[rows["arm"].isin([chosen.baseline, chosen.arm])]
    settings = in_order(rows.dropna(subset="harm")["setting"])

    def click(panel: str, x: float, y: float) -> None:
        st.session_state["open setting"] = settings[round(y)]

    code = recipes.suite_harm(chosen, mine.name, _arms(chosen))
    show_figure(
        lambda: suite_figures.harm_forest(rows, (chosen.baseline, chosen.arm)), "suite-harm", rows, chosen.image,
        on_click=click, code=code, files=suite_state.stamp(mine),
    )  # fmt: skip
    st.caption("Click a marker to open that setting's study.")


def table(chosen: Selection, mine: Suite) -> None:
    st.subheader("Every setting", help=GLOSSARY["interval"], anchor="settings")
    rows = _rows(chosen, mine)
    names = ("acc_x", "acc_xc", "harm", "both_correct", "rescue", "delta_len")
    shown = pd.DataFrame({"setting": rows["setting"], "arm": rows["arm"], "regime": rows["regime"].fillna("–")})
    for name in names:
        shown[summary.SHORT[name]] = [f"{100 * value:.1f}" if pd.notna(value) else "–" for value in rows[name]]
    shown["seeds"], shown["n"] = rows["seeds"], rows["n"]
    st.dataframe(
        shown, hide_index=True, key="settings-table", height=_height(shown),
        column_config={
            "setting": st.column_config.TextColumn(pinned=True, width=150, help=GLOSSARY["setting"]),
            "arm": st.column_config.TextColumn(help=GLOSSARY["arm"]),
            "regime": st.column_config.TextColumn(help=GLOSSARY["regime"]),
            "seeds": st.column_config.NumberColumn(help=GLOSSARY["seeds"]),
            "n": st.column_config.NumberColumn(help=GLOSSARY["n_pairs"]),
            **{summary.SHORT[name]: st.column_config.TextColumn(help=GLOSSARY[name]) for name in names},
        },
    )  # fmt: skip
    with below("In %; the intervals are in the file."):
        download_table(rows, "suite-settings")


def ablations(chosen: Selection, mine: Suite) -> None:
    rows = suite_state.ablation_rows(mine, chosen.baseline, chosen.control)
    st.subheader("Which part of the anchor does it?", help=GLOSSARY["ablation"], anchor="ablations")
    show_figure(
        lambda: suite_figures.harm_forest(rows, arm_order(rows["arm"])), "suite-ablations", rows, chosen.image, wide=740,
        code=recipes.suite_ablations(chosen, mine.name), files=suite_state.stamp(mine),
    )  # fmt: skip


def during(chosen: Selection, mine: Suite) -> None:
    st.subheader("During training, mean of the settings", help=GLOSSARY["early"], anchor="training")
    arms = tuple(dict.fromkeys((chosen.baseline, chosen.arm)))
    early = suite_state.early_gap(mine, arms)
    code = recipes.suite_training(mine.name, arms, DURING)
    show_figure(
        lambda: suite_figures.early_gap_curves(early, DURING), "suite-training", early, chosen.image, wide=740,
        code=code, files=suite_state.stamp(mine),
    )  # fmt: skip


def layers(chosen: Selection, mine: Suite) -> None:
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    arms, measure = _arms(chosen), chosen.measure
    drift = suite_state.drift(mine, measure, chosen.control)

    def click(panel: str, x: float, y: float) -> None:
        st.session_state["open setting"] = panel

    code = recipes.suite_drift(chosen, mine.name, arms)
    show_figure(
        lambda: suite_figures.drift_small_multiples(drift, measure, arms, chosen.control), f"suite-drift-{measure}",
        drift, chosen.image, on_click=click, wide=740, code=code, files=suite_state.stamp(mine),
    )  # fmt: skip


def _rows(chosen: Selection, mine: Suite) -> pd.DataFrame:
    return suite_state.setting_rows(mine, _arms(chosen), chosen.control)


def _arms(chosen: Selection) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("base", chosen.baseline, chosen.arm)))


def _height(table: pd.DataFrame) -> int:
    """All rows at once, of a table as long as the twelve settings' three arms; longer ones scroll."""
    return 38 + 35 * min(len(table), 36)


def unheard(chosen: Selection) -> None:
    """Which choices on the left change nothing here, if they were made."""
    made = {
        "Arms": set(chosen.arms) < set(chosen.all_arms),
        "Seeds": chosen.some_seeds is not None,
        "With attention sinks": chosen.sinks,
    }
    names = [name for name, was in made.items() if was]
    if names:
        st.caption(
            f"A suite is shown with all seeds of each setting, without attention sinks, and with base and the two arms "
            f"under Compare: {' and '.join(names)} on the left {'changes' if len(names) == 1 else 'change'} nothing here."
        )


def follow(mine: Suite) -> None:
    """A click on a figure in the run before asked for a setting's study."""
    setting = st.session_state.pop("open setting", None)
    if setting in mine.studies:
        st.switch_page("screens/overview.py", query_params={"study": f"{mine.name}/{setting}"})


#: Tab → its sections. Only the open tab is made and sent: five figures and two tables at once would take a browser long.
VIEWS = {
    "Harm": {"The counts": headline, "The regimes": regimes, "The forest": forest},
    "Every setting": {"The table": table},
    "Ablations": {"The ablations": ablations},
    "Training": {"The training curves": during},
    "Drift by layer": {"The drift": layers},
}


def views_of(mine: Suite) -> list[str]:
    """The tabs' names; a suite without ablations has no tab of them."""
    try:
        some = suite_state.has_ablations(mine)
    except UserError:  # a damaged table: its own section says so
        some = True
    return [view for view in VIEWS if some or view != "Ablations"]


def page(chosen: Selection) -> None:
    st.markdown(
        "A suite is the same comparison in several settings: tasks, model families, kinds of teacher. **Look at how many "
        "settings agree, and at those that do not**; a click opens the study behind a marker."
    )
    mine = choose_suite(chosen)
    if mine is None:
        return
    follow(mine)
    unheard(chosen)
    if chosen.arm == chosen.baseline:
        st.info("Choose two different arms under Compare on the left.", icon=":material/compare_arrows:")
        return
    views = views_of(mine)
    view = linked("view", views, views[0])
    tabs = st.tabs(views, key="view", on_change="rerun")
    with tabs[views.index(view)]:
        for what, draw in VIEWS[view].items():
            with guard(what):
                draw(chosen, mine)


with guard("The suite"):
    page(current())
