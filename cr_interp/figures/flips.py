"""Does drift matter: how well an example's drift tells whether its answer flips, layer by layer, a panel per arm."""

import pandas as pd
import plotly.graph_objects as go

from cr_interp.figures.beside import WITHIN, ends_words, panels
from cr_interp.figures.style import empty_figure, safe_text, whole_range
from cr_interp.tables.flips_by_drift import over_seeds
from cr_interp.vocabulary import MEASURES, layer_words

CONTROLS = {"none": "all examples", "class": "among examples of one class"}


def flips(table: pd.DataFrame) -> go.Figure:
    """Draw the result of :func:`~cr_interp.tables.flips_by_drift.flips_by_drift`, and the same within classes where there are
    such.
    """
    if table.empty:
        return empty_figure("In each run all answers flip, or none does.")
    of = over_seeds(table)
    of = of.assign(n_examples=of["n_flipped"] + of["n_kept"])
    within = of.assign(estimate=of["within_class"], low=of["within_low"], high=of["within_high"], control="class")
    drawn = pd.concat([of.assign(control="none"), within[within["estimate"].notna()]], ignore_index=True)
    measure = str(of["measure"].iloc[0])
    moved = MEASURES[measure].movement if measure in MEASURES else measure
    seeds = whole_range(of["seeds"])
    text = (
        f"The chance that an example whose answer flips (right without the context, wrong with it) moved farther ({moved}) than "
        f"one whose answer is kept; ½ says nothing. {whole_range(of['n_flipped'])} flips and {whole_range(of['n_kept'])} kept an "
        f"arm, {seeds} seed{'' if seeds == '1' else 's'}; bands: {WITHIN}."
        + (" Dotted: only among examples with the same right answer." if within["estimate"].notna().any() else "")
        + _least(of)
    )
    alt = f"How well drift tells flips. {ends_words(drawn, list(drawn['arm'].unique()))}"
    title = "AUROC"
    return panels({title: drawn}, CONTROLS, text, alt, line=0.5, at_most={title: (-0.02, 1.05)})


def _least(of: pd.DataFrame) -> str:
    """Name the layers that are farthest from ½, with what one permutation for all layers says of them."""
    said = []
    for arm, rows in of.groupby("arm", sort=False):
        best = rows.loc[(rows["estimate"] - 0.5).abs().idxmax()]
        if pd.notna(best["p"]):
            inside = "" if pd.isna(best["within_p"]) else f", within classes {best['within_p']:.3f}"
            said.append(
                f"{safe_text(str(arm))} {best['estimate']:.2f} at {layer_words(int(best['place']))}, p = {best['p']:.3f}{inside}"
            )
    if not said:
        return ""
    return (
        f" Farthest from ½: {'; '.join(said)} (one permutation for all layers; of several seeds the largest p)."
    )
