"""What patching says, over seeds: the table behind the figure of where an answer is decided, and its strongest cells.

Mental model: ``patching`` has a row per arm, seed, step, group of answers, direction, site, layer, control and read-out. Here
one group, one direction and one read-out are taken from it, at the last step of each run. Pandas only.
"""

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import at_embedding, by_arm, places_of, site_at

#: read-out → what its number is.
READOUTS = {
    "share": "recovered share of the logit difference where the answers part",
    "answer": "share of whole answers that follow",
}
#: direction → which state goes where.
DIRECTIONS = {
    "repair": "the state without the context, put into the run with it",
    "break": "the state with the context, put into the run without it",
}
#: control → what is put in.
CONTROLS = {
    "none": "the other view's state",
    "random": "a random direction of the same norm",
    "other": "another example's state",
}


def on_the_axis(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``place``, the layer on a figure's axis. The embedding is where the curve of ``resid_post`` begins."""
    embedded = at_embedding(rows["site"], rows["layer"])
    return rows.assign(place=places_of(rows), site=rows["site"].where(~embedded, "resid_post"))


def patching_table(
    patching: pd.DataFrame, group: str = "harmed", direction: str = "repair", readout: str = "share"
) -> pd.DataFrame:
    """Return a row per arm, site, layer and control over seeds: what the figure draws.

    Columns ``arm, site, place, control, estimate, low, high, before, seeds, n_examples, n_most``. ``place`` is the layer, −1
    the embedding; ``estimate`` and ``before`` are means over seeds, ``low`` and ``high`` the outermost ends of the seeds'
    intervals, ``n_examples`` the smallest of the seeds', ``n_most`` the largest. ``n_other_answer``, where it is known: how
    many of the other examples whose state is the control have another answer, of all seeds together, and ``n_all`` of how
    many.
    """
    rows = last_step(patching)
    keep = (rows["group"] == group) & (rows["direction"] == direction) & (rows["readout"] == readout)
    rows = rows[keep]
    rows = on_the_axis(rows)
    others = {"n_other_answer": ("n_other_answer", "sum"), "n_all": ("n_examples", "sum")}
    others = others if "n_other_answer" in rows else {}
    table = rows.groupby(["arm", "site", "place", "control"], sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        before=("before", "mean"),
        seeds=("estimate", "count"),
        n_examples=("n_examples", "min"),
        n_most=("n_examples", "max"),
        **others,
    )
    return by_arm(table, "site", "place")


def other_answers(table: pd.DataFrame) -> str:
    """Say how many of the other examples have another answer, of a :func:`patching_table`; nothing where that is not known."""
    others = table[table["control"] == "other"]
    if "n_other_answer" not in others or others["n_other_answer"].isna().any() or others.empty:
        return ""
    of = others.drop_duplicates("arm")[["n_other_answer", "n_all"]].astype(int)
    return f"of {of['n_all'].sum()} other examples {of['n_other_answer'].sum()} have another answer"


def cell_examples(
    examples: pd.DataFrame, arm: str, site: str, place: int, group: str = "harmed", direction: str = "repair"
) -> pd.DataFrame:
    """Return the examples behind one cell of :func:`patching_table`, those that follow the patch first.

    ``examples`` is ``patching_examples``. Columns ``example_id, seed, share, follows``: ``share`` of the logit difference
    that the patch recovers (NaN where the two runs do not part), ``follows`` whether the whole answer does.
    """
    rows = last_step(examples)
    where, layer = site_at(place, site)
    keep = (
        (rows["arm"] == arm)
        & (rows["group"] == group)
        & (rows["direction"] == direction)
        & (rows["control"] == "none")
    )
    rows = rows[keep & (rows["site"] == where) & (rows["layer"] == layer)]
    apart = rows["given"] - rows["received"]
    share = (rows["patched"] - rows["received"]) / apart.where(apart != 0)
    table = rows.assign(share=share, follows=rows["answer"].astype(bool))[
        ["example_id", "seed", "share", "follows"]
    ]
    return table.sort_values(["follows", "share"], ascending=False, kind="stable", ignore_index=True)


def beside_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Return the patches of a :func:`patching_table` with both controls at the same place, ``random`` and ``other``, and
    ``last``: whether it is the last layer's stream, which is the answer itself.
    """
    place = [table[name] for name in ("arm", "site", "place")]
    controls = {
        name: table["estimate"].where(table["control"] == name).groupby(place).transform("max")
        for name in ("random", "other")
    }
    last = (table["site"] == "resid_post") & (table["place"] == table["place"].max())
    return table.assign(**controls, last=last)[table["control"] == "none"].dropna(subset="estimate")


def by_effect(patches: pd.DataFrame) -> pd.DataFrame:
    """Sort patches, each with its controls, by their estimate; of equal ones the last stream comes last, and first that whose
    controls do least.
    """
    order = {"estimate": False, "last": True, "beside": True}
    beside = patches.assign(beside=patches[["random", "other"]].max(axis=1))
    return beside.sort_values(list(order), ascending=list(order.values()), kind="stable").drop(columns="beside")


def strongest(patching: pd.DataFrame, readout: str = "share") -> pd.DataFrame:
    """Return per arm, group, direction and site the layer that does most (:func:`by_effect`), with its controls.

    Columns ``arm, group, direction, site, place, estimate, low, high, random, other, n_examples, n_most, last``.
    """
    columns = [
        "arm",
        "group",
        "direction",
        "site",
        "place",
        "estimate",
        "low",
        "high",
        "random",
        "other",
        "n_examples",
        "n_most",
    ]
    found = []
    for group in patching["group"].unique():
        for direction in DIRECTIONS:
            patches = beside_controls(patching_table(patching, str(group), direction, readout))
            best = by_effect(patches).groupby(["arm", "site"], sort=False).head(1).sort_index()
            found.append(best.assign(group=group, direction=direction))
    every = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*columns, "last"])
    return by_arm(every[[*columns, "last"]])
