"""Mechanism: why does an answer flip, and where in the network is it decided?"""

import shlex
from functools import partial
from inspect import signature
from typing import Any

import pandas as pd
import streamlit as st

from app.address import linked
from app.mechanism_tabs import Tab, drawing, there
from app.parts import guard, lacks, show_figure
from app.queries.state import Selection, current, table
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures.flips import flips as flips_figure
from cr_interp.figures.mechanism import ORDER
from cr_interp.study.rows import rows_of
from cr_interp.system.percent import number
from cr_interp.tables.claims import ALPHA
from cr_interp.tables.interval_words import between
from cr_interp.tables.patching import CONTROLS, DIRECTIONS, READOUTS, cell_examples
from cr_interp.tables.patching_claims import patching_claims
from cr_interp.vocabulary import EMBEDDING, layer_name, layer_words

#: Examples that are listed beside a cell.
LISTED = 60


def decided(chosen: Selection) -> None:
    """Draw the heat map of recovered shares above the drift of the same arms, and the examples behind a cell."""
    patching = chosen.mechanism("patching")
    if patching.empty:
        raise UserError("These arms and seeds were not patched. Choose others on the left.")
    group, direction, readout = choose(patching)
    drift = chosen.study.has_table("drift")
    shown = chosen.patched(group, direction, readout)
    if not (shown["control"] == "none").any():
        st.info(f"No {plain(group)} answers were patched in this direction.", icon=":material/filter_alt_off:")
        return
    left, right = st.columns([3, 1])
    code = recipes.decided(chosen, group, direction, readout, drift)
    with left:
        st.subheader("Recovered share, and how far states move", help=GLOSSARY["recovered"], anchor="decided")
        show_figure(
            lambda: figures.decided(
                patching,
                rows_of(table(chosen.study, "drift"), chosen.arms, chosen.some_seeds) if drift else None,
                group,
                direction,
                readout,
            ),
            "decided",
            shown,
            chosen.image,
            on_click=lambda arm, x, y: click(shown, arm, x, y),
            wide=260 * shown["arm"].nunique() + 120,
            code=code,
            files=chosen.files,
        )
        present = set(shown["arm"])
        absent = [arm for arm in chosen.arms if arm not in present]
        if absent:
            st.caption(f"No {plain(group)} answers of {plain(', '.join(absent))} were patched.")
    with right, guard("The examples"):
        cell(chosen, shown, group, direction, readout)


def choose(patching: pd.DataFrame) -> tuple[str, str, str]:
    there = {str(name) for name in patching["group"].unique()}
    groups: list[str] = [name for name in ("harmed", "rescued", "kept", "changed") if name in there]
    groups += sorted(there - set(groups))
    found = set(patching["direction"].unique())
    directions = [name for name in DIRECTIONS if name in found] or list(DIRECTIONS)
    group = linked("patched_group", groups, groups[0])
    direction = linked("direction", directions, directions[0])
    readout = linked("readout", list(READOUTS), "share")
    with st.container(horizontal=True, gap="medium"):
        st.segmented_control("Answers", groups, key="patched_group", required=True, help=GLOSSARY["group"])
        st.segmented_control("Direction", directions, key="direction", required=True, help=GLOSSARY["direction"])
        st.segmented_control("Read-out", list(READOUTS), key="readout", required=True, help=GLOSSARY["readout"])
    st.caption(
        "A patch may repair harmed answers by a shift towards one class, without knowing the answer. Then it also breaks kept "
        "ones: look at *kept* beside *harmed* before saying that a layer decides."
    )
    return group, direction, readout


def click(shown: pd.DataFrame, arm: str, x: float, y: float) -> None:
    """Choose the cell that was clicked; a click on the curve below it means the residual stream of that layer."""
    sites = sites_of(shown)
    site = sites[round(y)] if float(y) == round(y) and 0 <= round(y) < len(sites) else "resid_post"
    st.session_state["cell"] = f"{arm}/{site}/{layer_name(round(x))}"


def sites_of(shown: pd.DataFrame) -> list[str]:
    """List the sites in the order in which they go up the figure."""
    there = set(shown["site"])
    return [site for site in ORDER if site in there] + sorted(there - set(ORDER))


