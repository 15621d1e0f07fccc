"""What the pages say of single runs: where seeds differ, their mean hides it.

Mental model: as ``mechanism.py``, seed by seed. A claim over layers holds for the run it was made on.
"""

from collections.abc import Iterable
from functools import cache

import pandas as pd
from mechanism import cosines as over_seeds
from mechanism import harmed_of, table
from values import listed

from cr_interp.tables.claims import ALPHA
from cr_interp.tables.patching_claims import patching_claims
from cr_interp.vocabulary import layer_name


@cache
def claims(name: str, arm: str) -> dict[int, pd.DataFrame]:
    """Map seed → the places where a patch does more than both controls, in that run, for all places at once."""
    rows = table(name, "patching_examples")
    found = {}
    for seed, mine in rows[rows["arm"] == arm].groupby("seed"):
        every = patching_claims(mine, "harmed", "repair")
        found[int(seed)] = every[every["p"] <= ALPHA]
    return found


def claimed(name: str, arm: str, site: str) -> dict[int, list[int]]:
    """Map seed → layers that may be named of that run."""
    return {
        seed: sorted(rows.loc[rows["site"] == site, "place"].tolist()) for seed, rows in claims(name, arm).items()
    }


def claimed_words(name: str, arm: str, site: str) -> str:
    """Say of each run which layers may be named: ``seed 0: 21, 27; seed 1: none``."""
    return "; ".join(
        f"seed {seed}: {', '.join(map(layer_name, places)) or 'none'}"
        for seed, places in claimed(name, arm, site).items()
    )


def shares(name: str, arm: str, site: str, place: int, which: str = "none", group: str = "harmed") -> list[float]:
    """Return each run's share of whole answers that are right under a repair at one place, or under a control of it."""
    rows = table(name, "patching")
    rows = rows[(rows["arm"] == arm) & (rows["group"] == group) & (rows["direction"] == "repair")]
    rows = rows[(rows["site"] == site) & (rows["layer"] == place) & (rows["readout"] == "answer")]
    found: list[float] = rows[rows["control"] == which].sort_values("seed")["estimate"].tolist()
    return found


def shares_words(name: str, arm: str, site: str, place: int, which: str = "none") -> str:
    return listed(f"{share:.2f}" for share in shares(name, arm, site, place, which))


def head_words(name: str, arm: str, layer: int, head: int, which: str = "none") -> str:
    """Say the share of the logit difference that one head recovers in each run, or a control of it."""
    rows = table(name, "patching_heads")
    rows = rows[(rows["arm"] == arm) & (rows["group"] == "harmed") & (rows["direction"] == "repair")]
    rows = rows[(rows["layer"] == layer) & (rows["head"] == head) & (rows["readout"] == "share")]
    found = rows[rows["control"] == which].sort_values("seed")["estimate"]
    return listed(f"{share:.2f}".replace("-", "−") for share in found)


def harmed_words(name: str, arm: str) -> str:
    """Say how many answers each run loses to the context."""
    seeds = sorted(table(name, "generations").query("arm == @arm")["seed"].unique())
    return listed(harmed_of(name, arm, seed) for seed in seeds)


def right_without(name: str, arm: str, seed: int) -> float:
    """Return the share of answers that a run gives right without the context."""
    rows = table(name, "generations")
    rows = rows[
        (rows["arm"] == arm) & (rows["seed"] == seed) & (rows["split"] == "test") & (rows["control"] == "none")
    ]
    return float((rows["outcome"] == "right").mean())


def lost_words(name: str, arm: str) -> list[str]:
    """Say, of each run, which answers without the context become which with it, of what is harmed."""
    rows = table(name, "generations")
    rows = rows[(rows["arm"] == arm) & (rows["split"] == "test") & rows["control"].isin(["none", "exact"])]
    found = []
    for _, mine in rows.groupby("seed"):
        said, came = (
            mine.pivot(index="example_id", columns="control", values=each) for each in ("response", "outcome")
        )
        lost = (came["none"] == "right") & (came["exact"] != "right")
        pairs = sorted(set(zip(said.loc[lost, "none"], said.loc[lost, "exact"], strict=True)))
        found.append(", ".join(f"{before} to {after}" for before, after in pairs))
    return found


def cosines(name: str, arm: str) -> list[tuple[int, pd.Series]]:
    """Return the cosine of ``opd``'s gradient and the anchor's in each run, at its last checkpoint."""
    rows = table(name, "gradients")
    seeds = sorted(rows.loc[rows["arm"] == arm, "seed"].unique())
    return [(int(seed), over_seeds(name, arm, int(seed))) for seed in seeds]


def cosines_words(name: str, arm: str) -> str:
    """Say the cosine of each run, with its interval."""
    return listed(_cosine(row) for _, row in cosines(name, arm))


def signs(name: str, arm: str) -> str:
    """Return the sign of each run's cosine: ``-++``."""
    return "".join("+" if row["cosine"] > 0 else "-" for _, row in cosines(name, arm))


def away(names: Iterable[str], arm: str) -> str:
    """Count the runs whose interval of the cosine excludes 0, and name them."""
    every = [(name, seed, row) for name in names for seed, row in cosines(name, arm)]
    found = [
        f"`{name.rpartition('/')[2]}` seed {seed}: {_cosine(row)}"
        for name, seed, row in every
        if not row["low"] <= 0 <= row["high"]
    ]
    return f"{len(found)} of {len(every)} runs" + (f" ({', '.join(found)})" if found else "")


def _cosine(row: pd.Series) -> str:
    return f"{row['cosine']:.2f} [{row['low']:.2f}, {row['high']:.2f}]".replace("-", "−")
