"""Which patched places bring more answers back than their controls do, although they were looked for among all places.

Mental model. An effect is claimed of a place only beyond both controls there, and only by a permutation that serves all places
at once (``permuted.py``): what is compared are whole answers of the same examples, so every cluster's difference keeps or
changes its sign. Both differences have to be above 0, so of the two p-values the larger counts; of several seeds too, as every
one has to show it. Pandas only.
"""

import numpy as np
import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.tables.patching import CONTROLS as MEANT
from cr_interp.tables.patching import on_the_axis
from cr_interp.tables.permuted import sign_chances
from cr_interp.vocabulary import by_arm

CONTROLS = tuple(name for name in MEANT if name != "none")


def patching_claims(examples: pd.DataFrame, group: str = "harmed", direction: str = "repair") -> pd.DataFrame:
    """Return a row per arm, site and place, from ``patching_examples``.

    Columns ``arm, site, place, estimate, random, other, p, seeds, n_examples``: shares of whole answers that follow, means
    over seeds as of a :func:`~cr_interp.tables.patching.patching_table`; ``p`` of the claim that this place does more than
    either control does. Examples without a control have no say. A run of a single cluster has no p-value.
    """
    rows = last_step(examples)
    rows = rows[(rows["group"] == group) & (rows["direction"] == direction)]
    rows = on_the_axis(rows)
    found = []
    for (arm, seed), mine in rows.groupby(["arm", "seed"], sort=False):
        found.append(_run(mine).assign(arm=arm, seed=seed))
    columns = ["arm", "site", "place", "estimate", *CONTROLS, "p", "seeds", "n_examples"]
    if not found:
        return pd.DataFrame(columns=columns)
    table = (
        pd.concat(found, ignore_index=True)
        .groupby(["arm", "site", "place"], sort=False, as_index=False)
        .agg(
            estimate=("estimate", "mean"),
            random=("random", "mean"),
            other=("other", "mean"),
            p=("p", "max"),
            seeds=("estimate", "count"),
            n_examples=("n_examples", "sum"),
        )
    )
    return by_arm(table[columns], "site", "place")


def _run(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.assign(answer=rows["answer"].astype(float)).pivot_table(
        index="example_id", columns=["control", "site", "place"], values="answer", observed=True
    )
    if any(control not in wide for control in ("none", *CONTROLS)):
        return pd.DataFrame(columns=["site", "place", "estimate", *CONTROLS, "p", "n_examples"])
    wide = wide.dropna()
    clusters = rows.drop_duplicates("example_id").set_index("example_id").loc[wide.index, "cluster"]
    real = wide["none"]
    chances = [
        sign_chances((real - wide[control][real.columns]).to_numpy(), clusters)
        if clusters.nunique() > 1
        else np.full(real.shape[1], np.nan)
        for control in CONTROLS
    ]
    means = {control: wide[control][real.columns].mean().to_numpy() for control in CONTROLS}
    return pd.DataFrame(
        {
            "site": [site for site, _ in real.columns],
            "place": [place for _, place in real.columns],
            "estimate": real.mean().to_numpy(),
            **means,
            "p": np.max(chances, axis=0),
            "n_examples": len(wide),
        }
    )
