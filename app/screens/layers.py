"""Layers: where in the network does the context still change the state?"""

import shlex

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.address import linked, linked_some
from app.parts import clickable, guard, lacks, show_figure, show_table
from app.queries.state import Selection, controls_of, current
from app.recipes import study as recipes
from app.words import GLOSSARY, measure_name, plain
from cr_interp import figures
from cr_interp.figures.drift import mark_layers
from cr_interp.system.percent import number
from cr_interp.tables.drift import extreme_word
from cr_interp.vocabulary import EMBEDDING, layer_name, layer_words


def choose_look(chosen: Selection) -> tuple[bool, list[str]]:
    """Choose whether the axis is logarithmic, and the controls that stand behind the curves: at first the floor alone."""
    found = set(chosen.drift()["control"]) - {chosen.control}
    there = [name for name in ("floor", "repeat", *controls_of(chosen.study)) if name in found]
    behind = linked_some("behind", there, [name for name in there if name == "floor"])
    movement = linked("log", [False, True], False)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.toggle("Distance from identical, log scale", key="log", help=GLOSSARY["movement"])
        if there:
            st.pills(
                "Behind the curves",
                there,
                selection_mode="multi",
                key="behind",
                wrap=True,
                help=GLOSSARY["behind"],
            )
    return movement, behind


def cards(chosen: Selection) -> None:
    facts = chosen.extremes().to_dict("records")
    word = extreme_word(chosen.measure)
    st.caption(f"{plain(measure_name(chosen.measure))}, {word} of all layers", help=GLOSSARY["lowest"])
    rows = -(-len(facts) // 4)
    columns = [column for _ in range(rows) for column in st.columns(4)]
    for column, fact in zip(columns, facts, strict=False):
        column.metric(
            plain(fact["arm"]),
            number(fact["estimate"]),
            border=True,
            delta=f"layer {fact['layer']} · {number(fact['low'])} to {number(fact['high'])}",
            delta_color="off",
            delta_arrow="off",
        )


def curves(chosen: Selection, marked: list[int], movement: bool, behind: list[str]) -> None:
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    drift, table = chosen.drift(), chosen.layer_table()
    patched = matters(chosen)

    def figure() -> go.Figure:
        made = figures.drift_by_layer(
            drift, chosen.measure, chosen.control, movement=movement, arms=chosen.all_arms, behind=behind
        )
        made = clickable(mark_layers(made, marked))
        return made if patched is None else figures.below(made, patched, list(chosen.all_arms))

    numbers = [chosen.layer_table(name).assign(control=name) for name in (chosen.control, *behind)]
    left, right = st.columns([4, 1])
    with left:
        show_figure(
            figure,
            f"drift-{chosen.measure}",
            pd.concat(numbers),
            chosen.image,
            on_click=click,
            code=recipes.drift(chosen, movement, marked, behind, patched is not None),
            files=chosen.files,
        )
        if patched is None:
            st.caption(
                "Patching says whether a layer that moves also matters. This study has none: "
                f"`cr-interp explain {shlex.quote(chosen.name)} --analyses patching` adds it where the checkpoints are."
            )
    with right:
        closer(chosen, list(dict.fromkeys(table["layer"])))


def matters(chosen: Selection) -> pd.DataFrame | None:
    """Return the study's patching of the chosen arms and seeds; None without the table."""
    return chosen.mechanism("patching") if chosen.study.has_table("patching") else None


def closer(chosen: Selection, layers: list[str]) -> None:
    """Draw, beside the figure, one layer in every arm, and from there the way to its tokens and maps."""
    st.subheader("This layer", help=GLOSSARY["layer"], anchor="layer")
    layer = st.selectbox(
        "Look closer at a layer",
        layers,
        index=None,
        key="closer",
        placeholder="Click a curve, or choose",
        help=GLOSSARY["layer"],
    )
    if layer is None:
        st.caption("Click a curve, or choose a layer here.")
        return
    table = chosen.layer_table()
    there = table[table["layer"] == layer]
    ends = [f"{number(row.estimate)} [{number(row.low)}, {number(row.high)}]" for row in there.itertuples()]
    shown = pd.DataFrame({"arm": list(there["arm"]), measure_name(chosen.measure): ends})
    show_table(shown, f"every arm at {layer_words(_place(layer))}")
    name = layer_words(_place(layer))
    of_tokens = {"token_measure": chosen.measure} if chosen.measure in ("cosine", "relative_l2") else {}
    st.page_link(
        "screens/tokens.py",
        label=f"Tokens at {name}",
        icon=":material/format_ink_highlighter:",
        query_params=chosen.address(layer=layer, **of_tokens),
    )
    st.page_link(
        "screens/maps.py",
        label=f"Maps at {name}",
        icon=":material/grid_on:",
        query_params=chosen.address(layer_x=layer, layer_y=layer),
    )


def click(panel: str, x: float, y: float) -> None:
    st.session_state["closer"] = layer_name(round(x))


def _place(layer: str) -> int:
    return EMBEDDING if layer == layer_name(EMBEDDING) else int(layer)


def difference(chosen: Selection, marked: list[int]) -> None:
    if chosen.baseline not in chosen.arms or len(chosen.arms) < 2:
        return
    st.subheader(f"Difference from {plain(chosen.baseline)}", help=GLOSSARY["baseline"], anchor="difference")

    def figure() -> go.Figure:
        made = figures.drift_difference(
            chosen.drift(), chosen.baseline, chosen.measure, chosen.control, arms=chosen.all_arms
        )
        return clickable(mark_layers(made, marked))

    show_figure(
        figure,
        f"difference-{chosen.measure}",
        chosen.layer_table(),
        chosen.image,
        on_click=click,
        code=recipes.drift_difference(chosen, marked),
        files=chosen.files,
    )


def numbers(chosen: Selection) -> None:
    st.subheader("Numbers by layer", help=GLOSSARY["layer"], anchor="numbers")
    table = chosen.layer_table()
    wide = table.pivot(index="layer", columns="arm", values="estimate")
    wide = wide.loc[list(dict.fromkeys(table["layer"])), [arm for arm in chosen.arms if arm in wide]]
    show_table(
        wide.reset_index(),
        f"{measure_name(chosen.measure)} of each layer and arm",
        help_of={"layer": GLOSSARY["layer"]},
        formats={arm: ".4f" for arm in wide},
        height=380,
    )


def page(chosen: Selection) -> None:
    st.markdown(
        "The same response is read twice, once without and once with the context, and the two states of each "
        "token are compared at every layer. **Near 1 the context hardly moves the state: robust and deaf look alike** (for "
        "relative L2 and relative to the floor, near 0). A curve alone does not say whether an arm has internalised the context: "
        "look at the answers, and, below the curve, at what repairs them."
    )
    if lacks(chosen, "drift", "measured states"):
        return
    table = chosen.layer_table()
    if table.empty:
        st.info(
            f"No {plain(measure_name(chosen.measure))} of these arms was measured under the {plain(chosen.control)} "
            "context. Choose another measure, other arms or another context control on the left.",
            icon=":material/arrow_back:",
        )
        return
    movement, behind = choose_look(chosen)
    layer = linked("closer", list(dict.fromkeys(table["layer"])), None, name="layer")
    marked = [] if layer is None else [_place(layer)]
    for what, draw in (
        ("The summary", lambda: cards(chosen)),
        ("The curves", lambda: curves(chosen, marked, movement, behind)),
        ("The difference", lambda: difference(chosen, marked)),
        ("The table", lambda: numbers(chosen)),
    ):
        with guard(what):
            draw()


with guard("Layer drift"):
    page(current())
