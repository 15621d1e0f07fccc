"""The panel of every layer beside its floor, for whoever has the states of two views at hand."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.groups import tokens_each
from cr_interp.similarity.measures import MEASURES, METHODS
from cr_interp.similarity.panel import DriftAccumulator
from cr_interp.similarity.permutation import over_layers, p_value
from cr_interp.similarity.sinks import not_sinks
from cr_interp.similarity.units import Clusters


@takes_arrays
def panel(
    layers_x: Mapping[Any, Float[Tensor, "token width"]],
    layers_y: Mapping[Any, Float[Tensor, "token width"]],
    example: Int[Tensor, " token"],
    mask_sinks: bool = True,
    resamples: int = 1000,
    measures: Sequence[str] = MEASURES,
    permutations: int = 0,
    clusters: Clusters = None,
) -> pd.DataFrame:
    """Compute the whole panel of every layer, beside its floor: columns ``layer, control, measure, estimate, low, high, …``.

    ``layers_x`` and ``layers_y`` map a layer (or any name) to the states of the same tokens without and with the context;
    ``example`` says which response each token is of, in the order of the rows. ``control`` is ``given``, or ``floor``: each
    token's state against the state, in the view without the context, of the token at the same place in *another* response
    (see :func:`unrelated`). A sink (``sinks.py``) is left out of both unless ``mask_sinks=False``; ``n_masked`` counts them.
    ``clusters[example]`` names what an example is drawn with, of an example id. The t of ``cka_examples`` is the same in
    every layer. ``permutations`` of the examples give it a p per layer, and one of all layers together (``permutation.py``).

    Further columns: ``p, p_layers``, ``n_dropped`` examples of fewer than t tokens, ``n_duplicates`` tokens whose states
    equal an earlier one's, ``example_tokens`` (t), and ``method``.

    Raises :class:`UserError` for layers that one side lacks, unequal rows, or states that are not finite.
    """
    if set(layers_x) != set(layers_y):
        raise UserError(f"The two sides have different layers: {list(layers_x)} and {list(layers_y)}.")
    here, there = unrelated(example)
    _, lengths = torch.unique(example, return_counts=True)
    tokens = tokens_each([lengths.tolist()])
    found: dict[tuple[Any, str], DriftAccumulator] = {}
    for layer, x in layers_x.items():
        y = layers_y[layer]
        if not len(x) == len(y) == len(example):
            raise UserError(
                f"At {layer}: {len(x)} rows without the context, {len(y)} with it and {len(example)} example ids. They "
                f"have to be the same tokens in the same order."
            )
        for control, (a, b, of) in {
            "given": (x, y, example),
            "floor": (x[here], x[there], example[here]),
        }.items():
            one = DriftAccumulator(x.shape[1], measures=measures, tokens=tokens, chained=control == "floor")
            try:
                one.update(a, b, of, not_sinks(a, b) if mask_sinks and len(a) else None)
            except UserError as error:
                raise UserError(f"At {layer} ({control}): {error}") from error
            found[layer, control] = one
    rows, nulls = panel_rows(found, ("layer", "control"), resamples, permutations, clusters)
    return pd.DataFrame(with_p(rows, nulls, ("layer", "control")))


Nulls = dict[tuple[Any, str], Float[ndarray, " permutations"]]


def panel_rows(
    accumulators: Mapping[tuple[Any, str], DriftAccumulator],
    names: tuple[str, str],
    resamples: int = 1000,
    permutations: int = 0,
    clusters: Clusters = None,
    permuted: Collection[str] | None = None,
) -> tuple[list[dict[str, Any]], Nulls]:
    """Return the rows of many accumulators, by (place, control), called ``names``, with what stands beside an estimate.

    And ``cka_examples`` under the permutations, for :func:`with_p`; ``permuted`` are the controls that get them (None: all).
    """
    rows: list[dict[str, Any]] = []
    nulls: Nulls = {}
    for key, one in accumulators.items():
        wanted = (
            permuted is None or key[1] in permuted
        ) and not one.chained  # a floor's examples stand on both sides
        if permutations and "cka_examples" in one.measures and wanted:
            nulls[key] = one.permuted(permutations, clusters=clusters)
        shared = {
            "n_masked": one.n_masked,
            "n_dropped": one.n_dropped,
            "n_duplicates": one.n_duplicates,
            "example_tokens": one.example_tokens,
        }
        for row in one.finish(resamples, clusters=clusters):
            method = METHODS.get(row["measure"], "mean over tokens")
            rows.append({**dict(zip(names, key, strict=True)), **row, **shared, "method": method, **_UNSET})
    return rows, nulls


_UNSET = {"p": math.nan, "p_layers": math.nan}


def with_p(rows: list[dict[str, Any]], nulls: Nulls, names: tuple[str, str]) -> list[dict[str, Any]]:
    """Return the rows with ``p`` and ``p_layers`` of ``cka_examples``, the latter over all layers of ``nulls`` of a control."""
    level = {tuple(row[name] for name in names): row for row in rows if row["measure"] == "cka_examples"}
    for control in dict.fromkeys(control for _, control in nulls):
        mine = {key: row for key, row in level.items() if key[1] == control and key in nulls}
        together = over_layers({key: row["estimate"] for key, row in mine.items()}, nulls)
        for key, row in mine.items():
            row |= {"p": p_value(row["estimate"], nulls[key]), "p_layers": together[key]}
    return rows


@takes_arrays
def unrelated(example: Int[Tensor, " token"]) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Return pairs of unrelated, position-matched tokens: token t of a response with token t of the next response.

    Rows are in order of response; the last response meets the first. Tokens without a counterpart are left out, and a single
    response has none at all.
    """
    ids, counts = torch.unique_consecutive(example, return_counts=True)
    starts = counts.cumsum(0) - counts
    if len(ids) < 2:
        return example.new_zeros(0, dtype=torch.long), example.new_zeros(0, dtype=torch.long)
    here, there = [], []
    for one in range(len(ids)):
        other = (one + 1) % len(ids)
        both = torch.arange(min(int(counts[one]), int(counts[other])))
        here.append(int(starts[one]) + both)
        there.append(int(starts[other]) + both)
    return torch.cat(here), torch.cat(there)
