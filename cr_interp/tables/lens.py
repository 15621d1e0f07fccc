"""What the lens says, over seeds: the right and the wrong token behind every layer, in both views. Pandas only."""

import pandas as pd

from cr_interp.study.rows import last_step
from cr_interp.tables.knockout import over_seeds
from cr_interp.vocabulary import by_arm, places_of

#: read-out → what its number is.
READOUTS = {
    "logprob": "log-probability (nats)",
    "difference": "log-probability of the right minus the wrong token (nats)",
    "rank": "rank (geometric mean; 1: the most likely)",
    "first": "share of examples where it is the most likely token",
    "kl": "KL of the views, without ‖ with (nats)",
}
#: The two tokens of a group, that of the right answer first.
TOKENS = {"changed": ("without", "with")}


def lens_table(lens: pd.DataFrame, group: str = "harmed", readout: str = "logprob") -> pd.DataFrame:
    """Return a row per arm, view, token, layer and control over seeds.

    Columns ``arm, view, token, place, control, estimate, low, high, seeds, n_examples, n_most``; ``place`` is the layer, −1
    the embedding. Of ``kl`` the view is ``between`` and the token ``all``, of ``difference`` the token is ``all``.
    """
    rows = last_step(lens)
    rows = rows[(rows["group"] == group) & (rows["readout"] == readout)]
    rows = rows.assign(place=places_of(rows))
    return over_seeds(rows, ["view", "token", "control", "place"])


def parting(lens: pd.DataFrame, group: str = "harmed") -> pd.DataFrame:
    """Return per arm and view the first layer from which on the right token stays ahead of the wrong one (or behind it) to
    the end.

    Columns ``arm, view, ahead, place, difference, n_examples``: ``ahead`` is the token that the last layer says, and
    ``difference`` that layer's log-probability of right minus wrong.
    """
    right, wrong = TOKENS.get(group, ("right", "wrong"))
    table = lens_table(lens, group)
    table = table[table["control"] == "none"]
    found = []
    for (arm, view), mine in table.groupby(["arm", "view"], sort=False):
        wide = mine.pivot(index="place", columns="token", values="estimate").sort_index()
        if right not in wide or wrong not in wide:
            continue
        difference = wide[right] - wide[wrong]
        same = (difference > 0) == (difference.iloc[-1] > 0)
        others = difference.index[~same]
        place = (
            int(difference.index[0])
            if not len(others)
            else int(difference.index[difference.index > others[-1]][0])
        )
        found.append(
            {
                "arm": arm,
                "group": group,
                "view": view,
                "ahead": right if difference.iloc[-1] > 0 else wrong,
                "place": place,
                "difference": float(difference.iloc[-1]),
                "n_examples": int(mine["n_examples"].min()),
            }
        )
    return by_arm(
        pd.DataFrame(found, columns=["arm", "group", "view", "ahead", "place", "difference", "n_examples"])
    )