def cell(chosen: Selection, shown: pd.DataFrame, group: str, direction: str, readout: str) -> None:
    """Draw what one cell says: its number beside its controls, and the examples that it repairs. At first the cell
    that the first page names, where it can: one example repairs anywhere, or nowhere."""
    real = shown[(shown["control"] == "none") & shown["estimate"].notna()]
    names = {f"{row.arm}/{row.site}/{layer_name(row.place)}": row for row in real.itertuples()}
    most = real[real["n_most"] == real["n_most"].max()]
    best = most.loc[most["estimate"].idxmax()]
    default = cell_name(best)
    first = chosen.deciding([group], direction)
    if first is not None and cell_name(first) in names:
        default = cell_name(first)
    name = linked("cell", list(names), default)
    st.subheader("This cell", help=GLOSSARY["patched_cell"], anchor="cell")
    st.selectbox("Arm / site / layer", list(names), key="cell", help=GLOSSARY["patched_cell"])
    row = names[name]
    there = shown[(shown["arm"] == row.arm) & (shown["site"] == row.site) & (shown["place"] == row.place)]
    beside = [
        f"{CONTROLS[each.control]}: {number(each.estimate, 2)}"
        for each in there.itertuples()
        if each.control in CONTROLS and each.control != "none"
    ]
    st.markdown(
        f"**{number(row.estimate, 2)}** {between(row.low, row.high)}, {plain(READOUTS[readout])}, {counted(row)}. "
        f"{'Controls: ' if beside else ''}{plain('; '.join(beside)) or 'No control was measured'}."
    )
    claimed(chosen, row, group, direction)
    listed(chosen, row, group, direction)
    st.page_link(
        "screens/layers.py",
        label=f"Drift at {layer_words(row.place)}",
        icon=":material/layers:",
        query_params=chosen.address(layer=layer_name(row.place)),
    )


def cell_name(row: pd.Series) -> str:
    return f"{row['arm']}/{row['site']}/{layer_name(row['place'])}"


def claimed(chosen: Selection, row: object, group: str, direction: str) -> None:
    """Say whether this place may be named although it was looked for among all."""
    if not chosen.study.has_table("patching_examples"):
        return
    found = chosen.once(
        "patching claims",
        lambda: patching_claims(chosen.mechanism("patching_examples"), group, direction),
        group,
        direction,
    )
    place = (getattr(row, "arm", ""), getattr(row, "site", ""), getattr(row, "place", EMBEDDING))
    mine = found[(found["arm"] == place[0]) & (found["site"] == place[1]) & (found["place"] == place[2])]
    if len(mine) and pd.notna(mine["p"].iloc[0]):
        seeds = "in every seed" if mine["seeds"].iloc[0] > 1 else "in this run"
        p = float(mine["p"].iloc[0])
        st.caption(
            f"{'More' if p <= ALPHA else 'It is not shown that more'} whole answers follow than with either control, {seeds}: "
            f"p = {p:.3f} at most, by one permutation for all places."
        )


def counted(row: Any) -> str:
    """Say ``12 examples``, or ``20 to 64 examples a seed``."""
    ends = " to ".join(str(int(n)) for n in dict.fromkeys((row.n_examples, row.n_most)))
    return f"{ends} example{'s' * (ends != '1')}{' a seed' * (row.seeds > 1)}"


def listed(chosen: Selection, row: object, group: str, direction: str) -> None:
    if not chosen.study.has_table("patching_examples"):
        st.caption("The study has no table of single examples here.")
        return
    place = getattr(row, "place", EMBEDDING)
    arm, site = str(getattr(row, "arm", "")), str(getattr(row, "site", ""))
    found = chosen.once(
        "cell examples",
        lambda: cell_examples(chosen.mechanism("patching_examples"), arm, site, place, group, direction),
        arm,
        site,
        place,
        group,
        direction,
    )
    if found.empty:
        st.caption("No single examples are kept of this cell.")
        return
    st.caption(f"{int(found['follows'].sum())} of {len(found)} whole answers follow. Select one to read it.")
    texts = prompts(chosen)
    shown = found.head(LISTED).assign(
        prompt=found["example_id"].map(texts), follows=found["follows"].map({True: "✓", False: "✗"})
    )
    event = st.dataframe(
        shown[["follows", "share", "prompt", "seed", "example_id"]],
        hide_index=True,
        key="cell-examples",
        on_select="rerun",
        selection_mode="single-row",
        height=min(38 + 35 * len(shown), 330),
        column_config={
            "share": st.column_config.NumberColumn(format="%.2f"),
            "follows": st.column_config.TextColumn(""),
        },
    )
    picked = event["selection"]["rows"]
    if picked and picked[0] < len(shown):
        example = shown.iloc[picked[0]]
        st.page_link(
            "screens/examples.py",
            label="Its answers",
            icon=":material/compare:",
            query_params=chosen.address(case_arm=arm, cases="all", only=example["example_id"]),
        )


