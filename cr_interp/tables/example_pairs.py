"""Which answers flipped: the two responses to one prompt, without and with the context.

Mental model: a pair falls into one of four cases, right or wrong in each view; the 2×2 table of an arm counts them. It is
the metrics taken apart: BothCorrect is the share of ``kept``, Harm is ``harmed`` of ``kept + harmed``, Rescue is
``rescued`` of ``rescued + both wrong``.

    paired       generations → a row per pair, with both texts and its case
    case_counts  pairs → the four shares of every arm, with intervals

The figure of the counts is in ``figures/cases.py``, the texts side by side in ``figures/pair_html.py``.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cr_interp.errors import UserError, unknown
from cr_interp.study.rows import last_step
from cr_interp.tables.answer_sums import with_clusters
from cr_interp.tables.estimates import Kind, Sums, estimates
from cr_interp.tables.pairing import meetings
from cr_interp.vocabulary import OUTCOMES, UNGRADED, arm_order, by_arm

#: case → (right without, right with, what it is called)
CASES = {
    "kept": (True, True, "right in both"),
    "harmed": (True, False, "right without, wrong with"),
    "rescued": (False, True, "wrong without, right with"),
    "both wrong": (False, False, "wrong in both"),
}
#: The same of a pair whose example has no key: case → what it is called.
KEYLESS = {"changed": "another answer with the context", "same": "the same answer in both"}
#: Kinds of error, as ``outcome`` names them.
ERRORS = tuple(outcome for outcome in OUTCOMES if outcome != "right")
MARKS = {"right": "✓", "wrong": "✗", "unparsable": "∅", "truncated": "…", "ungraded": "·"}
MARKS_SAY = ", ".join(f"{mark} {outcome}" for outcome, mark in MARKS.items()) + "."

_KEYS = ["arm", "seed", "split", "example_id", "sample"]


def paired(generations: pd.DataFrame, control: str = "exact", split: str | None = "test") -> pd.DataFrame:
    """Return a row per pair: ``arm, seed, example_id, sample, prompt, response_x, response_xc, outcome_x, outcome_xc,
    n_tokens_x, n_tokens_xc, case, cluster`` (and ``answer``, if the table has it), arms in their order, examples sorted.

    The same pairs as in :mod:`cr_interp.tables.behaviour`: the last step of a run, an answer without its partner left out.
    """
    if split is not None:
        if split not in set(generations["split"].unique()):
            raise unknown("split", split, map(str, generations["split"].unique()))
        generations = generations[generations["split"] == split]
    rows = last_step(generations)
    rows = with_clusters(rows)
    texts = ["prompt", "cluster", *(["answer"] if "answer" in rows else [])]
    said = ["response", "outcome", "n_tokens"]
    x = rows.loc[rows["view"] == "no_context", [*_KEYS, *texts, *said]]
    xc = rows.loc[(rows["view"] == "with_context") & (rows["control"] == control), [*_KEYS, *said]]
    for side in (x, xc):
        if side.duplicated(_KEYS).any():
            raise UserError(
                "The table 'generations' has answers twice; a pair has one answer in each view. Evaluate again, or "
                "number the answers in the column 'sample'."
            )
    pairs = x.merge(xc, on=_KEYS, suffixes=("_x", "_xc"))
    right = [(pairs[f"outcome_{side}"] == "right").to_numpy(dtype=bool) for side in ("x", "xc")]
    names = {(without, given): case for case, (without, given, _) in CASES.items()}
    pairs["case"] = [names[bool(a), bool(b)] for a, b in zip(*right, strict=True)]
    ungraded = pairs["outcome_x"] == UNGRADED
    changed = pairs["response_x"] != pairs["response_xc"]
    pairs.loc[ungraded, "case"] = changed[ungraded].map({True: "changed", False: "same"})
    return by_arm(pairs, "example_id", "seed", "sample")


def case_counts(
    pairs: pd.DataFrame, resamples: int = 2000, seed: int = 0, interval: Kind = "across"
) -> pd.DataFrame:
    """Return the four cases of every arm, over its seeds: ``arm, case, count, n, share, low, high, seeds, interval``.

    Pairs without a key have the two cases of :data:`KEYLESS`, in rows of their own.
    ``n`` are the arm's pairs of that kind. Intervals: 95 %, of the kind that ``interval`` names, as for the metrics.
    """
    found = []
    keyless = pairs["case"].isin(list(KEYLESS))
    parts = [(arm, kind) for arm in arm_order(pairs["arm"]) for kind in (tuple(CASES), tuple(KEYLESS))]
    for arm, cases in parts:
        mine = pairs[(pairs["arm"] == arm) & pairs["case"].isin(cases)]
        if mine.empty and (cases != tuple(CASES) or keyless.any()):
            continue
        row, seeds = pd.factorize(mine["seed"], sort=True)
        column, examples = pd.factorize(mine["example_id"], sort=True)
        hits = np.zeros((len(seeds), len(examples), len(cases)))
        np.add.at(hits, (row, column, mine["case"].map({c: i for i, c in enumerate(cases)}).to_numpy()), 1.0)
        asked = np.repeat(hits.sum(axis=2, keepdims=True), len(cases), axis=2)
        cluster = mine.drop_duplicates("example_id").set_index("example_id")["cluster"]
        clusters = cluster.loc[examples].tolist()
        row_over = estimates([Sums(hits, asked, clusters)], [True] * len(cases), interval, resamples, seed)[-1]
        counts = hits.sum(axis=(0, 1))
        for index, case in enumerate(cases):
            found.append(
                {
                    "arm": arm,
                    "case": case,
                    "count": int(counts[index]),
                    "n": len(mine),
                    "share": row_over.estimate[index],
                    "low": row_over.low[index],
                    "high": row_over.high[index],
                    "seeds": len(seeds),
                    "interval": row_over.kinds[index],
                }
            )
    return pd.DataFrame(found, columns=["arm", "case", "count", "n", "share", "low", "high", "seeds", "interval"])


def choose(pairs: pd.DataFrame, arm: str, cases: Sequence[str], errors: Sequence[str] = ()) -> pd.DataFrame:
    """Pick the pairs of one arm and some cases; with ``errors`` those with one of these outcomes in either view."""
    keep = (pairs["arm"] == arm) & pairs["case"].isin(list(cases))
    if errors:
        keep &= pairs["outcome_x"].isin(list(errors)) | pairs["outcome_xc"].isin(list(errors))
    return pairs[keep]


def contrast(pairs: pd.DataFrame, harmed: str, right: str) -> pd.DataFrame:
    """Find the pairs of ``harmed`` that the context harms where ``right`` is right with it, at the same example, sample and seed.

    Which runs meet says ``pairing.py``.
    """
    mine = choose(pairs, harmed, ("harmed",))
    other = choose(pairs, right, ("kept", "rescued"))
    runs = [(arm, sorted(pairs.loc[pairs["arm"] == arm, "seed"].unique())) for arm in (harmed, right)]
    met = set(zip(*meetings(runs), strict=True)) if all(seeds for _, seeds in runs) else set()
    keys = ["example_id", "sample"]
    there = set(other[[*keys, "seed"]].itertuples(index=False, name=None))
    of_seed: dict[int, list[int]] = {}
    for own, its in met:
        of_seed.setdefault(own, []).append(its)
    kept = [
        any((example, sample, its) in there for its in of_seed.get(seed, ()))
        for example, sample, seed in mine[[*keys, "seed"]].itertuples(index=False, name=None)
    ]
    return mine[np.array(kept, dtype=bool)]


def search(pairs: pd.DataFrame, text: str) -> pd.DataFrame:
    """Find the pairs whose id, prompt or one of whose responses has the text in it, whatever the case of its letters."""
    if not text.strip():
        return pairs
    found = pd.Series(False, index=pairs.index)
    for column in ("example_id", "prompt", "response_x", "response_xc"):
        found |= pairs[column].astype(str).str.contains(text.strip(), case=False, regex=False)
    return pairs[found]


def case_at(x: float, y: float) -> str:
    """Return the case of a cell of :func:`four_cells`.

    >>> case_at(1, 0)
    'harmed'
    """
    return next(
        case for case, (without, given, _) in CASES.items() if (without, given) == (round(y) == 0, round(x) == 0)
    )
