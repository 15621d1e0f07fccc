"""Suite: in how many of the settings does the claim hold, and which are they?"""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.address import linked
from app.context_line import line
from app.parts import below, download_table, guard, show_figure
from app.queries import suite_state
from app.recipes import study as recipes
from app.sidebar import default_pair
from app.words import GLOSSARY, MEASURE_HELP, measure_name, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures.suite import by_effect
from cr_interp.report.suite import said_of_differences
from cr_interp.system.percent import percent
from cr_interp.tables.claims import count_claims, count_fairly, said_fairly, said_price
from cr_interp.tables.suite import Suite, find_suites, in_order, open_suite
from cr_interp.vocabulary import MEASURES, METRICS, arm_order, judged_first

NO_SUITE = """
**No suite was found.** A suite is a folder of studies, one for each setting; it is looked for where studies are. The command
below makes one of the paper's twelve settings. Where organisms for some of them are missing, it first says which settings can
be run; name these with `--settings`.
"""
SKELETON = (
    "<div aria-hidden='true' style='height: 22rem; display: grid; gap: 0.7rem'>"
    + "".join(
        f"<div style='background: rgba(128,128,128,0.13); border-radius: 6px; width: {width}%'></div>"
        for width in (62, 100, 88, 94, 71, 97, 80)
    )
    + "</div>"
)
#: Curves of the page's training figure.
DURING = ("acc_x", "acc_xc", "harm")


@dataclass(frozen=True)
class Chosen:
    """The choices of this page: a suite is about no single study, so nothing comes from the left."""

    arm: str
    baseline: str
    control: str
    measure: str
    image: str


def choose_suite() -> Suite | None:
    """Choose the suite: the one that the study last looked at belongs to comes first."""
    suites = find_suites()
    if not suites:
        st.info(NO_SUITE, icon=":material/folder_off:")
        st.code("cr-interp suite", language="bash")
        return None
    own = str(st.session_state.get("study", "")).partition("/")[0]
    names = sorted(suites, key=lambda name: (name != own, name))
    asked = st.query_params.get("suite")
    if asked is not None and asked not in suites:
        st.error(
            f"The link asks for the suite **{plain(asked)}**, which is not here.", icon=":material/link_off:"
        )
        for name in names:
            st.page_link(
                "screens/suite.py", label=plain(name), icon=":material/folder_open:", query_params={"suite": name}
            )
        return None
    name = linked("suite", names, names[0], always=True)
    if len(names) > 1:
        st.selectbox("Suite", names, key="suite", help=GLOSSARY["suite"])
    return open_suite(suites[name])


def choose(mine: Suite, view: str) -> Chosen:
    """Choose the two arms, the context and (for the drift) the measure, of those that any setting has."""
    there = suite_state.there(mine)
    every = list(there.arms) or ["–"]
    first, second = default_pair(list(there.arms))
    arm = linked("suite_arm", every, every[first], name="arm")
    baseline = linked("suite_baseline", every, every[second], name="baseline")
    controls = list(there.controls) or ["exact"]
    control = linked("suite_control", controls, controls[0], name="control")
    measure = linked("suite_measure", list(MEASURES), "cosine", name="measure")
    columns = st.columns([2, 2, 2, 2])
    columns[0].selectbox("Arm", every, key="suite_arm", help=GLOSSARY["arm"])
    columns[1].selectbox("Baseline", every, key="suite_baseline", help=GLOSSARY["baseline"])
    columns[2].selectbox("Context control", controls, key="suite_control", help=GLOSSARY["control"])
    if view == "Drift by layer":
        columns[3].selectbox(
            "Measure", list(MEASURES), key="suite_measure", help=MEASURE_HELP, format_func=measure_name
        )
    return Chosen(arm, baseline, control, measure, str(st.session_state.get("image", "svg")))


