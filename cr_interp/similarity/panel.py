"""One layer's panel: how far its states move when the context returns, with intervals over examples.

Mental model: x_t is a token's state without the context and y_t its state with it. A :class:`DriftAccumulator` sees the pairs
of all tokens once, example by example, and keeps sums per example, because **examples are the units**. The tokens of one
response are not independent, so every interval comes from drawing examples, with all their tokens, with replacement.

    cosine          mean over tokens of cos(x_t, y_t)
    cosine_p5       its 5th percentile over tokens
    cosine_trimmed  the mean without the three dimensions that contribute most to it …
    top3_share      … and the share of the mean cosine that comes from those three
    centred_cosine  Σ⟨x_t−μ, y_t−ν⟩ / √(Σ|x_t−μ|²·Σ|y_t−ν|²), μ and ν the views' means over all tokens
    relative_l2     mean over tokens of |x_t − y_t| / |x_t|
    norm_ratio      mean over tokens of |y_t| / |x_t|
    shift_share     how much of the movement y_t−x_t is one shift common to all tokens, debiased (``shift.py``)
    cka             debiased linear CKA of the token rows (Song et al. 2012; Kornblith et al. 2019)
    cka_examples    the same between distinct examples, of distinct clusters if given (``weighted.py``), t tokens of each
    knn_overlap     mutual overlap of the 10 nearest neighbours of other examples (Huh et al. 2024) …
    knn_chance      … and what unrelated states would have
    procrustes      nuclear norm of centred xᵀy over |x||y| (Frobenius): 1 if equal up to a rotation

States of language models share a large common component, so a cosine near 1 says little by itself; the
centred one and CKA take that component out. CKA's rows are tokens: tokens of one response resemble each other
in both views, which raises it, more so the fewer the examples; ``cka_examples`` has no such rise.

Intervals are over clusters of examples where they are given, else over examples. Means and ratios: percentiles of the
replicates, the means μ and ν computed anew in each; measures whose replicates are biased: ``ends.py``. CKA's replicates
need Gram matrices, so they use at most ``max_rows`` rows (whole examples, chosen by a hash of their id: the same ones in every
layer), their scatter shrunk by √(kept / all examples) where rows were left out. ``cka_examples`` is estimated on t tokens of
each example, at most ``max_rows`` together, and the neighbours on the kept rows. Procrustes has no interval: a replicate
costs a singular value decomposition.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from cr_interp.ends import ends
from cr_interp.errors import UserError
from cr_interp.similarity.arrays import takes_arrays
from cr_interp.similarity.cka import weighted_cka
from cr_interp.similarity.duplicates import marks
from cr_interp.similarity.groups import few_examples, tokens_each
from cr_interp.similarity.knn import overlap_per_row
from cr_interp.similarity.measures import MEASURES
from cr_interp.similarity.moments import Estimate, PairMoments, rounding
from cr_interp.similarity.permutation import permuted_cka
from cr_interp.similarity.reservoir import Kept
from cr_interp.similarity.shift import shift_share
from cr_interp.similarity.units import Clusters, Units, first_of
from cr_interp.similarity.weighted import ExampleGrams

#: Replicates of CKA, which cost a matrix product each and whose quantiles need no third digit.
CKA_RESAMPLES = 500

#: Fewer whole examples than this within ``max_rows`` give no interval for CKA.
LEAST_KEPT = 8

#: Neighbours compared by ``knn_overlap``.
NEIGHBOURS = 10

#: Dimensions left out of ``cosine_trimmed``.
TRIMMED = 3

# Columns of the per-example sums.
_COUNT, _COSINE, _TRIMMED, _TOP, _RELATIVE, _NORMS, _XX, _YY, _XY, _MOVED = range(10)


class DriftAccumulator:
    """Streams one layer's states in both views into the panel of measures.

    >>> drift = DriftAccumulator(width=8)
    >>> for example in range(12):                   # a stream: here an example at a time, of five tokens
    ...     x, moved = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(example))    # [token, width]
    ...     drift.update(x, x + moved, torch.full((5,), example))
    >>> found = drift.finish()                      # a dict per measure: estimate, low, high, n_tokens, …
    >>> found[0]["measure"], found[0]["n_tokens"], found[0]["n_examples"]
    ('cosine', 60, 12)

    Memory: two sums of width numbers per example, a number per token, ``PairMoments``, and ``max_rows`` rows of each
    view. ``measures`` leaves out what is not wanted; the three dimensions of ``cosine_trimmed`` are those of the
    first batch. ``tokens`` is the t of ``cka_examples``, one for a study (``groups.tokens_each``); None: chosen from
    the examples seen. ``chained``: the two sides are unrelated tokens, each example against the next one
    (:func:`~cr_interp.similarity.layers.unrelated`). Their movements sum to nothing by construction, so there is no share of a
    shift, and neighbours are drawn together.
    """

    def __init__(
        self,
        width: int,
        max_rows: int = 1024,
        seed: int = 0,
        measures: Sequence[str] = MEASURES,
        tokens: int | None = None,
        chained: bool = False,
    ) -> None:
        self.width = width
        self.measures = tuple(measures)
        self.tokens = tokens
        self.chained = chained
        self.n_masked = 0
        self._each = None if tokens is None else Kept(max_rows, seed, tokens)
        self._lengths: list[int] = []
        self._marks: list[ndarray] = []
        self._moments = PairMoments()
        self._kept = Kept(max_rows, seed)
        # Rows that no measure asks for are not kept.
        needs_all = tokens is None or bool({"cka", "knn_overlap", "knn_chance"} & set(measures))
        self._samples = [*([self._kept] if needs_all else []), *([] if self._each is None else [self._each])]
        self._seen: list[int] = []
        self._pilot: tuple[Tensor, Tensor] | None = None
        self._top: Int[Tensor, " three"] | None = None
        self._scalars: list[Float[Tensor, "example sums"]] = []
        self._sum_x: list[Float[Tensor, "example width"]] = []  # relative to the pilot
        self._sum_y: list[Float[Tensor, "example width"]] = []
        self._cosines: list[tuple[Tensor, Tensor]] = []  # per token, and which example (in order of arrival)
        self._epsilon = 0.0
        self._units = Units([])

    @takes_arrays
    def update(
        self,
        x: Float[Tensor, "token width"],
        y: Float[Tensor, "token width"],
        example: Int[Tensor, " token"],
        keep: Bool[Tensor, " token"] | None = None,
    ) -> None:
        """Add tokens. All tokens of an example come in one call; ``keep`` leaves out those that are False.

        States that are not finite are a :class:`UserError` naming the examples; nothing of the batch is added.
        """
        expected = (len(example), self.width)
        if tuple(x.shape) != expected or tuple(y.shape) != expected:
            raise ValueError(f"expected states of shape {expected}, got {tuple(x.shape)} and {tuple(y.shape)}")
        x, y, example = x.detach().cpu(), y.detach().cpu(), example.detach().cpu()
        if keep is not None:
            keep = keep.cpu()
            x, y, example = x[keep], y[keep], example[keep]
        if not len(example):
            self.n_masked += 0 if keep is None else len(keep)
            return
        xd, yd = x.double(), y.double()
        finite = (xd.sum(1) + yd.sum(1)).isfinite()
        if not finite.all():
            bad = sorted(set(example[~finite].tolist()))
            raise UserError(
                f"States of {int((~finite).sum())} of {len(example)} tokens are not finite, in the examples "
                f"{', '.join(map(str, bad[:5]))}{' …' if len(bad) > 5 else ''}. No drift can be measured there: "
                f"check the checkpoint (its training may have diverged), or run it in float32."
            )
        ids, where = torch.unique(example, return_inverse=True)
        again = set(self._seen).intersection(ids.tolist())
        if again:
            raise ValueError(f"examples {sorted(again)} came in an earlier update; give all their tokens at once")
        self.n_masked += 0 if keep is None else int((~keep).sum())

        norm_x, norm_y = xd.norm(dim=1), yd.norm(dim=1)
        norms = norm_x * norm_y
        if self._pilot is None or self._top is None:
            # Sums of squares relative to a typical state, so that a massive common component costs no digits.
            self._pilot = (xd.mean(0), yd.mean(0))
            contribution = ((xd * yd) / norms[:, None]).nan_to_num().sum(0)
            self._top = contribution.abs().topk(min(TRIMMED, self.width - 1)).indices
        from_x, from_y = xd - self._pilot[0], yd - self._pilot[1]
        top_x, top_y = xd[:, self._top], yd[:, self._top]
        dot, dot_top = (xd * yd).sum(1), (top_x * top_y).sum(1)
        rest = (xd.square().sum(1) - top_x.square().sum(1)) * (yd.square().sum(1) - top_y.square().sum(1))
        # A state of norm 0 has no direction: 0/0 is NaN, which the estimate then is, with its reason.
        cosine = dot / norms
        per_token = torch.stack(
            [
                torch.ones_like(norm_x),
                cosine,
                (dot - dot_top) / rest.clamp_min(0).sqrt(),
                dot_top / norms,
                torch.where(norm_x > 0, (xd - yd).norm(dim=1) / norm_x, torch.nan),
                torch.where(norm_x > 0, norm_y / norm_x, torch.nan),
                from_x.square().sum(1),
                from_y.square().sum(1),
                (from_x * from_y).sum(1),
                (yd - xd).square().sum(1),
            ],
            dim=1,
        )
        for total, values in ((self._scalars, per_token), (self._sum_x, from_x), (self._sum_y, from_y)):
            total.append(values.new_zeros(len(ids), values.shape[1]).index_add_(0, where, values))
        self._cosines.append((cosine, where + len(self._seen)))
        self._seen += ids.tolist()
        self._epsilon = max(self._epsilon, *(torch.finfo(rows.dtype).eps for rows in (x, y)))
        self._moments.update(x, y)
        self._marks.append(marks(x, y))
        lengths = torch.bincount(where).tolist()
        self._lengths += lengths
        by_example = torch.argsort(where, stable=True).split(lengths)
        for kept in self._samples:
            kept.offer(ids.tolist(), x, y, by_example)

    @property
    def n_tokens(self) -> int:
        return self._moments.n

    @property
    def n_examples(self) -> int:
        return len(self._seen)

    @property
    def n_duplicates(self) -> int:
        """Tokens whose states equal those of an earlier token in both views, to the last bit."""
        return sum(map(len, self._marks)) - len(np.unique(np.concatenate(self._marks or [np.empty(0)])))

    @property
    def example_tokens(self) -> int:
        """The t of ``cka_examples``."""
        return self.tokens if self.tokens is not None else tokens_each([self._lengths], self._kept.max_rows)

    @property
    def n_dropped(self) -> int:
        """Examples with fewer tokens than t, which ``cka_examples`` leaves out."""
        return sum(length < self.example_tokens for length in self._lengths)

    def finish(self, resamples: int = 2000, seed: int = 0, clusters: Clusters = None) -> list[dict[str, Any]]:
        """Return one dict per measure: ``measure, estimate, low, high, n_tokens, n_examples, reason``.

        ``reason`` says why an estimate or its interval is NaN, and is None otherwise. ``clusters[example]`` names the cluster
        of an example id: what the bootstrap draws. None: every example is its own.
        """
        if not self._seen:
            return [self._row(measure, math.nan, None, "no tokens") for measure in self.measures]
        self._units = Units(self._seen, clusters, self.chained)
        weights = self._units.drawn(self._seen, resamples, seed)
        one = np.ones((1, self.n_examples))
        sums: dict[str, Callable[[ndarray], ndarray]] = {
            "cosine": self._ratio(_COSINE, _COUNT),
            "cosine_p5": self._percentile,
            "cosine_trimmed": self._ratio(_TRIMMED, _COUNT),
            "top3_share": self._ratio(_TOP, _COSINE),
            "centred_cosine": self._centred_cosine(),
            "relative_l2": self._ratio(_RELATIVE, _COUNT),
            "norm_ratio": self._ratio(_NORMS, _COUNT),
            "shift_share": self._shift_share(),
        }
        rows = []
        for measure, of in sums.items():
            if measure in self.measures:
                estimate = of(one).item()
                why = self._why(measure, estimate)
                rows.append(self._row(measure, estimate, of(weights), why, biased=measure == "shift_share"))
        few = min(resamples, CKA_RESAMPLES)
        if {"cka", "cka_examples"} & set(self.measures):
            found = self._moments.estimate()  # once for both: it centres three width² sums
            if "cka" in self.measures:
                rows.append(self._cka(found, few, seed))
            if "cka_examples" in self.measures:
                rows.append(self._cka_examples(found.reason, few, seed))
        if {"knn_overlap", "knn_chance"} & set(self.measures):
            rows += [row for row in self._neighbours(resamples, seed) if row["measure"] in self.measures]
        if "procrustes" in self.measures:
            found = self._moments.measure("procrustes")
            reason = found.reason or "no interval: a replicate costs a singular value decomposition"
            rows.append(self._row("procrustes", found.value, None, reason))
        return sorted(rows, key=lambda row: MEASURES.index(row["measure"]))

    def cosines(
        self,
        resamples: int = 2000,
        seed: int = 0,
        clusters: Clusters = None,
    ) -> Float[ndarray, " replicates"]:
        """Return the replicates of the mean cosine; the same draws in every layer that saw the same examples."""
        units = Units(self._seen, clusters, self.chained)
        return self._ratio(_COSINE, _COUNT)(units.drawn(self._seen, resamples, seed))

    def permuted(
        self, permutations: int, seed: int = 0, clusters: Clusters = None
    ) -> Float[ndarray, " permutations"]:
        """Compute ``cka_examples`` with the examples of one view permuted, the same way in every layer (``permutation.py``)."""
        kept, tokens = self._examples(), self.example_tokens
        units = Units(self._seen, clusters).clusters(kept.ids())
        if len(kept.examples) < 4:
            return np.full(permutations, np.nan)
        grams = kept.grams()
        own = None
        if units is not None and (own := ExampleGrams(*grams, tokens, units).own()) is None:
            return np.full(permutations, np.nan)
        return permuted_cka(ExampleGrams(*grams, tokens), kept.ids(), permutations, seed, own)

    # -- who is drawn --------------------------------------------------------------------------------------

    def _examples(self) -> Kept:
        """Return equally many tokens of each example that has so many."""
        return self._each if self._each is not None else self._kept.equal(self.example_tokens)

    # -- measures ------------------------------------------------------------------------------------------

    def _ratio(self, above: int, below: int) -> Callable[[ndarray], ndarray]:
        sums = torch.cat(self._scalars).numpy()
        return lambda weights: (weights @ sums[:, above]) / (weights @ sums[:, below])

    def _percentile(self, weights: Float[ndarray, "replicates example"]) -> Float[ndarray, " replicates"]:
        """Return the smallest cosine that at least 5 % of the tokens do not exceed."""
        cosines = torch.cat([values for values, _ in self._cosines]).numpy()
        example = torch.cat([where for _, where in self._cosines]).numpy()
        if np.isnan(cosines).any():
            return np.full(len(weights), np.nan)
        order = np.argsort(cosines, kind="stable")
        found = []
        for part in np.array_split(weights, max(1, weights.shape[0] * len(order) // 10_000_000)):
            below = part[:, example[order]].cumsum(1)
            found.append(cosines[order][(below < 0.05 * below[:, -1:] - 1e-9).sum(1)])
        return np.concatenate(found)

    def _centred_cosine(self) -> Callable[[ndarray], ndarray]:
        """Compute the centred cosine from Σ⟨x−μ, y−ν⟩ = Σ⟨x, y⟩ − n⟨μ, ν⟩ in each replicate; replicates without variation are
        NaN.
        """
        scalars = torch.cat(self._scalars).nan_to_num()
        of_x, of_y = torch.cat(self._sum_x), torch.cat(self._sum_y)  # relative to the pilots
        floors = self._rounding(0), self._rounding(1)

        def of(weights: Float[ndarray, "replicates example"]) -> Float[ndarray, " replicates"]:
            w = torch.from_numpy(weights)
            n, xx, yy, xy = (w @ scalars)[:, [_COUNT, _XX, _YY, _XY]].T
            sum_x, sum_y = w @ of_x, w @ of_y
            xx = xx - sum_x.square().sum(1) / n  # Σ|x−μ|²
            yy = yy - sum_y.square().sum(1) / n
            xy = xy - (sum_x * sum_y).sum(1) / n
            for left, floor in zip((xx, yy), floors, strict=True):
                xy = torch.where(left <= n * floor, torch.nan, xy)
            return (xy / (xx.clamp_min(0) * yy.clamp_min(0)).sqrt()).numpy()

        return of

    def _shift_share(self) -> Callable[[ndarray], ndarray]:
        """Compute the share of ``shift.py`` over the units; a movement that rounding could have caused is none."""
        assert self._pilot is not None
        scalars = torch.cat(self._scalars)
        tokens, squares = scalars[:, _COUNT], scalars[:, _MOVED]
        nothing = float(squares.sum()) <= self.n_tokens * (self._rounding(0) + self._rounding(1))
        if self.chained or nothing:
            return lambda weights: np.full(len(weights), math.nan)
        shift = self._pilot[1] - self._pilot[0]
        moved = torch.cat(self._sum_y) - torch.cat(self._sum_x) + tokens[:, None] * shift
        where, units = self._units.numbers(self._seen), len(self._units)
        sums, counts, lengths = (
            values.new_zeros(units, *values.shape[1:]).index_add_(0, where, values)
            for values in (moved, tokens, squares)
        )
        first = first_of(where)
        return lambda weights: shift_share(sums, counts, lengths, torch.from_numpy(weights)[:, first]).numpy()

    def _rounding(self, side: int) -> float:
        assert self._pilot is not None
        total = torch.cat((self._sum_x, self._sum_y)[side]).sum(0)
        return rounding(self._pilot[side] + total / self.n_tokens, self._epsilon)

    def _too_few(self) -> str | None:
        """Say why the kept rows cannot stand for all."""
        if len(self._kept.examples) < min(LEAST_KEPT, self.n_examples):
            kept = f"max_rows = {self._kept.max_rows} holds only {len(self._kept.examples)} whole examples"
            return f"no interval: {kept}; raise it"
        return None

    def _cka(self, found: Estimate, resamples: int, seed: int) -> dict[str, Any]:
        estimate, reason = found
        reason = reason or self._too_few()
        if reason is not None:
            return self._row("cka", estimate, None, reason)
        weights = torch.from_numpy(self._units.drawn(self._kept.ids(), resamples, seed))
        replicates = weighted_cka(*self._kept.grams(), weights, self._kept.group()).numpy()
        shrunk = math.sqrt(len(self._kept.examples) / self.n_examples)
        return self._row("cka", estimate, replicates, None, biased=True, scale=shrunk)

    def _cka_examples(self, undefined: str | None, resamples: int, seed: int) -> dict[str, Any]:
        """Make the fields of ``cka_examples``. ``undefined`` says why the row-level value is: constant features and the like."""
        kept = self._examples()
        examples, tokens = len(kept.examples), self.example_tokens
        units = self._units.clusters(kept.ids())
        clusters = None if units is None else len(units.unique())
        if undefined is None and min(examples, clusters or examples) < 4:
            undefined = few_examples(examples, tokens, clusters)
        if undefined is not None:
            return {**self._row("cka_examples", math.nan, None, undefined), "n_examples": examples}
        weights = np.vstack([np.ones(examples), self._units.drawn(kept.ids(), resamples, seed)])
        values = ExampleGrams(*kept.grams(), tokens, units).weighted(torch.from_numpy(weights)).numpy()
        first = float(values[0])
        undefined = None if math.isfinite(first) else "the states of distinct examples do not vary"
        row = self._row("cka_examples", first, values[1:], undefined, biased=True)
        return {**row, "n_tokens": examples * tokens, "n_examples": examples}

    def _neighbours(self, resamples: int, seed: int) -> list[dict[str, Any]]:
        group = self._kept.group()
        others = len(group) - torch.bincount(group, minlength=1)[group] if len(group) else group
        if not len(group) or int(others.min()) <= NEIGHBOURS:
            reason = self._too_few() or f"fewer than {NEIGHBOURS + 1} tokens of other examples"
            return [self._row(name, math.nan, None, reason) for name in ("knn_overlap", "knn_chance")]
        x, y = self._kept.stacked()
        overlap = overlap_per_row(x, y, NEIGHBOURS, group).double()
        examples = self._kept.ids()
        sums = torch.zeros(len(examples), 2, dtype=torch.float64)
        sums.index_add_(0, group, torch.stack([overlap, torch.ones_like(overlap)], 1))
        above, below = sums.T.numpy()
        weights = self._units.drawn(examples, resamples, seed)
        estimate = float(above.sum() / below.sum())
        found = self._row("knn_overlap", estimate, (weights @ above) / (weights @ below), None)
        chance = self._row("knn_chance", float((NEIGHBOURS / others.double()).mean()), None, "no interval: exact")
        return [{**row, "n_tokens": len(group), "n_examples": len(examples)} for row in (found, chance)]

    def _why(self, measure: str, estimate: float) -> str | None:
        if not math.isnan(estimate):
            return None
        if measure == "centred_cosine":
            return f"a view's states are constant over the {self.n_tokens} tokens"
        if measure == "shift_share":
            if self.chained:
                return "unrelated tokens go round in a circle: their movements sum to nothing by construction"
            return "the states do not move" if len(self._units) > 1 else "one example moves"
        return "some tokens have a state of norm 0"

    def _row(
        self,
        measure: str,
        estimate: float,
        replicates: ndarray | None,
        reason: str | None,
        biased: bool = False,
        scale: float = 1.0,
    ) -> dict[str, Any]:
        low = high = math.nan
        units = len(self._units)
        if self.n_examples == 1 and reason is None:
            reason = "no interval: one example"
        elif units == 1 and reason is None:
            reason = "no interval: one cluster of examples"
        if reason is None and replicates is not None:
            low, high = ends(estimate, replicates, units, biased, scale)
        return {
            "measure": measure,
            "estimate": float(estimate),
            "low": low,
            "high": high,
            "n_tokens": self.n_tokens,
            "n_examples": self.n_examples,
            "reason": reason,
        }
