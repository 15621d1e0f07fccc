"""Edits: what a site's state is replaced by while the model runs.

    capture(model, view, sites, edits={Site("attn_out", 2): ablate(), Site("resid_post", 5): steer(v, 4.0)})

An edit is a function from a state to a state of the same shape ``[batch, length, width]``, applied to all rows of
what follows the shared prefix. The prefix is computed before and without edits, so an edit that should also touch
the context needs a view built with ``prefix_length=0``. Everything downstream sees the edited state, and so does
the capture of the edited site itself.

``resid_pre(l)`` and ``resid_post(l - 1)`` are the same tensor seen from two blocks; editing the first leaves the
captured value of the second as it was. ``resid_mid`` has no module of its own to edit (a norm's input is beside the
stream, which goes on around it), so an edit there changes what attention adds: ``attn_out`` becomes
``edit(resid_pre + attn_out) - resid_pre`` after it was captured, in all backends alike.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.errors import UserError

Edit = Callable[[Float[Tensor, "batch length width"]], Float[Tensor, "batch length width"]]
Edits = Mapping[Site, Edit]


def ablate(units: slice | Sequence[int] | None = None) -> Edit:
    """Zero the whole state, or some units of it (a head's slice of ``z``, say)."""

    def edit(state: Tensor) -> Tensor:
        if units is None:
            return torch.zeros_like(state)
        changed = state.clone()
        changed[..., units if isinstance(units, slice) else list(units)] = 0
        return changed

    return edit


def steer(vector: Float[Tensor, " width"], scale: float = 1.0) -> Edit:
    """Add ``scale * vector`` at every position."""

    def edit(state: Tensor) -> Tensor:
        return state + scale * vector.to(state)

    return edit


def patch(
    states: Float[Tensor, "token width"], rows: Int[Tensor, " token"], columns: Int[Tensor, " token"]
) -> Edit:
    """Put states captured elsewhere at the given places; with ``view.rows`` and ``view.columns``, the aligned
    positions of ``view`` get the states that another view had there."""

    def edit(state: Tensor) -> Tensor:
        changed = state.clone()
        changed[rows.to(state.device), columns.to(state.device)] = states.to(state)
        return changed

    return edit


def apply(site: Site, edit: Edit, state: Tensor) -> Tensor:
    """The edited state, in the model's dtype; refuses another shape."""
    edited = edit(state)
    if not isinstance(edited, Tensor) or edited.shape != state.shape:
        found = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
        raise UserError(
            f"The edit at {site} has to return a tensor of the shape it was given, {tuple(state.shape)} (batch, length, "
            f"width); it returned {found}."
        )
    return edited.to(state)