def headline(chosen: Chosen, mine: Suite) -> None:
    """Say what there was to repair and what became of it, with the differences that say so."""
    arm, baseline = chosen.arm, chosen.baseline
    compared = suite_state.comparisons(mine, arm, baseline, chosen.control)
    if compared.empty:
        st.info(
            f"No setting has answers of both {plain(arm)} and {plain(baseline)} under the {plain(chosen.control)} "
            "context. Choose other arms above.",
            icon=":material/compare_arrows:",
        )
        return
    fair = count_fairly(compared)
    st.subheader(f"In how many settings does {plain(arm)} reduce Harm?", help=GLOSSARY["harm"], anchor="counts")
    with st.container(border=True):
        st.markdown(f"**Did it help?** {plain(said_fairly(fair, arm, baseline))}")
        st.markdown(f"**At what price?** {plain(said_price(compared))}")
        st.markdown(f"**Where is it decided?** {plain(decided(mine))}")
        parts = (
            ("Repaired", fair.repaired),
            ("Open", fair.left_open),
            ("Worsened", fair.worsened),
            ("Added", fair.newly_harmed),
        )
        named = [f"{word}: {', '.join(in_order(which))}." for word, which in parts if which]
        st.caption(
            plain(
                f"Harmed: the 95 % interval of {baseline}'s Harm lies above its floor. Repaired, worsened: the interval of the "
                f"paired difference lies below 0, above 0. Intervals: {said_of_differences(compared)}. {' '.join(named)}"
            )
        )

    def click(panel: str, x: float, y: float) -> None:
        st.session_state["open setting"] = by_effect(compared)["setting"].iloc[round(y)]

    code = recipes.suite_differences(chosen, mine.name)
    show_figure(
        lambda: figures.difference_forest(compared, arm, baseline),
        "suite-differences",
        compared,
        chosen.image,
        on_click=click,
        code=code,
        files=suite_state.stamp(mine),
    )
    st.caption("Click a marker to open that setting's study.")
    counted(chosen, compared)
    unfinished(mine)


def decided(mine: Suite) -> str:
    """Say in how many settings patching says where flips are decided; each setting's own study says where."""
    patched = in_order([name for name, study in mine.studies.items() if study.has_table("patching")])
    if not patched:
        return "Not measured in any setting. The tab Drift by layer says where states move most, which may be elsewhere."
    return f"Measured in {len(patched)} of {len(mine.studies)} settings, each on its own first page: {', '.join(patched)}."


def counted(chosen: Chosen, compared: pd.DataFrame) -> None:
    """Draw every count, one by one, when the section is opened."""
    more = st.expander("Every claim that can be counted", key="claims", on_change="rerun")
    if not more.open:
        return
    counts = count_claims(compared, chosen.arm, chosen.baseline)
    shown = pd.DataFrame(
        {
            "settings": [f"{row.k} of {row.of}" for row in counts.itertuples()],
            "claim": counts["claim"],
            "which": [", ".join(in_order(row.settings)) or "–" for row in counts.itertuples()],
        }
    )
    with more:
        st.dataframe(
            shown,
            hide_index=True,
            key="counts-table",
            height=_height(shown),
            column_config={
                "claim": st.column_config.TextColumn(width="large", help=GLOSSARY["claim"]),
                "settings": st.column_config.TextColumn(width="small", help=GLOSSARY["of"]),
                "which": st.column_config.TextColumn(help=GLOSSARY["setting"]),
            },
        )
        several = bool((compared["seeds"] > 1).any())  # NumPy's own cannot be a factor of a text
        with below(
            f"{chosen.arm} minus {chosen.baseline}, paired over examples{' and seeds' * several}; intervals: "
            f"{said_of_differences(compared)}; context: {chosen.control}."
        ):
            download_table(compared, "suite-comparisons")


def left_out(mine: Suite) -> None:
    """Say which settings cannot be opened, and why: they are in none of the tables."""
    for setting, why in mine.broken.items():
        st.warning(f"{plain(setting)} is left out: {plain(why)}", icon=":material/broken_image:")


