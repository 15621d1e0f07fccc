"""Attribution: what patching every site and head would do, by one forward and one backward pass of each view.

Mental model. To first order, putting the donor's state into the receiver moves the receiver's logit difference by the gradient
there times the difference of the two states, summed over the aligned positions (Nanda 2023; Syed et al. 2023). That is two passes
for all cells together instead of one for each. It is right where the model is nearly straight between the two states and
wrong where it is not: ``cr_interp.tables.attribution.agreement`` says how well it went, against the cells that were patched.

The gradient is the receiver's, so both views are run and each direction has its own. Controls are those of patching.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.capture import model_lock
from cr_interp.capture.sites import Site
from cr_interp.capture.visiting import visiting
from cr_interp.mechanism.batches import VIEWS, Batch, Views, for_head, says_exhausted
from cr_interp.mechanism.cells import Cell, head_cells, site_cells
from cr_interp.mechanism.estimates import PLACE, estimates
from cr_interp.mechanism.given import Answers, Pair
from cr_interp.mechanism.patching import DIRECTIONS
from cr_interp.mechanism.replaced import CONTROLS, otherwise, replacements
from cr_interp.mechanism.runs import Restarted
from cr_interp.models.forward import backbone, device_of, logits
from cr_interp.models.loading import Loaded

States = Float[Tensor, "token width"]


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``attribution_examples`` and ``attribution`` of one checkpoint: its sites, and its heads if any are
    asked.
    """
    model = given.loaded.model
    cells = site_cells(model, given.options.sites) + (head_cells(model) if given.options.heads else [])
    found = attribute(given.loaded, given.pairs, cells, given.options.batch_size, given.progress)
    return (
        {"attribution_examples": found, "attribution": estimates(found, [*PLACE, "head"])} if len(found) else {}
    )


def attribute(
    loaded: Loaded,
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
    controls: Sequence[str] = CONTROLS,
) -> pd.DataFrame:
    """Return a row per example whose answers part, direction, cell and control.

    ``patched`` is what the logit difference would become, to first order; the other columns are those of
    :func:`~cr_interp.mechanism.patching.patch_cells`, which has examples that do not part as well. Of windows the sum is
    given.
    """
    parted = [pair for pair in pairs if pair.place is not None]
    total, done = sum(len(pair.response) for pair in parted), 0
    found: list[dict[str, Any]] = []
    if not parted:
        return pd.DataFrame()
    sites = list(dict.fromkeys(site for cell in cells for site in cell.sites))
    with says_exhausted(batch_size):
        for batch in Views(loaded, parted).batches(batch_size):
            states, slopes, values = {}, {}, {}
            for view in VIEWS:
                states[view], slopes[view], values[view] = gradients(batch, view, sites)
            everybody = {view: batch.joined(view, states[view]) for view in VIEWS}
            usable = batch.read(batch.runs["no_context"].final()).whole
            for direction, (donor, receiver) in DIRECTIONS.items():
                for cell in cells:
                    for control in controls:
                        put, has = replacements(batch, cell, everybody, donor, receiver, control)
                        along = [
                            ((put[site] - states[receiver][site]).double() * slopes[receiver][site].double()).sum(
                                -1
                            )
                            for site in cell.sites
                        ]
                        moved = torch.stack(along).sum(0).cpu()
                        of = torch.zeros(len(batch.pairs), dtype=torch.float64).index_add_(0, batch.tokens, moved)
                        found.append(
                            _columns(
                                batch, usable & has, direction, cell, control, values[receiver], values[donor], of
                            )
                        )
            done += len(batch.tokens)
            progress(done, total)
    return pd.DataFrame({name: np.concatenate([each[name] for each in found]) for name in found[0]})


