"""Edits: what a site's state is replaced by while the model runs.

    capture(model, view, sites, edits={Site("attn_out", 2): ablate(), Site("resid_post", 5): steer(v, 4.0)})

An edit is a function from a state to a state of the same shape ``[batch, length, width]``. It is applied at every position of
every sequence, those of the shared prefix included: what a prompt gives does not depend on which prompts share its batch, and
neither does what the edit reaches. The state's columns are those of the view, so that ``view.rows`` and ``view.columns``
point at the aligned positions. Behind them come the prefix's columns, in order. At a pad the state is zero, and the edit's
result is not used. The prefix is not computed once then, since it has to be run with the edit.

:func:`patch` and :func:`at` change given places of the view only. Nothing before these places can show it, so the
prefix stays shared, which is fast.

``resid_pre(l)`` and ``resid_post(l - 1)`` are the same tensor seen from two blocks; editing the first leaves the captured
value of the second as it was. ``resid_mid`` has no module of its own to edit: a norm's input is beside the stream, which goes
on around it. So an edit there changes what attention adds: ``attn_out`` becomes ``edit(resid_pre + attn_out) - resid_pre``
after it was captured, in all backends alike.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.models.batching import Part
from cr_interp.models.layout import ViewBatch

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
    return at(rows, columns, lambda _: states)


def at(
    rows: Int[Tensor, " token"],
    columns: Int[Tensor, " token"],
    edit: Callable[[Float[Tensor, "token width"]], Float[Tensor, "token width"]],
) -> Edit:
    """Limit an edit to the given places, such as a view's aligned positions; ``edit`` gets the states there."""

    def there(state: Tensor) -> Tensor:
        changed = state.clone()
        found, where = rows.to(state.device), columns.to(state.device)
        changed[found, where] = edit(state[found, where]).to(state)
        return changed

    there.local = True  # type: ignore[attr-defined]
    return there


def is_local(edit: Edit) -> bool:
    """Tell whether an edit leaves the prefix alone."""
    return bool(getattr(edit, "local", False))


def in_columns_of(view: ViewBatch, part: Part, edits: Edits) -> Edits:
    """Translate a view's edits for a part of it that is laid out differently: each edit sees its rows where the view has them."""
    return {site: _elsewhere(site, edit, view, part) for site, edit in edits.items()}


def _elsewhere(site: Site, edit: Edit, view: ViewBatch, part: Part) -> Edit:
    batch, length = view.ids.shape
    length += 0 if part.view.prefix else len(view.prefix)
    here = part.view.mask.nonzero(as_tuple=True)
    there = part.row_of[here[0]], part.column_of[here]

    def placed(state: Tensor) -> Tensor:
        where = tuple(index.to(state.device) for index in here)
        canvas = state.new_zeros(batch, length, state.shape[-1])
        canvas[tuple(index.to(state.device) for index in there)] = state[where]
        changed = state.clone()
        changed[where] = apply(site, edit, canvas)[tuple(index.to(state.device) for index in there)]
        return changed

    return placed


def apply(site: Site, edit: Edit, state: Tensor) -> Tensor:
    """Apply an edit to a state, in the model's dtype. Refuses a result of another shape."""
    edited = edit(state)
    if not isinstance(edited, Tensor) or edited.shape != state.shape:
        found = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
        raise UserError(
            f"The edit at {site} has to return a tensor of the shape it was given, {tuple(state.shape)} (batch, length, "
            f"width); it returned {found}."
        )
    return edited.to(state)
