"""Eight answers that flip, with their texts: harmed first, chosen by a rule and not by eye.

The rule: arms take turns; of an arm the harmed answers come first, then the rescued, in the order of examples and seeds, one of
each cluster of examples (variants of one example say the same thing twice) until there are none left.
"""

import json
from typing import Any

import pandas as pd

from cr_interp.report.parts import Numbers, Pairs, Words
from cr_interp.report.read_once import Held
from cr_interp.system.percent import percent
from cr_interp.tables.behaviour import UNTRAINED
from cr_interp.tables.example_pairs import CASES, KEYLESS, MARKS_SAY, case_counts, paired
from cr_interp.tables.interval_words import said_intervals
from cr_interp.vocabulary import arm_order

#: How many pairs are shown, and which cases, the most important first.
SHOWN, FLIPPED = 8, ("harmed", "rescued", "changed")


def flips(held: Held) -> list[Any]:
    """Report how many answers flip, and eight of them."""
    pairs = paired(held.answers, split=held.split)
    if pairs.empty:
        return [Words("No example has answers in both views.", "note")]
    counts = case_counts(pairs)
    chosen = choose_flips(pairs)
    parts: list[Any] = [Numbers(_counted(counts), f"Pairs of answers. 95 % intervals: {said_intervals(counts)}.")]
    if chosen.empty:
        return [*parts, Words("No answer flips.", "note")]
    found = len(pairs[pairs["case"].isin(FLIPPED) & pairs["arm"].isin(_arms(pairs))])
    parts.append(
        Words(
            f"{len(chosen)} of {found} flips, harmed first; arms take turns, one of each group of variants, in the order of the "
            f"examples. Marked: what only one of the two answers says. {MARKS_SAY}",
            "note",
        )
    )
    titles = [
        f"{row.arm}, seed {row.seed} · {row.case}: {_meaning(row.case)} · {row.example_id}"
        for row in chosen.itertuples()
    ]
    parts.append(Pairs(list(chosen.itertuples()), titles, _contexts(held.answers, chosen)))
    return parts


def _contexts(answers: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """Give what stood before each prompt with the context, in words; nothing where all examples share one."""
    if "before" not in answers:
        return []
    rows = answers[(answers["view"] == "with_context") & (answers["control"] == "exact")]
    known = rows.drop_duplicates("example_id", keep="last").set_index("example_id")["before"]
    return [_words(known.get(example)) for example in chosen["example_id"]]


def _words(before: Any) -> str:
    """Write a stored context as text; what is none is shown as it stands."""
    try:
        found = json.loads(before)
        said = [f"[{each['role']}] {each['content']}" for each in found["messages"]]
        splice = str(found.get("splice", "{prompt}"))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return before if isinstance(before, str) else ""
    return "\n".join([*said, *([] if splice == "{prompt}" else [splice])])


def _meaning(case: str) -> str:
    return CASES[case][2] if case in CASES else KEYLESS[case]


def choose_flips(pairs: pd.DataFrame, at_most: int = SHOWN) -> pd.DataFrame:
    """Choose the pairs to show, in the order in which they are shown; see the module's first lines for the rule."""
    queues = [_in_turn(pairs[pairs["arm"] == arm], case) for case in FLIPPED for arm in _arms(pairs)]
    arms = len(_arms(pairs))
    chosen: list[Any] = []
    for first in range(0, len(queues), arms):  # all arms' queues of one case
        turns = [list(queue) for queue in queues[first : first + arms]]
        while any(turns) and len(chosen) < at_most:
            for queue in turns:
                if queue and len(chosen) < at_most:
                    chosen.append(queue.pop(0))
    return pairs.loc[chosen]


def _arms(pairs: pd.DataFrame) -> list[str]:
    """Return the trained arms; the base if there are no others."""
    arms = arm_order(pairs["arm"])
    return [arm for arm in arms if arm != UNTRAINED] or arms


def _in_turn(pairs: pd.DataFrame, case: str) -> list[Any]:
    """Return labels of the pairs of one case: the first of every cluster, then the second of each, and so on."""
    mine = pairs[pairs["case"] == case].sort_values(["example_id", "seed", "sample"], kind="stable")
    turn = mine.groupby("cluster", sort=False).cumcount()
    return list(turn.sort_values(kind="stable").index)


def _counted(counts: pd.DataFrame) -> pd.DataFrame:
    told = [
        f"{hits} of {n}: {percent(share)} % [{percent(low)}, {percent(high)}]"
        for hits, n, share, low, high in zip(
            *(counts[name] for name in ("count", "n", "share", "low", "high")), strict=True
        )
    ]
    cells = counts.assign(cell=told)
    wide = cells.pivot_table(index="arm", columns="case", values="cell", aggfunc="first", sort=False)
    names = [name for name in counts["case"].unique() if name in wide]
    return wide.loc[arm_order(wide.index), names].rename_axis(columns=None).reset_index()
