"""Maps: which layers resemble each other, within a checkpoint, across the two views, and across checkpoints?"""

from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.address import linked
from app.parts import guard, lacks, show_figure, show_table
from app.queries.state import Selection, current, measures_of
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import maps as map_figures
from cr_interp.figures.drift import mark_layers
from cr_interp.vocabulary import EMBEDDING, layer_name, layer_words

#: How narrow three maps side by side may get, in pixels.
WIDE = 740
#: Above this most cells have one colour on the scale from 0 to 1.
CLOSE = 0.9


def choose_map(chosen: Selection, kinds: list[str]) -> tuple[str, str]:
    kind = linked("map", kinds, kinds[0])
    scale = linked("colour", list(map_figures.SCALES), telling_scale(chosen.map_table(kind)["cka"]))
    st.pills(
        "Map",
        kinds,
        key="map",
        help=GLOSSARY["map"],
        required=True,
        wrap=True,
        format_func=lambda name: plain(map_figures.kind_of(name).name),
    )
    st.segmented_control(
        "Colour",
        list(map_figures.SCALES),
        key="colour",
        format_func=map_figures.SCALES.__getitem__,
        help=GLOSSARY["map_colour"],
        required=True,
    )
    return kind, scale


def telling_scale(cka: pd.Series) -> str:
    """Return the colour that tells cells apart: the distance from 1 where most of them are close to it."""
    return "distance" if len(cka) and cka.median() > CLOSE else "value"


def choose_cell(rows: pd.DataFrame) -> tuple[int, int] | None:
    """Choose the pair of layers that the URL or a click names; the select boxes for it are drawn further down."""
    across, up = (linked(key, _names(rows[key]), None) for key in ("layer_x", "layer_y"))
    return None if across is None or up is None else (_place(across), _place(up))


def _names(places: pd.Series) -> list[str]:
    return [layer_name(place) for place in sorted(set(places))]


def _place(name: str) -> int:
    return EMBEDDING if name == layer_name(EMBEDDING) else int(name)


def click(panel: str, x: float, y: float) -> None:
    st.session_state["layer_x"], st.session_state["layer_y"] = layer_name(int(x)), layer_name(int(y))


def panels(
    chosen: Selection, table: pd.DataFrame, kind: str, scale: str, cell: tuple[int, int] | None, seeds: pd.Series
) -> None:
    st.subheader("Side by side", help=GLOSSARY["map"], anchor="maps")
    show_figure(
        lambda: map_figures.map_panels(table, kind, scale, cell, seeds),
        f"map-{_file(kind)}",
        table,
        chosen.image,
        on_click=click,
        wide=WIDE,
        code=recipes.maps(chosen, kind, scale, cell),
        files=chosen.files,
    )


def side_by_side(
    chosen: Selection, table: pd.DataFrame, kind: str, scale: str, cell: tuple[int, int] | None, seeds: pd.Series
) -> None:
    """Draw the maps and their differences, and at their right what a click on either says."""
    left, right = st.columns([4, 1])
    with left:
        with guard("The maps"):
            panels(chosen, table, kind, scale, cell, seeds)
        with guard("The differences"):
            differences(chosen, kind, scale, cell, seeds)
    with right, guard("The cell"):
        cell_panel(chosen, table, kind, cell)


def differences(chosen: Selection, kind: str, scale: str, cell: tuple[int, int] | None, seeds: pd.Series) -> None:
    st.subheader(f"Difference from {plain(chosen.baseline)}", help=GLOSSARY["baseline"], anchor="difference")
    table = chosen.map_difference(kind)
    if table.empty:
        st.caption(
            f"{plain(chosen.baseline)} and the chosen arms have no map of this kind to compare at the same seeds. Choose "
            "another baseline under Compare on the left, or more arms."
        )
        return
    show_figure(
        lambda: map_figures.difference_panels(table, kind, chosen.baseline, scale, cell, seeds),
        f"map-difference-{_file(kind)}",
        table,
        chosen.image,
        on_click=click,
        wide=WIDE,
        code=recipes.map_difference(chosen, kind, scale, cell),
        files=chosen.files,
    )