def gradients(
    batch: Batch, view: str, sites: Sequence[Site]
) -> tuple[dict[Site, States], dict[Site, States], Float[Tensor, " example"]]:
    """Return a view's states at the aligned positions, the gradient there of each example's own logit difference, and those
    differences.
    """
    run = batch.runs[view]
    model = batch.loaded.model
    if isinstance(run, Restarted):
        with model_lock(model), torch.enable_grad():
            seen, final = _watched(model, sites, run.rows.run)
            score = _differences(batch, run.rows.tokens(final))
            slopes = torch.autograd.grad(score.sum(), [seen[site] for site in sites])
        pick = run.rows.tokens
        states = {site: pick(seen[site]).detach() for site in sites}
        return (
            states,
            {site: pick(g) for site, g in zip(sites, slopes, strict=True)},
            score.detach().cpu().double(),
        )
    parts = [_alone(batch, view, i, sites) for i in range(len(batch.pairs))]
    states = {site: torch.cat([part[0][site] for part in parts]) for site in sites}
    return (
        states,
        {site: torch.cat([part[1][site] for part in parts]) for site in sites},
        torch.cat([part[2] for part in parts]),
    )


def _alone(
    batch: Batch, view: str, row: int, sites: Sequence[Site]
) -> tuple[dict[Site, States], dict[Site, States], Float[Tensor, " one"]]:
    """Compute :func:`gradients` of one sequence, run whole: for a model of which no short cut is exact."""
    pair, model = batch.pairs[row], batch.loaded.model
    prompt = pair.without if view == "no_context" else pair.given
    ids = torch.tensor([[*prompt, *pair.response[:-1]]], device=device_of(model))
    aligned = slice(len(prompt) - 1, None)
    with model_lock(model), torch.enable_grad():
        seen, final = _watched(
            model, sites, lambda: backbone(model)(input_ids=ids, use_cache=False).last_hidden_state
        )
        assert pair.place is not None
        scores = logits(model, for_head(batch.loaded, final[0, aligned][pair.place]))
        score = (scores[pair.own] - scores[pair.other])[None]
        slopes = torch.autograd.grad(score.sum(), [seen[site] for site in sites])
    states = {site: seen[site][0, aligned].detach() for site in sites}
    return states, {s: g[0, aligned] for s, g in zip(sites, slopes, strict=True)}, score.detach().cpu().double()


def _watched(model: Any, sites: Sequence[Site], run: Callable[[], Tensor]) -> tuple[dict[Site, Tensor], Tensor]:
    """Run, and keep the states of ``sites`` as parts of the graph, which begins at the embedding."""
    seen: dict[Site, Tensor] = {}

    def watch(site: Site) -> Callable[[Tensor], Tensor]:
        def visit(state: Tensor) -> Tensor:
            if site == Site("resid_pre", 0):
                state = state.detach().requires_grad_()
            seen[site] = state
            return state

        return visit

    with visiting(model, {site: watch(site) for site in dict.fromkeys([Site("resid_pre", 0), *sites])}):
        final = run()
    return seen, final


def _differences(batch: Batch, final: States) -> Float[Tensor, " example"]:
    """Compute every example's logit difference where its answers part."""
    _, at, own, other = batch.parted
    scores = logits(batch.loaded.model, for_head(batch.loaded, final[at.to(final.device)]))
    each = torch.arange(len(scores), device=scores.device)
    return scores[each, own.to(scores.device)] - scores[each, other.to(scores.device)]


def _columns(
    batch: Batch,
    kept: Tensor,
    direction: str,
    cell: Cell,
    control: str,
    received: Tensor,
    given: Tensor,
    moved: Tensor,
) -> dict[str, Any]:
    there = kept.nonzero()[:, 0]
    pairs, n = [batch.pairs[i] for i in there.tolist()], int(kept.sum())
    texts = {
        "example_id": [p.example_id for p in pairs],
        "cluster": [p.cluster for p in pairs],
        "group": [p.group for p in pairs],
        "direction": [direction] * n,
        "site": [cell.site.name] * n,
        "control": [control] * n,
    }
    return {
        **{name: np.array(values, dtype=object) for name, values in texts.items()},
        "layer": np.full(n, cell.site.layer),
        "head": np.full(n, -1 if cell.head is None else cell.head),
        "received": received[there].numpy(),
        "given": given[there].numpy(),
        "patched": (received + moved)[there].numpy(),
        "other_answer": otherwise(batch, control, there),
    }
