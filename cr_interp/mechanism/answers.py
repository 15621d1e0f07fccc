"""Which answers of a checkpoint are looked at, and where the two answers to a prompt part.

Mental model. A pair of answers to one prompt belongs to a group: ``harmed`` (right without the context, wrong with it),
``rescued`` (the reverse), ``kept`` (right in both, so nothing should change it), or ``changed`` (another answer, graded no
differently: what there is without an answer key). Both answers begin alike; the first place where they differ is where the
model decides. Pandas only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.errors import UserError

#: In the order of every list.
GROUPS = ("harmed", "rescued", "kept", "changed")
#: Groups whose answers differ, so that there is something to explain.
FLIPS = ("harmed", "rescued", "changed")


@dataclass(frozen=True)
class Answer:
    """A prompt and the ids of its answers without and with the context. Of an episode: those of the turn where they part."""

    example_id: str
    cluster: str
    """Examples of one cluster are not independent; a bootstrap draws clusters."""
    group: str
    prompt: str
    without: tuple[int, ...]
    given: tuple[int, ...]
    place: int | None
    """The first place where the answers differ; None where they do not."""


def answers_of(generations: pd.DataFrame) -> list[Answer]:
    """Return every pair of answers of one checkpoint, the first sample of each, that belongs to a group.

    Raises :class:`UserError` for a table without the ids of the answers, which only older ones lack.
    """
    if "response_ids" not in generations:
        raise UserError(
            "The table 'generations' has no column response_ids, so where two answers part is not known. Evaluate the "
            "checkpoints again."
        )
    rows = generations[generations["sample"] == 0]
    columns = [c for c in ("cluster", "turn_prompts", "turn_tokens") if c in rows]
    kept = ["example_id", "prompt", "response_ids", "outcome", *columns]
    x = rows.loc[rows["view"] == "no_context", kept]
    xc = rows.loc[(rows["view"] == "with_context") & (rows["control"] == "exact"), kept]
    found = []
    for pair in x.merge(xc, on="example_id", suffixes=("_x", "_xc")).to_dict("records"):
        prompt, without, given = _turn(pair)
        place = parting(without, given)
        group = _group(pair["outcome_x"] == "right", pair["outcome_xc"] == "right", without != given)
        if group is None or (group in FLIPS and place is None):
            continue
        cluster = pair.get("cluster_x")
        named = str(pair["example_id"]) if cluster is None or pd.isna(cluster) else str(cluster)
        found.append(Answer(str(pair["example_id"]), named, group, prompt, without, given, place))
    return found


def chosen_answers(found: Sequence[Answer], groups: Sequence[str], most: int | None = None) -> list[Answer]:
    """Choose answers of some groups, at most so many of each: a draw that is the same every time, in the order of the ids."""
    chosen: list[Answer] = []
    for group in groups:
        mine = sorted((each for each in found if each.group == group), key=lambda each: each.example_id)
        drawn = sorted(np.random.default_rng(0).permutation(len(mine))[:most])
        chosen += [mine[i] for i in drawn]
    return chosen


def parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Find the first place where two answers differ; None where one is the beginning of the other.

    >>> parting([1, 2, 3], [1, 4]), parting([1, 2], [1, 2, 3])
    (1, None)
    """
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)


def _group(right_x: bool, right_xc: bool, differ: bool) -> str | None:
    if right_x != right_xc:
        return "harmed" if right_x else "rescued"
    if right_x and right_xc:
        return "kept"
    return "changed" if differ else None


def _turn(pair: dict[str, Any]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Return prompt and answers. Of an episode the first turn whose answers differ: up to there both views saw the same."""
    without, given = (tuple(int(i) for i in pair[f"response_ids_{side}"]) for side in ("x", "xc"))
    prompts = pair.get("turn_prompts_x")
    if not isinstance(prompts, Sequence | np.ndarray) or isinstance(prompts, str) or not len(prompts):
        return str(pair["prompt_x"]), without, given
    turns = [
        _cut(ids, pair[f"turn_tokens_{side}"]) for ids, side in ((without, "x"), (given, "xc"))
    ]  # of each view
    number = next((n for n, (a, b) in enumerate(zip(*turns, strict=False)) if a != b), 0)
    return str(prompts[number]), turns[0][number], turns[1][number]


def _cut(ids: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, ...]]:
    ends = np.cumsum([0, *(int(n) for n in tokens)])
    return [tuple(ids[a:b]) for a, b in pairwise(ends)]