def unfinished(mine: Suite) -> None:
    lacking = suite_state.lacking(mine)
    if lacking:
        listed = "\n".join(f"- {plain(name)}: {plain(reason)}" for name, reason in lacking.items())
        with st.expander(f"{len(lacking)} settings are not, or not wholly, in these tables"):
            st.markdown(listed)


def regimes(chosen: Chosen, mine: Suite) -> None:
    st.subheader("What the context's return does", help=GLOSSARY["regime"], anchor="regimes")
    rows = _rows(chosen, mine)

    def click(panel: str, x: float, y: float) -> None:
        near = rows[rows["arm"] == panel]
        distance = (near["harm"] - x).abs() + (100 * near["acc_change"] - y).abs()
        if len(near):
            st.session_state["open setting"] = near.loc[distance.idxmin(), "setting"]

    code = recipes.suite_regimes(chosen, mine.name, _arms(chosen))
    show_figure(
        lambda: figures.regime_scatter(rows, chosen.baseline, chosen.arm),
        "suite-regimes",
        rows,
        chosen.image,
        wide=640,
        on_click=click,
        code=code,
        files=suite_state.stamp(mine),
    )


def forest(chosen: Chosen, mine: Suite) -> None:
    st.subheader("Harm by setting", help=GLOSSARY["harm"], anchor="harm")
    rows = _rows(chosen, mine)
    rows = rows[rows["arm"].isin([chosen.baseline, chosen.arm])]
    settings = in_order(rows.dropna(subset="harm")["setting"])

    def click(panel: str, x: float, y: float) -> None:
        st.session_state["open setting"] = settings[round(y)]

    code = recipes.suite_harm(chosen, mine.name, _arms(chosen))
    show_figure(
        lambda: figures.harm_forest(rows, (chosen.baseline, chosen.arm)),
        "suite-harm",
        rows,
        chosen.image,
        on_click=click,
        code=code,
        files=suite_state.stamp(mine),
    )


def table(chosen: Chosen, mine: Suite) -> None:
    st.subheader("Every setting", help=GLOSSARY["interval"], anchor="settings")
    rows = _rows(chosen, mine)
    names = judged_first()
    shown = pd.DataFrame({"setting": rows["setting"], "arm": rows["arm"], "regime": rows["regime"].fillna("–")})
    for name in names:
        shown[METRICS[name].short] = [percent(value) for value in rows[name]]
    shown["seeds"], shown["n"] = rows["seeds"], rows["n"]
    st.dataframe(
        shown,
        hide_index=True,
        key="settings-table",
        height=_height(shown),
        column_config={
            "setting": st.column_config.TextColumn(pinned=True, width=150, help=GLOSSARY["setting"]),
            "arm": st.column_config.TextColumn(help=GLOSSARY["arm"]),
            "regime": st.column_config.TextColumn(help=GLOSSARY["regime"]),
            "seeds": st.column_config.NumberColumn(help=GLOSSARY["seeds"]),
            "n": st.column_config.NumberColumn(help=GLOSSARY["n_pairs"]),
            **{
                METRICS[name].short: st.column_config.TextColumn(help=GLOSSARY.get(name, METRICS[name].axis))
                for name in names
            },
        },
    )
    with below("In %; the intervals are in the file."):
        download_table(rows, "suite-settings")


def ablations(chosen: Chosen, mine: Suite) -> None:
    rows = suite_state.ablation_rows(mine, chosen.baseline, chosen.control)
    st.subheader("Which part of the anchor does it?", help=GLOSSARY["ablation"], anchor="ablations")
    st.caption(
        "Each other arm changes one thing of the anchor: its weight β, whether its target is frozen (stop-gradient), the "
        "direction of its divergence, or its target (the teacher instead of the view without the context). If it does as well "
        "as the anchor itself, that thing is not what helps."
    )
    show_figure(
        lambda: figures.harm_forest(rows, arm_order(rows["arm"])),
        "suite-ablations",
        rows,
        chosen.image,
        wide=740,
        code=recipes.suite_ablations(chosen, mine.name),
        files=suite_state.stamp(mine),
    )


