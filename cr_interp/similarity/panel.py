"""One layer's panel: how far its states move when the context returns, with intervals over examples.

Mental model: x_t is a token's state without the context and y_t its state with it. A
:class:`DriftAccumulator` sees the pairs of all tokens once, example by example, and keeps sums per example,
because **examples are the units**: the tokens of one response are not independent, so every interval comes
from drawing examples, with all their tokens, with replacement.

    cosine          mean over tokens of cos(x_t, y_t)
    centred_cosine  Σ⟨x_t−μ, y_t−ν⟩ / √(Σ|x_t−μ|²·Σ|y_t−ν|²), μ and ν the views' means over all tokens
    relative_l2     mean over tokens of |x_t − y_t| / |x_t|
    cka             debiased linear CKA of the token rows (Song et al. 2012; Kornblith et al. 2019)

States of language models share a large common component, so a cosine near 1 says little by itself; the
centred one and CKA take that component out. CKA's rows are tokens: tokens of one response resemble each other
in both views, which raises it, more so the fewer the examples.

Intervals. The first three are ratios of sums: percentiles of the replicates, the means μ and ν computed anew in
each. CKA's replicates need Gram matrices, so they use at most ``max_rows`` rows (whole examples, chosen by a
hash of their id: the same ones in every layer). Their centre is a little off, since the tokens of an example
drawn twice also pair with their neighbours' copies; so the replicates' deviations *from their median* are put
around the estimate, shrunk by √(kept / all examples) where rows were left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.similarity.cka import weighted_cka
from cr_interp.similarity.moments import PairMoments, rounding
from cr_interp.statistics import bootstrap_weights, interval

MEASURES = ("cosine", "centred_cosine", "relative_l2", "cka")

#: Replicates of CKA, which cost a matrix product each and whose quantiles need no third digit.
CKA_RESAMPLES = 500

#: Fewer whole examples than this within ``max_rows`` give no interval for CKA.
LEAST_KEPT = 8

# Columns of the per-example sums.
_COUNT, _COSINE, _RELATIVE, _XX, _YY, _XY = range(6)


@dataclass
class _Kept:
    """Rows of whole examples: those with the smallest hashes, at most ``max_rows`` rows together."""

    max_rows: int
    seed: int
    examples: dict[int, tuple[int, Tensor, Tensor]]  # id → hash, rows of x, rows of y
    bar: int = 1 << 64  # examples with a hash from here on are out
    rows: int = 0

    def offer(self, example: int, x: Float[Tensor, "token width"], y: Float[Tensor, "token width"]) -> None:
        """Keeping a prefix of a random order makes it a uniform sample, whatever the order of arrival."""
        order = _hash(example, self.seed)
        if order >= self.bar:
            return
        self.examples[example] = (order, x.to(torch.float32, copy=True), y.to(torch.float32, copy=True))
        self.rows += len(x)
        while self.rows > self.max_rows:
            last = max(self.examples, key=lambda one: self.examples[one][0])
            self.bar, dropped, _ = self.examples.pop(last)
            self.rows -= len(dropped)


class DriftAccumulator:
    """Streams one layer's states in both views into the panel of measures.

    >>> drift = DriftAccumulator(width=576)
    >>> for x, y, example in batches:           # [token, width] twice, [token] example ids
    ...     drift.update(x, y, example)
    >>> drift.finish()                          # a dict per measure: estimate, low, high, n_tokens, …

    Memory: two sums of width numbers per example, ``PairMoments``, and ``max_rows`` rows of each view.
    """

    def __init__(self, width: int, max_rows: int = 1024, seed: int = 0) -> None:
        self.width = width
        self._moments = PairMoments()
        self._kept = _Kept(max_rows, seed, {})
        self._seen: set[int] = set()
        self._pilot: tuple[Tensor, Tensor] | None = None
        self._scalars: list[Float[Tensor, "example sums"]] = []
        self._sum_x: list[Float[Tensor, "example width"]] = []  # relative to the pilot
        self._sum_y: list[Float[Tensor, "example width"]] = []
        self._epsilon = 0.0

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
        again = self._seen.intersection(ids.tolist())
        if again:
            raise ValueError(f"examples {sorted(again)} came in an earlier update; give all their tokens at once")
        self._seen.update(ids.tolist())

        if self._pilot is None:
            # Sums of squares relative to a typical state, so that a massive common component costs no digits.
            self._pilot = (xd.mean(0), yd.mean(0))
        norm_x, norm_y = xd.norm(dim=1), yd.norm(dim=1)
        from_x, from_y = xd - self._pilot[0], yd - self._pilot[1]
        # A state of norm 0 has no direction: 0/0 is NaN, which the estimate then is, with its reason.
        relative = torch.where(norm_x > 0, (xd - yd).norm(dim=1) / norm_x, torch.nan)
        per_token = torch.stack(
            [
                torch.ones_like(norm_x),
                (xd * yd).sum(1) / (norm_x * norm_y),
                relative,
                from_x.square().sum(1),
                from_y.square().sum(1),
                (from_x * from_y).sum(1),
            ],
            dim=1,
        )
        for total, values in ((self._scalars, per_token), (self._sum_x, from_x), (self._sum_y, from_y)):
            total.append(values.new_zeros(len(ids), values.shape[1]).index_add_(0, where, values))
        self._epsilon = max(self._epsilon, *(torch.finfo(rows.dtype).eps for rows in (x, y)))
        self._moments.update(x, y)
        for index, one in enumerate(ids.tolist()):
            self._kept.offer(one, x[where == index], y[where == index])

    @property
    def n_tokens(self) -> int:
        return self._moments.n

    @property
    def n_examples(self) -> int:
        return len(self._seen)

    def finish(self, resamples: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
        """One dict per measure: ``measure, estimate, low, high, n_tokens, n_examples, reason``.

        ``reason`` says why an estimate or its interval is NaN, and is None otherwise.
        """
        if not self._seen:
            return [self._row(measure, math.nan, None, "no tokens") for measure in MEASURES]
        weights = bootstrap_weights(self.n_examples, resamples, seed)
        one = np.ones((1, self.n_examples))
        rows = []
        for measure, of in (
            ("cosine", self._mean_of(_COSINE)),
            ("centred_cosine", self._centred_cosine),
            ("relative_l2", self._mean_of(_RELATIVE)),
        ):
            estimate = of(one).item()
            rows.append(self._row(measure, estimate, of(weights), self._why(measure, estimate)))
        return [*rows, self._cka(min(resamples, CKA_RESAMPLES), seed)]

    # -- measures ------------------------------------------------------------------------------------------

    def _mean_of(self, column: int) -> Callable[[ndarray], ndarray]:
        sums = torch.cat(self._scalars).numpy()
        return lambda weights: (weights @ sums[:, column]) / (weights @ sums[:, _COUNT])

    def _centred_cosine(self, weights: Float[ndarray, "replicates example"]) -> Float[ndarray, " replicates"]:
        """From Σ⟨x−μ, y−ν⟩ = Σ⟨x, y⟩ − n⟨μ, ν⟩ in each replicate; replicates without variation are NaN."""
        w = torch.from_numpy(weights)
        n, _, _, xx, yy, xy = (w @ torch.cat(self._scalars).nan_to_num()).T
        sum_x, sum_y = w @ torch.cat(self._sum_x), w @ torch.cat(self._sum_y)
        xx = xx - sum_x.square().sum(1) / n
        yy = yy - sum_y.square().sum(1) / n
        xy = xy - (sum_x * sum_y).sum(1) / n
        assert self._pilot is not None
        for left, all_, pilot in ((xx, self._sum_x, self._pilot[0]), (yy, self._sum_y, self._pilot[1])):
            mean = pilot + torch.cat(all_).sum(0) / self.n_tokens
            xy = torch.where(left <= n * rounding(mean, self._epsilon), torch.nan, xy)
        return (xy / (xx.clamp_min(0) * yy.clamp_min(0)).sqrt()).numpy()

    def _cka(self, resamples: int, seed: int) -> dict[str, Any]:
        estimate, reason = self._moments.estimate()
        kept = self._kept.examples
        if reason is None and len(kept) < self.n_examples and len(kept) < LEAST_KEPT:
            reason = (
                f"no interval: max_rows = {self._kept.max_rows} holds only {len(kept)} whole examples; raise it"
            )
        if reason is not None:
            return self._row("cka", estimate, None, reason)
        ids = sorted(kept)  # so that the order of arrival does not matter
        group = torch.cat([torch.full((len(kept[one][1]),), index) for index, one in enumerate(ids)])
        gram_x = _gram(torch.cat([kept[one][1] for one in ids]))
        gram_y = _gram(torch.cat([kept[one][2] for one in ids]))
        weights = torch.from_numpy(bootstrap_weights(len(ids), resamples, seed))
        replicates = weighted_cka(gram_x, gram_y, weights, group).numpy()
        replicates = replicates[np.isfinite(replicates)]
        if len(replicates):
            deviation = replicates - np.median(replicates)
            replicates = estimate + deviation * math.sqrt(len(ids) / self.n_examples)
        return self._row("cka", estimate, replicates, None)

    def _why(self, measure: str, estimate: float) -> str | None:
        if not math.isnan(estimate):
            return None
        if measure == "centred_cosine":
            return f"a view's states are constant over the {self.n_tokens} tokens"
        return "some tokens have a state of norm 0"

    def _row(
        self, measure: str, estimate: float, replicates: ndarray | None, reason: str | None
    ) -> dict[str, Any]:
        low = high = math.nan
        if self.n_examples == 1 and reason is None:
            reason = "no interval: one example"
        if reason is None and replicates is not None:
            low, high = (float(end) for end in interval(replicates))
        return {
            "measure": measure,
            "estimate": float(estimate),
            "low": low,
            "high": high,
            "n_tokens": self.n_tokens,
            "n_examples": self.n_examples,
            "reason": reason,
        }


def _gram(rows: Float[Tensor, "n width"]) -> Float[Tensor, "n n"]:
    """Gram matrix of centred rows; the product in float32, as precise as the rows, the rest in float64."""
    centred = (rows.double() - rows.double().mean(0)).float()
    return (centred @ centred.T).double()


def _hash(example: int, seed: int) -> int:
    """A fixed random-looking 64-bit number of an example (splitmix64), the same in every process and layer."""
    mask = (1 << 64) - 1
    z = (example * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