def prompts(chosen: Selection) -> dict[str, str]:
    if not chosen.study.has_table("generations"):
        return {}
    return chosen.once(
        "prompts",
        lambda: dict(
            chosen.generations().drop_duplicates("example_id")[["example_id", "prompt"]].itertuples(index=False)
        ),
    )


def plain_tab(chosen: Selection, tab: Tab) -> None:
    """Draw a tab whose figures are made of its table alone; a table that nothing draws yet is shown as it is."""
    rows = chosen.mechanism(tab.table)
    if rows.empty:
        raise UserError("These arms and seeds have no rows in this analysis. Choose others on the left.")
    options = options_of(tab, rows)
    for heading, where in tab.figures.items():
        draw = drawing(where)
        st.subheader(heading, help=tab.asks, anchor=where.partition(":")[2].replace("_", "-"))
        if draw is None:
            st.dataframe(rows.head(LISTED * 10), hide_index=True, key=f"{tab.table}-rows")
            continue
        with guard(heading):
            own = {name: value for name, value in options.items() if name in signature(draw).parameters}
            more = {name: table for name, table in tab.beside.items() if chosen.study.has_table(table)}
            code = recipes.of_table(chosen, tab.table, where, more, **own)
            tables = {name: chosen.mechanism(table) for name, table in more.items()}
            show_figure(
                partial(draw, rows, **tables, **own),
                f"{tab.table}-{where.partition(':')[2]}",
                rows,
                chosen.image,
                code=code,
                wide=560,
                files=chosen.files,
            )


def flips(chosen: Selection, tab: Tab) -> None:
    """Draw whether an example's drift tells that its answer flips, from what every study has."""
    if lacks(chosen, "generations", "responses"):
        return
    found = chosen.flips()
    if found.empty:
        st.info(
            "In each of these runs all answers flip or none does, so drift has nothing to tell apart. Choose other arms.",
            icon=":material/filter_alt_off:",
        )
        return
    (heading,) = tab.figures
    st.subheader(heading, help=tab.asks, anchor="flips")
    show_figure(
        lambda: flips_figure(found),
        "flips",
        found,
        chosen.image,
        code=recipes.flips(chosen),
        wide=560,
        files=chosen.files,
    )


def options_of(tab: Tab, rows: pd.DataFrame) -> dict[str, str]:
    """Return the chosen value of each column of which one is shown, in the order of the table."""
    options: dict[str, str] = {}
    draws = [draw for draw in map(drawing, tab.figures.values()) if draw is not None]
    defaults = {name: each.default for draw in draws for name, each in signature(draw).parameters.items()}
    with st.container(horizontal=True, gap="medium"):
        for column in tab.choices:
            found = rows[column].dropna().unique() if column in rows else []
            values = [str(value) for value in found if value not in tab.without]
            if values:
                key = f"{tab.table}_{column}"
                usual = [defaults[column]] if defaults.get(column) in values else values
                options[column] = linked(key, values, usual[0])
                if len(values) > 1:
                    st.segmented_control(
                        column.replace("_", " ").capitalize(),
                        values,
                        key=key,
                        required=True,
                        help=GLOSSARY.get(column, tab.asks),
                    )
    return options


def missing(chosen: Selection, tab: Tab) -> bool:
    """Tell whether the study lacks the tab's table. Says what it would answer, and the command that fills it."""
    if not lacks(chosen, tab.table, f"table “{tab.table}”"):
        return False
    st.caption(
        "The analysis reads the checkpoints, which the command looks for in the study's folder "
        f"(`{shlex.quote(chosen.name)}`); `cr-interp reproduce` trains them again where they are not kept."
    )
    return True


def page(chosen: Selection) -> None:
    st.markdown(
        "Other pages show that states move when the context returns; here a state is exchanged, cut or read, and the answer "
        "says whether it mattered. **The layer that moves most need not be the one that decides**: compare the heat map with "
        "the curve below it, and both with the controls."
    )
    tabs = there()
    names = list(tabs)
    view = linked("tab", names, names[0])
    st.pills(
        "Question",
        names,
        key="tab",
        required=True,
        wrap=True,
        format_func=lambda name: tabs[name].title,
        help=GLOSSARY["mechanism"],
    )
    tab = tabs[view]
    st.caption(tab.asks)
    if missing(chosen, tab):
        return
    with guard(tab.title):
        if view == "decided":
            decided(chosen)
        elif view == "flips":
            flips(chosen, tab)
        else:
            plain_tab(chosen, tab)


with guard("The mechanism"):
    page(current())
