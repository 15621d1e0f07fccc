"""Directions: is the returning context a second dose of what was learnt?

Mental model. In every layer

    v = mean(with − without the context)     from the base (what the context does) and from the student (what it still does)
    u = mean(student − base), both without   what training did to the same tokens

computed on training prompts. The *double-dose* idea: training put v into the student (u has the direction of v_base), and the
returning context puts it there once more, so that taking v_base out of the run with the context should repair the answer.
So v is taken from the with-context run of other examples (``remove``), or put into the run without (``add``), at the aligned
positions, and it is read off as in patching.

u and v_base both subtract the base's states without the context: computed on the same prompts, the noise of these alone gives
them a cosine of about a half. So each is computed on half of the clusters, and the cosine is the mean over both ways to do so.

Controls of the same norm: a random direction for every token, and ``unrelated``, the difference of two training prompts' own
states without the context. For cosines they say where 95 % of such directions lie.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cr_interp.capture.sites import Site, blocks
from cr_interp.ends import ends
from cr_interp.mechanism.batches import VIEWS, Batch, Read, Views, says_exhausted
from cr_interp.mechanism.estimates import estimates
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.material import NONE, Material
from cr_interp.mechanism.replaced import random_directions
from cr_interp.statistics import bootstrap_weights, cluster_numbers

#: action → the view that is changed, and whether v is added or taken away.
ACTIONS = {"remove": ("with_context", -1.0), "add": ("no_context", 1.0)}
CONTROLS = ("none", "random", "unrelated")
RESAMPLES = 1000
#: Pairs of unrelated prompts.
DRAWN = 400
MEASURES = ("cos_u_v", "share_along", "size_ratio", "step_ratio")
PLACE = ("group", "action", "vector", "site", "layer", "control")

Vectors = dict[str, dict[Site, Float[Tensor, " width"]]]


def rows(given: Material) -> dict[str, pd.DataFrame]:
    """Compute the tables ``direction_examples``, ``direction_effects`` and ``directions`` of one checkpoint."""
    sites = [Site("resid_post", layer) for layer in range(len(blocks(given.loaded.model)))]
    of = states(given, sites)
    found = effects(given, sites, of)
    tables = {"directions": geometry(of, given.clusters, sites, given.is_base)}
    if len(found):
        return {"direction_examples": found, "direction_effects": estimates(found, PLACE), **tables}
    return {"direction_examples": found, "direction_effects": found, **tables}


def states(given: Material, sites: list[Site]) -> dict[str, dict[Site, Float[Tensor, "prompt width"]]]:
    """Compute mean states of every prompt: ``base`` and ``student``, each ``_x`` without and ``_c`` with the context."""
    base = given.loaded if given.is_base else given.base()
    return {
        f"{name}_{short}": given.means(who, view, sites)
        for name, who in (("base", base), ("student", given.loaded))
        for short, view in (("x", NONE), ("c", "exact"))
    }


# -- geometry ------------------------------------------------------------------------------------------------


def geometry(
    of: Mapping[str, Mapping[Site, Tensor]], clusters: list[str], sites: list[Site], is_base: bool = False
) -> pd.DataFrame:
    """Return a row per layer, measure and control. Of the base itself only what needs no student: nothing but its size is
    known.
    """
    numbers = cluster_numbers(clusters)
    n = int(numbers.max()) + 1
    weights = np.concatenate([np.ones((1, n)), bootstrap_weights(n, RESAMPLES)])
    found = []
    for site in sites:
        x, c, s, sc = (of[name][site].double().numpy() for name in ("base_x", "base_c", "student_x", "student_c"))
        parts = {"v": c - x, "u": s - x, "w": sc - s}
        halves = [_means(parts, numbers, weights * (np.arange(n) % 2 == half)) for half in (0, 1)]
        whole = _means(parts, numbers, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = {name: _norm(whole[name]) / _norm(whole["v"]) for name in ("w", "u")}
        values = {
            "cos_u_v": _crossed(halves, "u", "v", _cosine),
            "share_along": _crossed(halves, "w", "v", lambda a, b: _cosine(a, b) ** 2),
            "size_ratio": sizes["w"],
            "step_ratio": sizes["u"],
        }
        if is_base:  # there is no student: its u is nothing, its v the base's
            values = {}
        for measure, drawn in values.items():
            if not np.isfinite(drawn[0]):  # where nothing moves there is no direction
                continue
            low, high = ends(float(drawn[0]), drawn[1:], n)
            if measure == "cos_u_v":
                low, high = max(low, -1.0), min(high, 1.0)
            found.append((site.name, site.layer, measure, "none", float(drawn[0]), low, high, len(clusters)))
            found += [
                (site.name, site.layer, measure, control, *three, len(clusters))
                for control, three in _chance(measure, whole, x, numbers)
            ]
    columns = ["site", "layer", "measure", "control", "estimate", "low", "high", "n_examples"]
    return pd.DataFrame(found, columns=columns).astype({"layer": "int32"})


def _means(
    parts: Mapping[str, Float[ndarray, "prompt width"]], numbers: ndarray, weights: Float[ndarray, "draw cluster"]
) -> dict[str, Float[ndarray, "draw width"]]:
    n = weights.shape[1]
    counts = weights @ np.bincount(numbers, minlength=n)
    found = {}
    for name, values in parts.items():
        sums = np.zeros((n, values.shape[1]))
        np.add.at(sums, numbers, values)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[name] = (weights @ sums) / counts[:, None]
    return found


def _crossed(
    halves: Sequence[Mapping[str, ndarray]], one: str, other: str, of: Callable[[ndarray, ndarray], ndarray]
) -> Float[ndarray, " draw"]:
    """Compute one thing from one half of the clusters, the other from the other half, and the mean over both ways."""
    return (of(halves[0][one], halves[1][other]) + of(halves[1][one], halves[0][other])) / 2


def _norm(a: Float[ndarray, "draw width"]) -> Float[ndarray, " draw"]:
    return np.linalg.norm(a, axis=-1)


def _cosine(a: Float[ndarray, "draw width"], b: Float[ndarray, "draw width"]) -> Float[ndarray, " draw"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a * b).sum(-1) / (_norm(a) * _norm(b))


def _chance(
    measure: str, whole: Mapping[str, ndarray], x: Float[ndarray, "prompt width"], numbers: ndarray
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Measure what directions of the controls would give: the middle, and where 95 % of them lie."""
    if measure not in ("cos_u_v", "share_along"):
        return
    mine = whole["u" if measure == "cos_u_v" else "w"][:1]
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(x), size=(2, DRAWN))
    apart = numbers[first] != numbers[second]
    drawn = {
        "random": rng.normal(size=(DRAWN, x.shape[1])),
        "unrelated": x[first[apart]] - x[second[apart]],
    }
    for control, directions in drawn.items():
        values = _cosine(np.broadcast_to(mine, directions.shape), directions)
        if measure == "share_along":
            values = values**2
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.quantile(values, [0.025, 0.975])
            yield control, (float(values.mean()), float(low), float(high))


