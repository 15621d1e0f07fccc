"""Whether two terms' gradients pull apart, beside what each agrees with itself: module by module, a panel per arm.

Mental model: "orthogonal" is said of a cosine near 0, but a gradient that is mostly noise is orthogonal to everything. So the
cosine of two terms stands beside each term with itself on another half of the examples; a mark near 0 says something only
where the open marks are far from 0.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.figures.style import (
    OWN,
    WHISKER,
    ZERO,
    arm_colour,
    arm_symbol,
    bold,
    empty_figure,
    finish,
    place_legend,
    safe_text,
    whole_range,
)
from cr_interp.tables.gradients import beside_baseline, gradient_table
from cr_interp.vocabulary import arm_order

OPD, NCA = "KL(q_x || f)", "KL(sg[q_x] || q_c)"


def gradients(table: pd.DataFrame, term: str = OPD, other: str = NCA) -> go.Figure:
    """Draw the cosine of two terms on the same examples in every module, beside both split-half baselines; ``all`` at the top."""
    every = beside_baseline(table, module=None)
    drawn = every[(every["term"] == term) & (every["other_term"] == other)]
    drawn = drawn[~drawn["module"].str.contains("norm|bias|ln_", regex=True)]
    if drawn.empty:
        return empty_figure(f"No gradients of {safe_text(term)} and {safe_text(other)} were computed.")
    arms = arm_order(drawn["arm"])
    modules = ["all", *sorted(set(drawn["module"]) - {"all"})]
    figure = make_subplots(
        1,
        len(arms),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=bold(arms),
    )
    for column, arm in enumerate(arms, 1):
        mine = drawn[drawn["arm"] == arm].set_index("module").reindex(modules)
        looks = {
            "own": ("circle-open", OWN[0], f"{term} with itself, other half"),
            "other_own": ("diamond-open", OWN[1], f"{other} with itself, other half"),
            "cosine": (arm_symbol(arm, arms), arm_colour(arm, arms), "the two terms, same examples"),
        }
        for name, (symbol, colour, says) in looks.items():
            whiskers: dict[str, Any] = {}
            if name == "cosine":
                up, down = mine["high"] - mine["cosine"], mine["cosine"] - mine["low"]
                whiskers["error_x"] = {
                    "array": up,
                    "arrayminus": down,
                    "color": WHISKER,
                    "thickness": 1.2,
                    "width": 3,
                }
            figure.add_scatter(
                x=mine[name],
                y=[safe_text(each) for each in modules],
                mode="markers",
                name=safe_text(says),
                legendgroup=name,
                showlegend=column == 1,
                marker={"symbol": symbol, "color": colour, "size": 9},
                row=1,
                col=column,
                hovertemplate=f"<b>{safe_text(arm)}</b>, %{{y}}: {safe_text(says)} %{{x:.3f}}<extra></extra>",
                **whiskers,
            )
    figure.add_vline(x=0, line={"color": ZERO, "width": 1})
    figure.update_xaxes(title="cosine", range=[-1.05, 1.05])
    figure.update_yaxes(autorange="reversed")
    place_legend(figure)
    seeds = whole_range(drawn["seeds"])
    whole = drawn[drawn["module"] == "all"]
    text = (
        f"Cosine of the gradients of {term} and {other} at each arm's last checkpoint, module by module (all layers). Open "
        f"marks: each term with itself on the other half of the examples, which no cosine across halves can exceed. "
        f"n = {whole_range(drawn['n_examples'])} training prompts, {seeds} seed{'' if seeds == '1' else 's'}; whiskers: 95 % "
        f"(jackknife over groups of prompts; of several seeds the outermost ends)."
    )
    alt = f"Cosine of the gradients of {term} and {other}. " + " ".join(
        f"{row.arm}: {row.cosine:.2f}, beside {row.own:.2f} and {row.other_own:.2f}."
        for row in whole.itertuples()
    )
    return finish(figure, text, alt, 150 + 26 * len(modules), 84)


def along(table: pd.DataFrame, term: str = OPD, other: str = NCA) -> go.Figure:
    """Draw the same cosines and the terms' norms along training, a line per arm; for runs whose checkpoints on the way were
    read.
    """
    every = beside_baseline(table, every=True)
    drawn = every[(every["term"] == term) & (every["other_term"] == other)]
    if drawn.empty or drawn["step"].nunique() < 2:
        return empty_figure("Along training there are gradients of one step only; --every-step reads the others.")
    norms = gradient_table(table, "norm", every=True)
    arms = arm_order(drawn["arm"])
    figure = make_subplots(1, 2, horizontal_spacing=0.12, subplot_titles=["<b>cosine</b>", "<b>norm</b>"])
    for arm in arms:
        look = {"color": arm_colour(arm, arms)}
        mine = drawn[drawn["arm"] == arm].sort_values("step")
        figure.add_scatter(
            x=mine["step"],
            y=mine["cosine"],
            mode="lines+markers",
            name=safe_text(arm),
            line=look,
            legendgroup=arm,
            row=1,
            col=1,
            marker={**look, "symbol": arm_symbol(arm, arms)},
        )
        figure.add_scatter(
            x=mine["step"],
            y=mine["own"],
            mode="lines+markers",
            name=f"{safe_text(arm)}: {safe_text(term)} with itself",
            line={**look, "dash": "dot"},
            legendgroup=arm,
            row=1,
            col=1,
        )
        for each, dash in ((term, "solid"), (other, "dash")):
            of = norms[(norms["arm"] == arm) & (norms["term"] == each)].sort_values("step")
            figure.add_scatter(
                x=of["step"],
                y=of["estimate"],
                mode="lines+markers",
                name=f"{safe_text(arm)}: norm of {safe_text(each)}",
                line={**look, "dash": dash},
                legendgroup=arm,
                row=1,
                col=2,
            )
    figure.update_xaxes(title="training step")
    place_legend(figure)
    text = (
        f"Gradients of {term} and {other} along training; the base is step 0. Left: their cosine, dotted {term} with itself on "
        f"the other half of the examples. Right: norms, dashed {other}. n = {whole_range(drawn['n_examples'])} training prompts."
    )
    return finish(figure, text, f"Gradients of {term} and {other} along training.", 380, 110)
