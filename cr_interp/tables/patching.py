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


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the patches of a :func:`patching_table` by their estimate; of equal ones first those whose controls do least."""
    control = table["estimate"].where(table["control"] != "none")
    beside = control.groupby([table[name] for name in ("arm", "site", "place")]).transform("max")
    last = (table["site"] == "resid_post") & (table["place"] == table["place"].max())
    real = table.assign(beside=beside, last=last)[table["control"] == "none"].dropna(subset="estimate")
    return real.sort_values(["estimate", "last", "beside"], ascending=[False, True, True], kind="stable")


def strongest(patching: pd.DataFrame, readout: str = "share") -> pd.DataFrame:
    """Return per arm, group, direction and site the layer of the highest estimate, with its controls at the same place.

    Of equally high ones it is the layer whose controls do least; the last layer's stream, which is the answer itself, comes last.
    Columns ``arm, group, direction, site, place, estimate, low, high, random, other, n_examples, n_most``.
    """
    found = []
    for group in patching["group"].unique():
        for direction in DIRECTIONS:
            table = patching_table(patching, str(group), direction, readout)
            best = best_first(table).groupby(["arm", "site"], sort=False).head(1).sort_index()
            for row in best.itertuples():
                there = table[
                    (table["arm"] == row.arm) & (table["site"] == row.site) & (table["place"] == row.place)
                ]
                controls = there.set_index("control")["estimate"]
                found.append(
                    {
                        "arm": row.arm,
                        "group": group,
                        "direction": direction,
                        "site": row.site,
                        "place": row.place,
                        "estimate": row.estimate,
                        "low": row.low,
                        "high": row.high,
                        "random": controls.get("random", float("nan")),
                        "other": controls.get("other", float("nan")),
                        "n_examples": row.n_examples,
                        "n_most": row.n_most,
                    }
                )
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
    return by_arm(pd.DataFrame(found, columns=columns))
