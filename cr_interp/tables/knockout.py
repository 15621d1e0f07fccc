"""What knockout says, over seeds: who reads a span of the context, beside tokens cut off elsewhere. Pandas only.

Mental model: ``knockout`` has a row per arm, seed, step, group of answers, span, readers, window of layers, control and
read-out; ``attention`` has the mass that each span gets. One group and one read-out are taken here, at the last step.
"""

from collections.abc import Sequence

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm

#: span → what it is.
SPANS = {
    "context": "all that only the view with the context has",
    "system": "the system message's text",
    "turns": "the context's further turns",
    "splice": "the context's text around the prompt",
    "template": "what the chat template writes",
    "prompt": "the prompt's own text",
    "sink": "the first token",
    "answer": "the aligned positions themselves",
}
#: readers → who no longer reads the span.
READERS = {
    "aligned": "the aligned positions alone (the prompt's tokens still read it)",
    "all": "every token that is not of the span",
}
#: control → what is cut off.
CONTROLS = {"none": "the span", "elsewhere": "tokens of what both views have: as many, or all of them"}


def over_seeds(rows: pd.DataFrame, place: Sequence[str], also: Sequence[str] = ()) -> pd.DataFrame:
    """Compute means over seeds of ``estimate`` and the columns ``also``; the outermost ends of the seeds' intervals; the
    smallest n and, as ``n_most``, the largest.
    """
    table = rows.groupby(["arm", *place], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        seeds=("estimate", "count"),
        n_examples=("n_examples", "min"),
        n_most=("n_examples", "max"),
        **{name: (name, "mean") for name in also},
    )
    return by_arm(table, *place)


def knockout_table(knockout: pd.DataFrame, group: str = "harmed", readout: str = "share") -> pd.DataFrame:
    """Return a row per arm, span, readers, window and control over seeds.

    Columns ``arm, span, readers, layer, width, control, estimate, low, high, before, cut, seeds, n_examples, n_most``;
    ``layer`` is a window's first, ``width`` how many layers.
    """
    rows = last_step(knockout)
    rows = rows[(rows["group"] == group) & (rows["readout"] == readout)]
    return over_seeds(rows, ["span", "readers", "layer", "width", "control"], ["before", "cut"])


def strongest_cuts(knockout: pd.DataFrame, readout: str = "share") -> pd.DataFrame:
    """Return per arm, group, span and readers what cutting the span in all layers recovers, and the single layer that
    recovers most.

    Columns ``arm, group, span, readers, cut, cut_elsewhere, all, all_low, all_high, all_elsewhere, all_kept, layer, estimate,
    low, high, elsewhere, kept, n_examples``; ``…elsewhere`` is the control at the same place, ``…kept`` the share of kept
    answers that the same cut leaves: where it is low, the cut changes answers, not these answers. ``cut_elsewhere`` is how many
    tokens the control cuts off: fewer than ``cut`` where both views have no more, and then it is no control of the same size.
    """
    found = []
    place = ["arm", "span", "readers", "control", "width", "layer"]
    kept = knockout_table(knockout, "kept", "answer").set_index(place)["estimate"].to_dict()
    for group in knockout["group"].unique():
        table = knockout_table(knockout, str(group), readout)
        for (arm, span, readers), mine in table.groupby(["arm", "span", "readers"], sort=False):
            at = mine.set_index(["control", "width", "layer"])["estimate"]
            real = mine[(mine["control"] == "none") & mine["estimate"].notna()]
            single, whole = real[real["width"] == 1], real[real["width"] > 1].nlargest(1, "width")
            if real.empty:
                continue
            row = {"arm": arm, "group": group, "span": span, "readers": readers, "cut": real["cut"].iloc[0]}
            row["cut_elsewhere"] = mine.loc[mine["control"] == "elsewhere", "cut"].mean()
            for prefix, best in (("all", whole), ("", single.nlargest(1, "estimate"))):
                name = f"{prefix}_" if prefix else ""
                if best.empty:
                    continue
                one = best.iloc[0]
                row |= {
                    prefix or "estimate": one["estimate"],
                    f"{name}low": one["low"],
                    f"{name}high": one["high"],
                }
                where = (one["width"], one["layer"])
                row[f"{name}elsewhere"] = at.get(("elsewhere", *where), float("nan"))
                row[f"{name}kept"] = kept.get((arm, span, readers, "none", *where), float("nan"))
                if not prefix:
                    row["layer"] = int(one["layer"])
            found.append({**row, "n_examples": int(real["n_examples"].min())})
    columns = [
        "arm", "group", "span", "readers", "cut", "cut_elsewhere", "all", "all_low", "all_high", "all_elsewhere", "all_kept",
        "layer", "estimate", "low", "high", "elsewhere", "kept", "n_examples",
    ]  # fmt: skip
    return by_arm(pd.DataFrame(found, columns=columns))


def attention_table(
    attention: pd.DataFrame, group: str = "harmed", view: str = "with_context", head: int | None = -1
) -> pd.DataFrame:
    """Return a row per arm, span, layer, head and control over seeds; ``head=-1``: the heads' mean, ``None``: every head."""
    rows = last_step(attention)
    rows = rows[(rows["group"] == group) & (rows["view"] == view)]
    rows = rows[rows["head"] >= 0] if head is None else rows[rows["head"] == head]
    return over_seeds(rows, ["span", "layer", "head", "control"])
