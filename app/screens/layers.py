"""Layers: where in the network does the context still change the state?"""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import recipes, summary
from app.address import linked
from app.parts import guard, show_figure
from app.state import Selection, current
from app.words import GLOSSARY, MEASURE_HELP, plain
from cr_interp import figures
from cr_interp.drift_figures import mark_layers
from cr_interp.figure_style import layer_name


def choose_measure(drift: pd.DataFrame) -> tuple[str, bool]:
    found = set(drift["measure"])
    measures = [name for name in figures.MEASURES if name in found] or sorted(found)
    measure = st.pills(
        "Measure", measures, default=measures[0], key="measure", bind="query-params", help=MEASURE_HELP,
        format_func=lambda name: plain(name) if name not in figures.MEASURES else figures.MEASURES[name][0],
    )  # fmt: skip
    movement = st.toggle(
        "Distance from identical, log scale", key="log", bind="query-params", help=GLOSSARY["movement"]
    )
    return measure or measures[0], movement


def cards(chosen: Selection, drift: pd.DataFrame, measure: str) -> None:
    facts = summary.arm_facts(drift, measure, chosen.control)
    word = "Highest" if measure in figures.MOVEMENTS else "Lowest"
    name = figures.MEASURES.get(measure, (measure,))[0]
    st.caption(f"{word} {name} of all layers", help=GLOSSARY["lowest"])
    rows = -(-len(facts) // 4)
    columns = [column for _ in range(rows) for column in st.columns(4)]
    for column, fact in zip(columns, facts, strict=False):
        column.metric(
            plain(fact["arm"]), f"{fact['estimate']:.3f}", border=True,
            delta=f"layer {fact['layer']} · {fact['low']:.3f} to {fact['high']:.3f}",
            delta_color="off", delta_arrow="off",
        )  # fmt: skip


def curves(chosen: Selection, drift: pd.DataFrame, table: pd.DataFrame, measure: str, movement: bool) -> None:
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    layer = linked("layer", list(dict.fromkeys(table["layer"])), None)
    marked = [] if layer is None else [_place(layer)]

    def figure() -> go.Figure:
        made = figures.drift_by_layer(drift, measure, chosen.control, movement=movement, arms=chosen.all_arms)
        mark_layers(made, marked)
        for trace in made.data:
            if trace.name:
                # A click on a curve chooses its layer; what is not clicked must not turn pale.
                trace.update(meta={"panel": trace.name}, unselected={"marker": {"opacity": 1}})
        return made

    code = recipes.drift(chosen, measure, movement, marked)
    show_figure(figure, f"drift-{measure}", table, chosen.image, on_click=click, code=code, files=chosen.files)
    closer(chosen, list(dict.fromkeys(table["layer"])), measure)


def closer(chosen: Selection, layers: list[str], measure: str) -> None:
    """From a layer to its tokens and maps."""
    columns = st.columns([2, 2, 2, 3], vertical_alignment="bottom")
    layer = columns[0].selectbox(
        "Look closer at a layer", layers, index=None, key="layer", placeholder="Click a curve, or choose",
        help=GLOSSARY["layer"],
    )  # fmt: skip
    if layer is None:
        return
    name = "the embedding" if layer == layer_name(-1) else f"layer {layer}"
    token_measure = {"token_measure": measure} if measure in ("cosine", "relative_l2") else {}
    columns[1].page_link(
        "screens/tokens.py", label=f"Tokens at {name}", icon=":material/format_ink_highlighter:",
        query_params=chosen.address(layer=layer, **token_measure),
    )  # fmt: skip
    columns[2].page_link(
        "screens/maps.py", label=f"Maps at {name}", icon=":material/grid_on:",
        query_params=chosen.address(layer_x=layer, layer_y=layer),
    )  # fmt: skip


def click(panel: str, x: float, y: float) -> None:
    st.session_state["layer"] = layer_name(round(x))


def _place(layer: str) -> int:
    return -1 if layer == layer_name(-1) else int(layer)


def difference(chosen: Selection, drift: pd.DataFrame, table: pd.DataFrame, measure: str) -> None:
    if chosen.baseline not in chosen.arms or len(chosen.arms) < 2:
        return
    st.subheader(f"Difference from {plain(chosen.baseline)}", help=GLOSSARY["baseline"], anchor="difference")
    code = recipes.drift_difference(chosen, measure)
    show_figure(
        lambda: figures.drift_difference(drift, chosen.baseline, measure, chosen.control, arms=chosen.all_arms),
        f"difference-{measure}", table, chosen.image, code=code, files=chosen.files,
    )  # fmt: skip


def numbers(chosen: Selection, table: pd.DataFrame) -> None:
    st.subheader("Numbers by layer", help=GLOSSARY["layer"], anchor="numbers")
    wide = table.pivot(index="layer", columns="arm", values="estimate")
    wide = wide.loc[list(dict.fromkeys(table["layer"])), [arm for arm in chosen.arms if arm in wide]]
    st.dataframe(
        wide.reset_index(), hide_index=True, key="layer-table",
        column_config={
            "layer": st.column_config.TextColumn(help=GLOSSARY["layer"], pinned=True),
            **{arm: st.column_config.NumberColumn(format="%.4f") for arm in wide},
        },
    )  # fmt: skip


def page(chosen: Selection) -> None:
    st.markdown(
        "The same response is read twice, once without and once with the context, and the two states of each "
        "token are compared at every layer. **An arm that has internalised the context stays near 1 at every "
        "layer** (near 0 for relative L2); a dip shows where the context still changes what the model computes."
    )
    drift = chosen.drift()
    drift = drift[drift["control"] == chosen.control]
    if drift.empty:
        st.info(
            f"No states were captured for these arms under the {plain(chosen.control)} context. Choose other "
            "arms or another context control on the left.",
            icon=":material/arrow_back:",
        )
        return
    measure, movement = choose_measure(drift)
    table = figures.layer_table(drift, measure, chosen.control)
    for what, draw in (
        ("The summary", lambda: cards(chosen, drift, measure)),
        ("The curves", lambda: curves(chosen, drift, table, measure, movement)),
        ("The difference", lambda: difference(chosen, drift, table, measure)),
        ("The table", lambda: numbers(chosen, table)),
    ):
        with guard(what):
            draw()


with guard("Layer drift"):
    page(current())