def cell_panel(chosen: Selection, table: pd.DataFrame, kind: str, cell: tuple[int, int] | None) -> None:
    """Draw, beside the maps, the two layers of a cell, their value in every arm, and where to go from there."""
    st.subheader("This cell", help=GLOSSARY["cell"], anchor="cell")
    words = map_figures.kind_of(kind)
    for key, axis in (("layer_x", words.x), ("layer_y", words.y)):
        arrow = "→" if key == "layer_x" else "↑"
        st.selectbox(
            f"{plain(axis[:1].upper() + axis[1:])} {arrow}",
            _names(table[key]),
            index=None,
            key=key,
            placeholder="Choose a layer",
            help=GLOSSARY["cell"],
        )
    if cell is None:
        st.caption("Click a cell of a map, or choose its two layers here, to see both layers' curves.")
        return
    there = table[(table["layer_x"] == cell[0]) & (table["layer_y"] == cell[1])]
    show_table(
        there[["arm", "cka"]], "CKA of the cell in every arm", formats={"cka": ".4f"}, names={"cka": "CKA"}
    )
    for place in dict.fromkeys(cell):
        name = layer_name(place)
        st.page_link(
            "screens/layers.py",
            label=f"Drift at {layer_words(place)}",
            icon=":material/layers:",
            query_params=chosen.address(layer=name),
        )
        st.page_link(
            "screens/tokens.py",
            label=f"Tokens at {layer_words(place)}",
            icon=":material/format_ink_highlighter:",
            query_params=chosen.address(layer=name),
        )


def two_layers(
    chosen: Selection, table: pd.DataFrame, kind: str, scale: str, cell: tuple[int, int] | None
) -> None:
    if cell is None:
        return
    st.subheader("Two layers", help=GLOSSARY["profile"], anchor="profile")
    side = table[(table["layer_x"] == cell[0]) | (table["layer_y"] == cell[1])]
    code = recipes.map_profile(chosen, kind, scale, cell)
    show_figure(
        lambda: map_figures.profile_curves(table, kind, cell, scale, chosen.all_arms),
        f"map-profile-{_file(kind)}",
        side,
        chosen.image,
        wide=560,
        code=code,
        files=chosen.files,
    )


def drift(chosen: Selection, cell: tuple[int, int] | None) -> None:
    """Draw the Layers page's curves with the two layers marked; nothing if the study has none."""
    if cell is None or not chosen.study.has_table("drift"):
        return
    # The map's own measure if the study has it, under the map's own context: whatever other pages are set to.
    measures = measures_of(chosen.study)
    chosen = replace(chosen, measure="cka" if "cka" in measures else measures[0], control="exact", sinks=False)
    rows, table = chosen.drift(), chosen.layer_table()
    if table.empty:
        return
    st.subheader("Drift at these layers", help=GLOSSARY["drift"], anchor="drift")

    def figure() -> go.Figure:
        return mark_layers(
            figures.drift_by_layer(rows, chosen.measure, chosen.control, arms=chosen.all_arms), cell
        )

    code = recipes.drift(chosen, False, cell)
    show_figure(figure, "map-drift", table, chosen.image, code=code, files=chosen.files)


def _file(kind: str) -> str:
    """Write a kind as part of a file's name and of a class of the page: letters and digits only."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in kind)


def page(chosen: Selection) -> None:
    st.markdown(
        "Each cell compares two layers over the same tokens: **bright where they arrange the tokens alike**. Look along "
        "the diagonal of *without × with*: where it is bright, the context leaves the tokens' arrangement as it was, "
        "and a dark band shows the layers at which it still rearranges what the model computes."
    )
    if lacks(chosen, "cka_map", "layer × layer maps"):
        return
    kinds = chosen.map_kinds()
    if not kinds:
        raise UserError("The table of maps is empty. Measure it again, or choose another study on the left.")
    kind, scale = choose_map(chosen, kinds)
    st.caption("Maps are measured under the exact context, the one of training.")
    table, seeds = chosen.map_table(kind), chosen.map_seeds(kind)
    if table.empty:
        raise UserError(
            f"The chosen arms have no map “{map_figures.kind_of(kind).name}”. Choose other arms on the left."
        )
    cell = choose_cell(table)
    for what, draw in (
        ("The maps", lambda: side_by_side(chosen, table, kind, scale, cell, seeds)),
        ("The two layers", lambda: two_layers(chosen, table, kind, scale, cell)),
        ("The drift", lambda: drift(chosen, cell)),
    ):
        with guard(what):
            draw()


with guard("The maps"):
    page(current())