# -- effects -------------------------------------------------------------------------------------------------


@torch.no_grad()
def effects(
    given: Material, sites: list[Site], of: Mapping[str, Mapping[Site, Float[Tensor, "prompt width"]]]
) -> pd.DataFrame:
    """Return a row per example, action, vector, layer and control: the read-outs of patching, with v taken away or added.

    Answers of the clusters that v was computed on are left out, and answers that the model does not decode greedily.
    """
    pairs = given.apart
    vectors: Vectors = {"base": {site: (of["base_c"][site] - of["base_x"][site]).mean(0) for site in sites}}
    if not given.is_base:
        vectors["student"] = {site: (of["student_c"][site] - of["student_x"][site]).mean(0) for site in sites}
    total = len(pairs) * len(sites) * len(vectors) * len(ACTIONS) * len(CONTROLS)
    done, found = 0, []
    with says_exhausted(given.options.batch_size):
        views = Views(given.loaded, pairs, backend=given.options.backend) if pairs else None
        for batch in views.batches(given.options.batch_size) if views else ():
            for site in sites:
                for action, (view, sign) in ACTIONS.items():
                    own = batch.runs[view].states([site])[site]
                    for name, control, moved in _moves(batch, site, vectors, of["student_x"][site]):
                        put = own + sign * moved.to(own)
                        read = batch.read(batch.runs[view].final({site: put}))
                        found.append(_rows(batch, action, name, site, control, read))
                        done += len(batch.pairs)
                        given.progress(done, total)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _moves(
    batch: Batch, site: Site, vectors: Vectors, prompts: Float[Tensor, "prompt width"]
) -> Iterator[tuple[str, str, Float[Tensor, "token width"]]]:
    """Yield vector, control, and what it moves each token by."""
    for name, of in vectors.items():
        vector, size = of[site], of[site].norm()
        yield name, "none", vector.expand(len(batch.tokens), -1)
        device = batch.targets.device
        yield name, "random", size * random_directions(batch.pairs, f"{site} direction", device, len(vector))
        yield name, "unrelated", size * _unrelated(batch.pairs, site, prompts)[batch.tokens]


def _unrelated(
    pairs: Sequence[Pair], site: Site, prompts: Float[Tensor, "prompt width"]
) -> Float[Tensor, "example width"]:
    """Return, for every example, the difference of two prompts' states, of norm 1; it does not depend on the batch."""
    found = []
    for pair in pairs:
        rng = np.random.default_rng(crc32(f"{pair.example_id} {site} unrelated".encode()))
        first, second = rng.choice(len(prompts), size=2, replace=len(prompts) < 2)
        found.append(torch.nn.functional.normalize(prompts[first] - prompts[second], dim=0))
    return torch.stack(found)


def _rows(batch: Batch, action: str, vector: str, site: Site, control: str, read: Read) -> pd.DataFrame:
    view, _ = ACTIONS[action]
    donor = next(each for each in VIEWS if each != view)
    there = batch.usual["no_context"].whole.nonzero()[:, 0].tolist()
    pairs, back = [batch.pairs[i] for i in there], action == "remove"
    return pd.DataFrame(
        {
            "example_id": [p.example_id for p in pairs],
            "cluster": [p.cluster for p in pairs],
            "group": [p.group for p in pairs],
            "action": action,
            "vector": vector,
            "site": site.name,
            "layer": site.layer,
            "control": control,
            "received": batch.usual[view].difference[there].numpy(),
            "given": batch.usual[donor].difference[there].numpy(),
            "patched": read.difference[there].numpy(),
            "before": (batch.usual[view].whole[there] == back).numpy(),
            "answer": (read.whole[there] == back).numpy(),
        }
    )
