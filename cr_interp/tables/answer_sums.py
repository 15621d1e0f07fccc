"""From answers to sums: what the metrics of ``behaviour.py`` are made of.

Mental model: the two answers to the same example and sample, one without the context and one with it, form a **pair**. Per
example eight sums over its pairs (:data:`SUMS`) are all that any metric needs, so an arm shrinks to a block of seeds × examples
× sums (:class:`Block`). Two arms are compared on the seeds and examples that both have (:func:`aligned`). An answer without
its partner is left out. Pairs without a key are pairs, but not ``graded``: no accuracy counts them.
"""

from __future__ import annotations  # shapes are for readers and type checkers: loading jaxtyping takes its time

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy import ndarray

from cr_interp.errors import UserError, unknown
from cr_interp.study.rows import last_step
from cr_interp.study.schema import COLUMNS
from cr_interp.tables.pairing import meetings, named
from cr_interp.vocabulary import CONTROLS, OUTCOMES, UNGRADED

if TYPE_CHECKING:
    from jaxtyping import Float

#: Of an answer, what sums are made of; its texts are left behind before rows are picked.
_COLUMNS = (*(name for name in COLUMNS["generations"] if name not in ("prompt", "response")), "cluster")
#: Per example, summed over its samples.
SUMS = ("pairs", "right_x", "right_xc", "both", "tokens_x", "tokens_xc", "graded", "changed")


@dataclass(frozen=True)
class Block:
    """One arm: ``values[s, e]`` are the sums of example e under seed s, zero where it was not asked."""

    seeds: list[int]
    examples: list[Any]
    clusters: list[Any]
    """Of every example; those of one cluster are drawn together."""
    values: Float[ndarray, "seeds examples sums"]

    def __getitem__(self, name: str) -> Float[ndarray, "seeds examples"]:
        return self.values[:, :, SUMS.index(name)]

    def at(self, seeds: list[int], examples: list[Any]) -> Block:
        """Return the same arm with these seeds and examples only, in this order."""
        row = [self.seeds.index(seed) for seed in seeds]
        position = {example: index for index, example in enumerate(self.examples)}
        column = [position[example] for example in examples]
        return Block(seeds, examples, [self.clusters[i] for i in column], self.values[row][:, column])

    def only(self, chosen: Float[ndarray, "seeds examples"]) -> Block:
        """Return the same arm, zero where ``chosen`` is."""
        return replace(self, values=self.values * chosen[:, :, None])

    def grouped(self, to: list[Any]) -> Block:
        """Add up columns that belong to the same example: ``to[e]`` is the new name of column e."""
        where, names = pd.factorize(np.asarray(to, dtype=object), sort=True)
        values = np.zeros((len(names), len(self.seeds), len(SUMS)))
        np.add.at(values, where, self.values.swapaxes(0, 1))
        clusters = dict(zip(where.tolist(), self.clusters, strict=True))
        return Block(self.seeds, list(names), [clusters[i] for i in range(len(names))], values.swapaxes(0, 1))


def select(generations: pd.DataFrame, split: str | None) -> pd.DataFrame:
    """Pick the answers of one split, at the last step of every (arm, seed), each with its ``cluster``."""
    if generations.empty:
        return generations
    if generations["seed"].isna().any():
        raise UserError(
            "The table 'generations' has rows without a seed; every answer belongs to one (use 0 for an arm "
            "that is not trained). Make the table again."
        )
    unknown_outcomes = generations.loc[~generations["outcome"].isin([*OUTCOMES, UNGRADED]), "outcome"]
    if len(unknown_outcomes):
        raise UserError(
            f"The table 'generations' has {len(unknown_outcomes)} answers whose outcome is none of {', '.join(OUTCOMES)} (the "
            f"first: {unknown_outcomes.iloc[0]!r}). Whether they are right is not known, so no share is. Evaluate again."
        )
    # Whether two answers differ is asked only where some have no key.
    kept = (*_COLUMNS, "response") if (generations["outcome"] == UNGRADED).any() else _COLUMNS
    generations = generations[[name for name in kept if name in generations]]
    if split is not None:
        found = generations["split"].unique()
        if split not in found:
            raise unknown("split", split, map(str, found))
        generations = generations[generations["split"] == split]
    return with_clusters(last_step(generations))