def during(chosen: Chosen, mine: Suite) -> None:
    st.subheader("During training, mean of the settings", help=GLOSSARY["early"], anchor="training")
    arms = tuple(dict.fromkeys((chosen.baseline, chosen.arm)))
    early = suite_state.early_gap(mine, arms)
    code = recipes.suite_training(mine.name, arms, DURING)
    show_figure(
        lambda: figures.early_gap_curves(early, DURING),
        "suite-training",
        early,
        chosen.image,
        wide=740,
        code=code,
        files=suite_state.stamp(mine),
    )


def layers(chosen: Chosen, mine: Suite) -> None:
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    arms, measure = _arms(chosen), chosen.measure
    drift = suite_state.drift(mine, measure, chosen.control)

    def click(panel: str, x: float, y: float) -> None:
        st.session_state["open setting"] = panel

    code = recipes.suite_drift(chosen, mine.name, arms)
    show_figure(
        lambda: figures.drift_small_multiples(drift, measure, arms, chosen.control),
        f"suite-drift-{measure}",
        drift,
        chosen.image,
        on_click=click,
        wide=740,
        code=code,
        files=suite_state.stamp(mine),
    )


def _rows(chosen: Chosen, mine: Suite) -> pd.DataFrame:
    return suite_state.setting_rows(mine, _arms(chosen), chosen.control)


def _arms(chosen: Chosen) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("base", chosen.baseline, chosen.arm)))


def _height(table: pd.DataFrame) -> int:
    """Return the height that shows all rows of a table at once, up to the twelve settings' three arms; longer tables scroll."""
    return 38 + 35 * min(len(table), 36)


def follow(mine: Suite) -> None:
    """Follow a click on a figure in the run before, which asked for a setting's study."""
    setting = st.session_state.pop("open setting", None)
    if setting in mine.studies:
        st.switch_page("screens/overview.py", query_params={"study": f"{mine.name}/{setting}"})


#: Tab → its sections. Only the open tab is made and sent: five figures and two tables at once would take a browser long.
VIEWS = {
    "Harm": {"The counts": headline, "The forest": forest},
    "Regimes": {"The regimes": regimes},
    "Every setting": {"The table": table},
    "Ablations": {"The ablations": ablations},
    "Training": {"The training curves": during},
    "Drift by layer": {"The drift": layers},
}


def views_of(mine: Suite) -> list[str]:
    """Return the tabs' names; a suite without ablations has no tab of them."""
    try:
        some = suite_state.has_ablations(mine)
    except UserError:  # a damaged table: its own section says so
        some = True
    return [view for view in VIEWS if some or view != "Ablations"]


def page() -> None:
    head = st.container()
    st.markdown(
        "A suite is the same comparison in several settings: tasks, model families, kinds of teacher. **Look at where the "
        "baseline is harmed, and at what becomes of it**; a click opens the study behind a marker."
    )
    mine = choose_suite()
    if mine is None:
        return
    left_out(mine)
    follow(mine)
    views = views_of(mine)
    view = linked("view", views, views[0])
    chosen = choose(mine, view)
    with head:
        compared = ("compared", f"{chosen.arm} with {chosen.baseline}")
        line([("suite", mine.name), ("settings", str(len(mine.studies))), compared, ("context", chosen.control)])
    if chosen.arm == chosen.baseline:
        st.info("Choose two different arms above.", icon=":material/compare_arrows:")
        return
    tabs = st.tabs(views, key="view", on_change="rerun")
    with tabs[views.index(view)]:
        # What comparing all settings takes is seen to be under way: grey bars where the first figure will stand.
        cold = st.empty()
        cold.html(SKELETON)
        for what, draw in VIEWS[view].items():
            with guard(what), st.spinner("Comparing the settings …"):
                draw(chosen, mine)
            cold.empty()


with guard("The suite"):
    page()
