"""How alike the terms' gradients are, over seeds, beside how alike they could be. Pandas only.

Mental model. Two terms are *orthogonal* only where their cosine is near 0 **and** each agrees with itself on other examples: at
convergence a term's gradient is mostly noise, which is orthogonal to everything. So every pair stands beside its split-half
baseline, and beside the cosine with the noise taken out.
"""

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.vocabulary import by_arm

#: measure → what its number is.
MEASURES = {
    "norm": "norm of the gradient",
    "cosine": "cosine on the same examples",
    "cosine_halves": "cosine across halves of the examples",
    "cosine_corrected": "cosine without the sampling noise",
}


def gradient_table(
    gradients: pd.DataFrame,
    measure: str | None = None,
    module: str | None = "all",
    layer: int = -1,
    every: bool = False,
) -> pd.DataFrame:
    """Return a row per arm, step, module, pair of terms and measure: mean over seeds, the outermost ends of the seeds'
    intervals.

    ``module`` None: every one that is there in this ``layer``. ``every``: also of the checkpoints on the way.
    """
    rows = gradients if every else last_step(gradients)
    rows = rows[rows["layer"] == layer]
    rows = rows if module is None else rows[rows["module"] == module]
    rows = rows if measure is None else rows[rows["measure"] == measure]
    place = ["arm", "step", "module", "term", "other_term", "measure"]
    table = rows.groupby(place, sort=False, as_index=False).agg(
        estimate=("estimate", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        seeds=("estimate", "count"),
        n_examples=("n_examples", "min"),
    )
    return by_arm(table, "step")


def beside_baseline(gradients: pd.DataFrame, module: str | None = "all", every: bool = False) -> pd.DataFrame:
    """Return a row per arm, step, module and pair of two different terms, with what each term has with itself.

    Columns ``cosine, low, high`` (same examples), ``halves`` (across halves), ``own, other_own`` (each term with itself
    across halves), ``corrected``, ``seeds``, ``n_examples``.
    """
    table = gradient_table(gradients, module=module, every=every)
    place = ["arm", "step", "module"]
    own = table[(table["term"] == table["other_term"]) & (table["measure"] == "cosine_halves")]
    own = own[[*place, "term", "estimate"]]
    pairs = table[table["term"] != table["other_term"]]
    found = pairs[pairs["measure"] == "cosine"].rename(columns={"estimate": "cosine"}).drop(columns="measure")
    for measure, name in (("cosine_halves", "halves"), ("cosine_corrected", "corrected")):
        one = pairs[pairs["measure"] == measure][[*place, "term", "other_term", "estimate"]]
        found = found.merge(one.rename(columns={"estimate": name}), how="left", on=[*place, "term", "other_term"])
    found = found.merge(own.rename(columns={"estimate": "own"}), how="left", on=[*place, "term"])
    other = own.rename(columns={"estimate": "other_own", "term": "other_term"})
    return by_arm(found.merge(other, how="left", on=[*place, "other_term"]), "step")
