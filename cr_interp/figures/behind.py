"""What stands behind curves of drift: the floor, the repeat run, the other contexts, and a measure's chance level.

A drift means something where it is far from ``repeat`` (the numerical ceiling), and little where it is near ``floor``. All
are measured as the drift itself is, so they are drawn from the same table: one thin line an arm, without a band. Each arm has
a floor of its own, in its colour, since arms differ in how alike unrelated tokens are; what lies beyond all floors is shaded.
The others are grey.
"""

from collections.abc import Iterator, Sequence

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.marks import add_band
from cr_interp.figures.style import NOISE, arm_colour, safe_text, whole_range
from cr_interp.tables.drift import as_movement, resid_rows
from cr_interp.vocabulary import CHANCE, COMPOSITION, MOVEMENTS, RATIOS, arm_order

#: control → what it is, where its name does not say it.
SAID = {
    "floor": "unrelated tokens at the same place of two responses, both without the context",
    "repeat": "the view without the context read once more, along another arithmetic path",
}
_GREY = "rgba(128,128,128,0.8)"
#: In pixels, so short that a legend's entry shows more than one.
_DASHES = {"floor": "4px,3px", "repeat": "1px,2px", "chance": "1px,5px"}
_OTHERS = ("solid", "9px,3px", "9px,3px,2px,3px", "2px,2px,6px,2px")


def draw_behind(
    figure: go.Figure,
    drift: pd.DataFrame,
    measure: str,
    control: str,
    behind: Sequence[str],
    movement: bool,
    arms: Sequence[str] = (),
) -> tuple[str, str]:
    """Draw the controls ``behind`` and the chance level of ``measure``, those of them that ``drift`` has.

    Returns what the caption and the alternative text say of them; empty if there are none. ``arms``: all arms, for stable
    colours.
    """
    names: list[str] = []
    said, alt, floor = [], [], ""
    curves = resid_rows(drift, measure, control)
    counted = whole_range(curves["n_tokens"])
    for name, rows in _found(drift, measure, control, behind):
        line = rows.groupby(["arm", "place", "layer"], sort=False, as_index=False)["estimate"].mean()
        if movement:
            line = as_movement(line.assign(low=line["estimate"], high=line["estimate"]), measure)
            line = line[line["estimate"] >= NOISE]
        if line.empty:
            continue
        if name == "floor":
            _shade(figure, line, as_movement(curves, measure) if movement else curves, measure, movement)
            _floors(figure, line, arms or arm_order(line["arm"]), movement)
            n = whole_range(rows["n_tokens"])
            floor = (
                f" Dashed, in each arm's colour: its floor ({SAID['floor']}{f', n = {n} tokens' if n != counted else ''}); "
                "shaded: beyond every floor."
            )
            alt.append(f"floor from {line['estimate'].min():.4f} to {line['estimate'].max():.4f}")
            continue
        _draw(figure, name, line, _DASHES.get(name, _OTHERS[len(names) % len(_OTHERS)]), movement)
        if name not in _DASHES:
            names.append(name)
        n = whole_range(rows["n_tokens"])
        more = [part for part in (SAID.get(name), f"n = {n} tokens" if n != counted else "") if part]
        said.append(name + (f" ({', '.join(more)})" if more else ""))
        alt.append(f"{name} from {line['estimate'].min():.4f} to {line['estimate'].max():.4f}")
    grey = (
        f" Grey, behind, measured likewise, one line an arm without its interval: {', '.join(said)}."
        if said
        else ""
    )
    return floor + grey, f" Behind: {'; '.join(alt)}." if alt else ""


def _found(
    drift: pd.DataFrame, measure: str, control: str, behind: Sequence[str]
) -> Iterator[tuple[str, pd.DataFrame]]:
    wanted = [(name, measure, name) for name in behind if name != control]
    if measure in CHANCE:
        wanted.append(("chance", CHANCE[measure], control))
    for name, of, under in wanted:
        rows = resid_rows(drift, of, under)
        rows = rows[rows["estimate"].notna()]
        if len(rows):
            yield name, rows.sort_values("place", kind="stable")


def _floors(figure: go.Figure, line: pd.DataFrame, arms: Sequence[str], movement: bool) -> None:
    for number, arm in enumerate(arm_order(line["arm"])):
        mine = line[line["arm"] == arm]
        figure.add_scatter(
            x=list(mine["place"]),
            y=list(mine["estimate"]),
            mode="lines",
            name="floor",
            legendgroup="behind floor",
            legendrank=2000,
            showlegend=number == 0,
            opacity=0.75,
            line={"color": arm_colour(arm, arms), "width": 1.4, "dash": _DASHES["floor"]},
            customdata=[[safe_text(arm), layer] for layer in mine["layer"]],
            hovertemplate="floor of %{customdata[0]}, layer %{customdata[1]}: "
            f"%{{y:{'.3g' if movement else '.4f'}}}<extra></extra>",
        )


def _shade(figure: go.Figure, line: pd.DataFrame, curves: pd.DataFrame, measure: str, movement: bool) -> None:
    """Shade the region where a state has moved farther than unrelated tokens of any arm lie apart: from the farthest floor
    outwards.
    """
    if measure in (*RATIOS, *COMPOSITION):
        return
    outwards = movement or measure in MOVEMENTS  # where a movement grows upwards
    farthest = line.groupby("place")["estimate"].max() if outwards else line.groupby("place")["estimate"].min()
    reach = float(farthest.max() if outwards else farthest.min())
    # As far as the curves go, so that none leaves the shade at its lower end.
    ends = curves[["estimate", "low", "high"]]
    reach = max(reach, ends.max().max()) if outwards else min(reach, ends.min().min())
    room = abs(1 - reach) * 0.12 + 0.01
    edge = reach * 1.3 if outwards and movement else reach + room if outwards else reach - room
    edges = [edge] * len(farthest)
    add_band(figure, farthest.index, edges, farthest, "rgba(128,128,128,0.13)", name="beyond the floor")


def _draw(figure: go.Figure, name: str, line: pd.DataFrame, dash: str, movement: bool) -> None:
    """Draw the arms' lines as one trace, with gaps between them: what a browser takes grows with the traces."""
    gap = pd.DataFrame([{column: None for column in line}], dtype=object)
    parts = [part for _, mine in line.groupby("arm", sort=False) for part in (mine.astype(object), gap)]
    strand = pd.concat(parts[:-1], ignore_index=True)
    figure.add_scatter(
        x=list(strand["place"]),
        y=list(strand["estimate"]),
        mode="lines",
        name=safe_text(name),
        legendgroup=f"behind {name}",
        legendrank=2000,
        line={"color": _GREY, "width": 1.2, "dash": dash},
        customdata=[[safe_text(arm), layer] for arm, layer in zip(strand["arm"], strand["layer"], strict=True)],
        hovertemplate=f"{safe_text(name)}, %{{customdata[0]}}, layer %{{customdata[1]}}: "
        f"%{{y:{'.3g' if movement else '.4f'}}}<extra></extra>",
    )
