"""What happens at a site, whichever backend got us there.

Mental model. A backend's only job is to walk the model and, at every *stop*, call :meth:`Recorder.visit` with the
state it finds and to put back the state it is given. Editing and keeping are done here, once for all backends, which
is why they agree.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.edits import Edits, apply
from cr_interp.capture.sites import Site, order
from cr_interp.errors import NotFinite, UserError
from cr_interp.models.forward import ViewBatch


class Recorder:
    """Edits and keeps the states of one forward pass. ``stops`` are in the order in which the pass reaches them."""

    def __init__(
        self, model: nn.Module, view: ViewBatch, sites: Sequence[Site], edits: Edits, device: torch.device
    ) -> None:
        self.wanted = frozenset(sites)
        self.edits = {site: edit for site, edit in edits.items() if site.name != "resid_mid"}
        self.middle = {site.layer: edit for site, edit in edits.items() if site.name == "resid_mid"}
        around = [Site(name, layer) for layer in self.middle for name in ("resid_pre", "attn_out")]
        self.stops = sorted({*sites, *self.edits, *around}, key=order)
        self.rows, self.columns = view.rows.to(device), view.columns.to(device)
        self.shape = tuple(view.ids.shape)
        self.found: dict[Site, Float[Tensor, "token width"]] = {}
        self._before: dict[int, Tensor] = {}

    def changes(self, site: Site) -> bool:
        """Tell whether a visit of this stop may return another state than it was given."""
        return site in self.edits or (site.name == "attn_out" and site.layer in self.middle)

    def visit(self, site: Site, state: Float[Tensor, "batch length width"]) -> Tensor:
        if state.dim() != 3 or tuple(state.shape[:2]) != self.shape:
            raise UserError(
                f"At {site} this model has a state of shape {tuple(state.shape)}, not one vector for each of the {self.shape} "
                f"(batch, length) tokens: its stream cannot be read there. Take another site, or another model."
            )
        if site in self.edits:
            state = apply(site, self.edits[site], state)
        if site in self.wanted:
            rows, columns = self.rows, self.columns
            if state.device != rows.device:  # a model spread over several devices
                rows, columns = rows.to(state.device), columns.to(state.device)
            self.found[site] = state[rows, columns]
        if site.layer in self.middle:
            if site.name == "resid_pre":
                self._before[site.layer] = state
            elif site.name == "attn_out":
                before = self._before.pop(site.layer)
                middle = apply(Site("resid_mid", site.layer), self.middle[site.layer], before + state)
                state = middle - before
        return state

    def result(self, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "token width"]]:
        """Return the kept states in the order in which they were asked for.

        Raises :class:`UserError` for a site that the forward did not reach: Llama-3.2-Vision passes over some blocks on text.
        """
        if passed := [str(site) for site in sites if site not in self.found]:
            raise UserError(
                f"The model did not run {passed[0]} on this text: it passes over some of its blocks without an image. There are "
                f"no states there to look at; give a model that runs all its blocks on text."
            )
        return {site: self.found[site] for site in sites}


def check_finite(states: dict[Site, Float[Tensor, "token width"]], view: ViewBatch) -> None:
    """Raise :class:`NotFinite` naming the first site with NaN or infinity and the batch's rows that hold them."""
    if not states:
        return
    # One number per site is looked at first: a sum is finite only if everything in it is (or far beyond what
    # float32 can add up, which the closer look then clears).
    sums = torch.stack([state.sum(dtype=torch.float32).cpu() for state in states.values()])
    if bool(torch.isfinite(sums).all()):
        return
    for site in sorted(states, key=order):
        bad = ~torch.isfinite(states[site]).all(-1).cpu()
        if bool(bad.any()):
            rows = sorted(set(view.rows[bad].tolist()))
            raise NotFinite(
                f"At {site}, the states of {int(bad.sum())} of {len(bad)} tokens are not finite, in the rows "
                f"{', '.join(map(str, rows[:8]))}{' …' if len(rows) > 8 else ''} of the batch. Check the checkpoint (its "
                f"training may have diverged), or run it in float32; check_finite=False lets them through."
            )