def with_clusters(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the same rows with a ``cluster`` each: where the table names none, an example is a cluster of its own."""
    if "cluster" not in answers:
        return answers.assign(cluster=answers["example_id"])
    return answers.assign(cluster=answers["cluster"].fillna(answers["example_id"]))


def pairs_of(generations: pd.DataFrame, control: str, split: str | None) -> pd.DataFrame:
    """Return a row per pair: arm, seed, split, example_id, cluster, sample and the sums of that one pair."""
    valid = set(CONTROLS) | set(generations["control"].unique()) - {"none"}
    if control not in valid:
        raise unknown("control", control, map(str, valid))
    answers = select(generations, split)
    if answers.empty:
        answers = answers.assign(cluster=[])
    keys = ["arm", "seed", "split", "example_id", "sample"]
    answers = answers.assign(right=(answers["outcome"] == "right").astype(float))
    answers = answers.assign(graded=(answers["outcome"] != UNGRADED).astype(float))
    said = ["right", "n_tokens", "graded", *(["response"] if "response" in answers else [])]
    x = answers.loc[answers["view"] == "no_context", [*keys, "cluster", *said]]
    xc = answers.loc[(answers["view"] == "with_context") & (answers["control"] == control), [*keys, *said]]
    for side in (x, xc):
        twice = side.duplicated(keys)
        if twice.any():
            where = ", ".join(f"{key} {value}" for key, value in side.loc[twice, keys].iloc[0].items())
            raise UserError(
                f"The table 'generations' has {int(twice.sum())} answers twice (the first: {where}). A pair "
                f"has one answer in each view; evaluate again, or number the answers in the column 'sample'."
            )
    pairs = x.merge(xc, on=keys, suffixes=("_x", "_xc"))
    pairs = pairs.rename(columns={"n_tokens_x": "tokens_x", "n_tokens_xc": "tokens_xc"})
    changed = (pairs["response_x"] != pairs["response_xc"]).astype(float) if "response_x" in pairs else np.nan
    graded = pairs["graded_x"] * pairs["graded_xc"]
    return pairs.assign(pairs=1.0, both=pairs["right_x"] * pairs["right_xc"], graded=graded, changed=changed)


def block(pairs: pd.DataFrame, unit: str = "example_id") -> Block:
    """Sum the pairs of one arm into a dense block of seeds × units; sorted, so that row order cannot matter."""
    row, seeds = pd.factorize(pairs["seed"], sort=True)
    column, units = pd.factorize(pairs[unit], sort=True)
    values = np.zeros((len(seeds), len(units), len(SUMS)))
    np.add.at(values, (row, column), pairs[list(SUMS)].to_numpy(dtype=float))
    clusters = pairs.assign(column=column).drop_duplicates("column").set_index("column")["cluster"].sort_index()
    return Block([int(seed) for seed in seeds], list(units), clusters.tolist(), values)


def blocks_by_arm(generations: pd.DataFrame, control: str, split: str | None) -> dict[str, Block]:
    """Return every arm of the table, those without pairs for this control included (so that they show as NaN)."""
    pairs = pairs_of(generations, control, split)
    asked = select(generations, split)
    by_arm = {}
    for arm in sorted(asked["arm"].unique()):
        one = block(pairs[pairs["arm"] == arm])
        seeds = sorted({int(seed) for seed in asked.loc[asked["arm"] == arm, "seed"].unique()})
        values = np.zeros((len(seeds), len(one.examples), len(SUMS)))
        values[[seeds.index(seed) for seed in one.seeds]] = one.values
        by_arm[str(arm)] = Block(seeds, one.examples, one.clusters, values)
    return by_arm


def aligned(arms: Sequence[Block], names: Sequence[str]) -> list[Block]:
    """Give the arms on the examples they share and the runs that meet (:func:`~cr_interp.tables.pairing.meetings`).

    An example that one arm was not asked under some seed is set to zero there for all of them.
    """
    met = meetings([(name, one.seeds) for name, one in zip(names, arms, strict=True)])
    examples = sorted(set.intersection(*(set(one.examples) for one in arms)))
    if not met[0]:
        having = "; ".join(f"{name}: {one.seeds}" for name, one in zip(names, arms, strict=True))
        raise UserError(
            f"These arms have no seed in common ({having}), so they cannot be paired. Train more seeds."
        )
    called = named(names, met)
    found = [replace(one.at(seeds, examples), seeds=called) for one, seeds in zip(arms, met, strict=True)]
    everywhere = np.prod([one["pairs"] > 0 for one in found], axis=0)
    return [one.only(everywhere) for one in found]
